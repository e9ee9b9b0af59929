"""Make Pair where memory is short, something breaks, or a list is long; outside ComfyUI."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from interruption import Stopped
from test_lent_models import Manager
from test_pair_nodes import WORDS, Finder, control, make, square
from torch import nn
from toy_models import toy_backbone

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import by_hand
from emu_edit.core.pairs.pair_settings import PairSettings
from emu_edit.core.pairs.recipes import table
from emu_edit.core.pairs.records import Instruction
from emu_edit.nodes import detectors, host, pair_work
from emu_edit.nodes.host import NodeError


@pytest.fixture(scope="module")
def model():
    return toy_backbone(in_channels=4)


def listed(count, task="local"):
    rows = [
        Instruction(task, f"{k}", "a red ball", "a blue ball", "red ball", "blue ball") for k in range(count)
    ]
    return "\n".join(json.dumps(row.to_json()) for row in rows)


def test_each_of_the_two_models_is_resident_when_it_runs(monkeypatch):
    """On a card that holds one of them."""
    manager, own, seen = Manager(), toy_backbone(in_channels=4), []
    monkeypatch.setattr(host, "comfy_patcher", manager)
    monkeypatch.setattr(host, "comfy_memory", manager)

    class Lent(Finder):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(2, 2)

        def detect(self, *rest):
            seen.append(("finder", any(module is self.model for module in manager.on)))
            return super().detect(*rest)

    finder = Lent()
    host.manage(own, torch.device("cpu"))
    monkeypatch.setitem(
        detectors._handles, finder, SimpleNamespace(modules=nn.ModuleList([finder.model]), load_device="cpu")
    )
    own.unet.register_forward_pre_hook(
        lambda *_: seen.append(("unet", any(module is own.unet for module in manager.on)))
    )
    assert make(own, instructions=listed(2), detector=finder, candidates=2)[-1] == 12
    assert {name for name, _ in seen} == {"finder", "unet"} and all(resident for _, resident in seen)
    manager.on, seen[:] = [], []
    make(own, soft=square(), detector=finder)
    assert seen and all(told == ("unet", True) for told in seen)


def breaks(monkeypatch, module, name, at, problem):
    """The `at`-th call of module.name raises."""
    real, calls = getattr(module, name), []

    def called(*rest, **options):
        calls.append(1)
        if len(calls) == at:
            raise problem
        return real(*rest, **options)

    monkeypatch.setattr(module, name, called)


def test_one_instruction_that_breaks_leaves_the_others(model, monkeypatch, caplog):
    breaks(monkeypatch, table, "candidates", 2, RuntimeError("out of memory\nand so on"))
    *_, report, count = make(model, instructions=listed(3), detector=Finder())
    assert count == 6 and "local, '1': none: RuntimeError: out of memory" in report.splitlines()
    assert "Traceback" in caplog.text and "met a fault" in caplog.text
    breaks(monkeypatch, table, "candidates", 1, RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):  # as it came: ComfyUI knows what to do about it
        make(model, instructions=listed(1), detector=Finder())
    breaks(monkeypatch, table, "candidates", 1, EmuEditError("nothing fits"))
    with pytest.raises(NodeError, match="no pair came of 1 instructions.*nothing fits"):
        make(model, instructions=listed(1), detector=Finder())


def test_a_try_by_hand_that_breaks_leaves_those_before_it(model, monkeypatch):
    breaks(monkeypatch, by_hand, "generate_pair", 2, RuntimeError("out of memory"))
    *_, report, count = make(model, candidates=3)
    assert count == 1
    assert "Try 2 of 3 failed, and none was made after it: RuntimeError: out of memory" in report
    breaks(monkeypatch, by_hand, "generate_pair", 1, RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        make(model)


@pytest.mark.parametrize("by", ["poll", "bar"])
@pytest.mark.parametrize("recipes", [False, True])
def test_a_stop_is_no_fault(model, monkeypatch, by, recipes):
    """Pressed in the last instruction or try. ComfyUI takes the wish back as it raises; its bar asks too."""
    asked: list[int] = []

    def ask(*_):
        asked.append(1)
        if len(asked) == (6 if recipes else 3):
            raise Stopped

    bar = SimpleNamespace(update_absolute=ask if by == "bar" else lambda *_: None)
    memory = SimpleNamespace(throw_exception_if_processing_interrupted=ask if by == "poll" else lambda: None)
    if by == "bar":
        memory.InterruptProcessingException = Stopped
    monkeypatch.setattr(host, "comfy_memory", memory)
    monkeypatch.setattr(host, "comfy_utils", SimpleNamespace(ProgressBar=lambda total: bar))
    with pytest.raises(Stopped):
        make(model, **({"instructions": listed(2), "detector": Finder()} if recipes else {"candidates": 2}))


def test_more_pictures_than_memory_holds_are_refused_before_anything_is_made(model, monkeypatch):
    size = 2 * 3 * 4 * 64 * 64
    breaks(monkeypatch, by_hand, "generate_pair", 1, AssertionError("it began"))
    with pytest.raises(NodeError) as slip:
        make(model, size=2048, candidates=64, soft=square(), box=square())
    assert "1 instruction with 64 candidates each" in str(slip.value) and "build_pairs" in str(slip.value)
    assert "128 pairs of 2048 x 2048 pixels, 12.0 GB of pictures where one run holds 4;" in str(slip.value)

    monkeypatch.setattr(pair_work, "MOST_BYTES", 6 * size)
    assert make(model, instructions=listed(2), detector=Finder())[-1] == 6
    with pytest.raises(NodeError, match="3 instructions with 1 candidates each.* up to 9 pairs of 64 x 64"):
        make(model, instructions=listed(3), detector=Finder())
    assert make(model, instructions=listed(6, "global"))[-1] == 6  # of which a try makes one
    unable = listed(3) + "\n" + listed(6, "global")  # without a detector local cannot be made
    assert make(model, instructions=unable)[-1] == 6


def test_a_window_without_a_step_is_refused_before_anything_is_made(model):
    narrow = "blue: 0.55-0.95"
    said = "'blue', 0.55 to 0.95, holds none of the 2 steps; widen it, or take more steps"
    with pytest.raises(NodeError, match=said):
        make(model, control=control(word_windows=narrow), steps=2)
    assert make(model, control=control(word_windows=narrow), steps=3)[-1]
    assert make(model, control=control(word_windows="blue: 0"), steps=2)[-1]  # never, on purpose
    assert make(model, control=control(word_windows=narrow, enabled=False), steps=2)[-1]
    # What was recorded with such a window can be made again.
    stored = PairSettings(steps=2, word_windows={"blue": (0.55, 0.95)}).to_json()
    assert PairSettings.from_json(stored).word_windows == {"blue": (0.55, 0.95)}


def test_neighbouring_seeds_share_no_try(model):
    tries = [{one.seed for one in make(model, candidates=4, seed=seed)[0]} for seed in (0, 1, 2)]
    assert all(seed in some and len(some) == 4 for seed, some in enumerate(tries))
    assert len(set.union(*tries)) == 12 and max(set.union(*tries)) < pair_work.SEEDS
    second = make(model, candidates=2)[0][1]
    assert torch.equal(make(model, seed=second.seed)[0][0].target, second.target)


def test_boxes_may_be_empty_where_instructions_are_wired(model):
    from emu_edit.nodes.pairs import MakePair

    empty = {"instruction": "", "source_caption": " ", "target_caption": ""}
    check = getattr(MakePair, "VALIDATE_INPUTS", None)
    assert check is None or check(**empty) is True  # or ComfyUI would not let the node run
    assert make(model, **empty, instructions=listed(1, "global"))[-1] == 1
    for name in empty:
        with pytest.raises(NodeError, match=f"^Make Pair: {name} is empty; write it in a sentence.$"):
            make(model, **{name: " "})


def test_words_that_no_caption_holds_keep_no_map_and_are_told(model):
    pairs, *_, report, _ = make(model, words="ball, bal")
    assert list(pairs[0].maps) == ["ball"] and "No caption holds 'bal', so no map was kept." in report
    both = "\n".join(
        json.dumps(row.to_json())
        for row in (WORDS, Instruction("global", "night", "a sky", "a sky at night", "", ""))
    )
    pairs, *_, report, _ = make(model, instructions=both, detector=Finder(), words="ball,night,moon")
    assert [list(one.maps) for one in pairs] == [["ball"]] * 3 + [["night"]]
    assert "No caption holds 'moon'," in report
