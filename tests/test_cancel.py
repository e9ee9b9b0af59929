"""Cancel in Filter Pairs and Write Instructions: heeded at once, and nothing runs on behind it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from test_instructions_nodes import LIMITS, pictures, words
from test_pair_filters import IN, Detector, Reader, candidate
from toy_models import toy_backbone, toy_tokenizer

from emu_edit.core.masks.painted import EditorSource
from emu_edit.core.pairs.filters.base import Finding, Poll
from emu_edit.core.pairs.filters.judge import judge_all
from emu_edit.core.pairs.filters.lettering import LetteringFilter
from emu_edit.core.pairs.filters.presence import PresenceFilter
from emu_edit.core.pairs.instructions import agent
from emu_edit.core.pairs.instructions.backend import Answer
from emu_edit.core.pairs.instructions.local_model import LocalModel
from emu_edit.core.pairs.instructions.write import Order, Writer, WriteSettings
from emu_edit.core.pairs.records import Candidate, Score
from emu_edit.nodes import host
from emu_edit.nodes.filters import FilterPairs

CAPTION = "a red ball and a blue cup on a beach"
PATIENCE = 10.0  # seconds after which a test that hangs goes on and fails


class Stopped(Exception):
    """Like ComfyUI's own: an ordinary Exception, and no EmuEditError."""


class Button:
    """Cancel. As in ComfyUI, who asks takes the flag back: it raises but once."""

    pressed = False

    def press(self, *_) -> None:
        self.pressed = True

    def ask(self) -> None:
        if self.pressed:
            self.pressed = False
            raise Stopped


def candidates(count: int = 3, size: int = 64, task: str = "local") -> list[Candidate]:
    source, target, _ = pictures(count, size)
    return [Candidate(s, t, words(task), k) for k, (s, t) in enumerate(zip(source, target, strict=True))]


# --- Filter Pairs


def test_the_bundled_editor_as_a_detector_stops_between_two_steps(monkeypatch):
    button, editor, calls = Button(), toy_backbone(task_width=12), []

    def called(*_):
        calls.append(1)
        if len(calls) == 2:
            button.press()

    editor.unet.register_forward_hook(called)
    monkeypatch.setattr(host, "stop_if_interrupted", button.ask)
    with pytest.raises(Stopped):
        FilterPairs().judge(**LIMITS, pairs=candidates(), detector=EditorSource(editor))
    assert len(calls) <= 3  # of three pairs with two looks of four steps each


@pytest.mark.parametrize("kind", ["detector", "reader"])
def test_a_slow_model_stops_between_two_candidates(kind):
    button, looks = Button(), []

    class Finds(Detector):
        def detect(self, *rest):
            looks.append(1)
            button.press()
            return super().detect(*rest)

    class Reads(Reader):
        def read(self, picture):
            looks.append(1)
            button.press()
            return super().read(picture)

    each = (
        PresenceFilter(Finds({}, {"blue cup": (IN, 0.5)})) if kind == "detector" else LetteringFilter(Reads())
    )
    some = candidates(4, 8, "add" if kind == "detector" else "text")
    with pytest.raises(Stopped):
        judge_all(some, [each], poll=Poll(button.ask))
    assert len(looks) == 1


def test_a_filters_own_fault_is_told_and_a_stop_inside_it_goes_through():
    button = Button()
    poll = Poll(button.ask)

    class Moody:
        name = "moody"

        def look(self, some):
            if any(one.index == 1 for one in some):
                raise RuntimeError("out of memory")
            poll()
            return [Finding((Score("moody", 1.0, 0.5, True),)) for _ in some]

    class Wraps(Moody):
        def look(self, some):
            try:
                return super().look(some)
            except Stopped as stop:
                raise ValueError("a library's own words") from stop

    many = [candidate(index=k) for k in range(3)]
    judged = judge_all(many, [Moody()], poll=poll)
    assert [one.kept for one in judged] == [True, False, True] and "out of memory" in judged[1].reason
    for kind in (Moody, Wraps):
        seen = []

        class Presses(kind):
            def look(self, some, seen=seen):
                seen.append(1)
                button.press()
                return super().look(some)

        with pytest.raises(Stopped):
            judge_all([many[0], many[2]], [Presses()], poll=poll)
        assert seen == [1]


# --- Write Instructions


def join_workers(before: set[threading.Thread]) -> None:
    """Wait for the threads that were not there `before`."""
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def cancelled(backend, begun: threading.Event, go: threading.Event, **settings) -> None:
    """Write until the backend has `begun`, press Cancel, let it `go` on, and wait until all is quiet."""

    def poll():
        if begun.is_set():
            raise Stopped

    before = set(threading.enumerate())
    todo = [Order(CAPTION, "local", seed) for seed in range(4)]
    writer = Writer(backend, WriteSettings(**settings), sleep=lambda s: None, poll=poll)
    with pytest.raises(Stopped):
        list(writer.stream(todo))
    go.set()
    join_workers(before)


def test_after_a_cancel_nothing_is_asked_again():
    begun, go, asked = threading.Event(), threading.Event(), []

    def answer(request):
        asked.append(request.seed)
        begun.set()
        go.wait(PATIENCE)
        return Answer("this is no JSON")

    backend = SimpleNamespace(name="slow", writes_objects=False, answer=answer)
    cancelled(backend, begun, go, tries=5)
    assert len(asked) == 1


def toy_model(longest: int = 200) -> LocalModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = toy_tokenizer()
    tokenizer.model_max_length = 100000
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(tokenizer), "n_positions": 4096}
    model = GPT2LMHeadModel(GPT2Config(**size, eos_token_id=None, bos_token_id=None))
    return LocalModel(model, tokenizer, "toy", longest=longest)


def test_after_a_cancel_a_local_model_writes_no_further_token():
    model, begun, go, calls = toy_model(), threading.Event(), threading.Event(), []

    def called(*_):
        calls.append(1)
        if len(calls) == 3:
            begun.set()
            go.wait(PATIENCE)

    model.model.register_forward_hook(called)
    before = torch.random.get_rng_state()
    cancelled(model, begun, go, tries=3)
    assert len(calls) == 3
    assert torch.equal(before, torch.random.get_rng_state())


def test_two_threads_in_one_model_answer_as_one_after_the_other_and_leave_the_dice_alone():
    first = toy_model(6)
    second = LocalModel(first.model, first.tokenizer, "another", longest=6)  # the dice are the process's
    requests = [agent.request("local", CAPTION, seed) for seed in (1, 2)]
    alone = [first.answer(requests[0]), second.answer(requests[1])]
    inside, both, done = threading.Event(), threading.Event(), threading.Event()
    waited: set[int] = set()

    def called(*_):
        if threading.get_ident() in waited:
            return
        waited.add(threading.get_ident())
        if not inside.is_set():
            inside.set()
            both.wait(0.3)  # in vain where the second has to wait
        else:
            both.set()
            done.wait(0.3)

    first.model.register_forward_hook(called)
    found: dict[str, Answer] = {}

    def ask(model, request):
        found[model.name] = model.answer(request)
        done.set()

    before = torch.random.get_rng_state()
    threads = [
        threading.Thread(target=ask, args=pair) for pair in zip((first, second), requests, strict=True)
    ]
    threads[0].start()
    assert inside.wait(PATIENCE)
    threads[1].start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [found["toy"], found["another"]] == alone
    assert torch.equal(before, torch.random.get_rng_state())
