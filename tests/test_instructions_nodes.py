"""Write Instructions and Filter Pairs as nodes, outside ComfyUI."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from emu_edit.core.pairs.records import Candidate, Instruction
from emu_edit.nodes import filters as filters_module
from emu_edit.nodes import host
from emu_edit.nodes import instructions as instructions_module
from emu_edit.nodes.filters import FilterPairs, ranked
from emu_edit.nodes.host import NodeError
from emu_edit.nodes.instructions import ALL_TASKS, EVERYDAY, LOCAL, SERVER, WORLD, WriteInstructions

CAPTIONS = "a red ball and a blue cup on a beach\n\na green tree in a meadow at night\n"
WRITE = {
    "captions": CAPTIONS,
    "task": ALL_TASKS,
    "count": 16,
    "seed": 0,
    "backend": WORLD,
    "server": "http://127.0.0.1:9/v1",
    "server_model": "m",
    "key_variable": "",
    "local_model": "none",
    "timeout": 1.0,
    "tries": 1,
    "price_in": 0.0,
    "price_out": 0.0,
}
LIMITS = {
    "clip_image": 0.7,
    "clip_text": 0.2,
    "clip_direction": 0.2,
    "depth": 0.1,
    "outside": 0.05,
    "changed": 0.005,
    "detector_threshold": 0.3,
    "lettering": 0.8,
    "reassign": True,
    "keep": 0,
    "depth_model": "none",
    "reader": "none",
}


def write(**changes):
    return WriteInstructions().write(**{**WRITE, **changes})


def test_rules_write_lines_a_table_and_a_report():
    lines, table, report, count = write()
    rows = [Instruction.from_json(json.loads(line)) for line in lines.splitlines()]
    assert len(rows) == count > 8 and len({row.task for row in rows}) > 6
    assert table.count("\n") == count + 1 and table.startswith("| task | instruction |")
    assert report.startswith(f"grammar, world words: {count} written")
    assert report.count("\ndropped: ") == 16 - count
    assert write()[0] == lines and write(seed=1)[0] != lines
    assert {json.loads(line)["task"] for line in write(task="style", backend=EVERYDAY)[0].splitlines()} == {
        "style"
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"captions": " \n "}, "captions"),
        ({"backend": SERVER, "server": "http://api.example.com/v1"}, "EMU_EDIT_SERVERS"),
        ({"backend": SERVER, "server": "http://[x/v1"}, "EMU_EDIT_SERVERS"),
        ({"backend": SERVER, "key_variable": "OPENAI_API_KEY"}, "EMU_EDIT_API_KEY"),
        ({"backend": SERVER, "key_variable": "EMU_EDIT_SERVERS"}, "not allowed"),
        ({"backend": LOCAL}, "models/LLM"),
        ({"backend": LOCAL, "local_model": "../../secret"}, "is not there"),
    ],
)
def test_slips_are_told_before_and_while_running(changes, says):
    told = {**WRITE, **changes}
    asked = {k: told[k] for k in ("captions", "backend", "server", "key_variable", "local_model")}
    assert says in str(WriteInstructions.VALIDATE_INPUTS(**asked))
    with pytest.raises(NodeError, match="^Write Instructions: ") as problem:
        write(**changes)
    assert says in str(problem.value)


def test_a_listed_server_is_allowed(monkeypatch):
    monkeypatch.setenv("EMU_EDIT_SERVERS", "other.host, gpu-box")
    instructions_module.check_server("http://gpu-box:8000/v1", "EMU_EDIT_API_KEY")
    assert WriteInstructions.VALIDATE_INPUTS(captions=None, backend=None) is True


def test_a_server_that_is_away_stops_the_node_or_gives_what_there_is(monkeypatch):
    with pytest.raises(NodeError, match="gave no answer for 5 orders in turn"):
        write(backend=SERVER)

    class Fading:
        name, writes_objects, left = "fading", False, 3

        def answer(self, request):
            from emu_edit.core.pairs.instructions.backend import Trouble
            from emu_edit.core.pairs.instructions.grammar import Grammar

            self.left -= 1
            if self.left < 0:
                raise Trouble("gone")
            return Grammar("world").answer(request)

    monkeypatch.setattr(WriteInstructions, "_backend", staticmethod(lambda *a: Fading()))
    lines, _, report, count = write(count=40, task="style")
    assert count == len(lines.splitlines()) <= 3 and count
    assert report.startswith("Stopped after 8 of 40: instructions: fading gave no answer")


def test_the_write_node_shows_progress_and_can_be_interrupted(monkeypatch):
    shown = []
    bar = SimpleNamespace(update_absolute=lambda done, total, preview: shown.append((done, total)))
    monkeypatch.setattr(host, "comfy_utils", SimpleNamespace(ProgressBar=lambda total: bar))
    write(count=3)
    assert shown == [(1, 3), (2, 3), (3, 3)]

    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    monkeypatch.setattr(host, "stop_if_interrupted", stop)
    with pytest.raises(Stopped):
        FilterPairs().judge(**LIMITS, pairs=pairs())


def test_local_models_are_found(monkeypatch, tmp_path):
    for place in ("LLM/chat", "LLM/maker/other", "elsewhere/x"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text("{}")
    monkeypatch.setattr(host, "folder_paths", SimpleNamespace(models_dir=str(tmp_path)))
    assert list(instructions_module.local_models()) == ["LLM/chat", "LLM/maker/other"]
    depth = tmp_path / "emu_edit_filters" / "deep"
    depth.mkdir(parents=True)
    (depth / "config.json").write_text('{"architectures": ["DPTForDepthEstimation"]}')
    (tmp_path / "emu_edit_filters" / "broken").mkdir()
    (tmp_path / "emu_edit_filters" / "broken" / "config.json").write_text("{")
    assert list(filters_module.models(filters_module.DEPTH)) == ["emu_edit_filters/deep"]
    assert filters_module.models(filters_module.READER) == {}


# --- filters


def words(task="local", told="turn the red ball into a blue cup"):
    return Instruction(task, told, "a red ball", "a blue cup", "red ball", "blue cup")


def pictures(count=3, size=8):
    source = torch.full((count, size, size, 3), 0.25)
    target = source.clone()
    target[:, :, : size // 2] += 0.5
    target[-1, :, size // 2 :] += 0.3  # the last one spills over
    mask = torch.zeros(1, size, size)
    mask[..., : size // 2] = 1
    return source, target, mask


def pairs():
    source, target, mask = pictures()
    return [
        Candidate(
            s, t, words(), k, mask_kind="precise", masks={"precise": mask[0]}, metadata={"made": "here"}
        )
        for k, (s, t) in enumerate(zip(source, target, strict=True))
    ]


def test_pairs_and_pictures_are_judged_alike():
    source, target, mask = pictures()
    lines = json.dumps(words().to_json())
    one = FilterPairs().judge(**LIMITS, pairs=pairs())
    other = FilterPairs().judge(**LIMITS, source=source, target=target, mask=mask, instructions=lines)
    for first, second in zip(one[1:4], other[1:4], strict=True):
        assert torch.equal(first, second) and len(first) == 2
    assert one[4:] == other[4:] and one[7] == 2
    assert torch.equal(one[2], target[:2]) and torch.equal(one[3], mask.expand(2, -1, -1))
    assert "pair 3 (local): outside: too much changed outside the mask" in one[6]
    scores = [json.loads(line) for line in one[5].splitlines()]
    assert [row["kept"] for row in scores] == [True, True, False]
    assert one[0][0].metadata["made"] == "here" and one[0][0].metadata["verdict"]["kept"]


def test_reassignment_keeping_the_best_and_nothing_kept():
    told = [words(told="remove the red ball from the picture"), words(), words()]
    source, target, mask = pictures()
    target[0, :, 4:] += 0.01
    named = {"source": source, "target": target, "mask": mask}
    lines = json.dumps([one.to_json() for one in told])
    kept = FilterPairs().judge(**LIMITS, **named, instructions=lines)
    assert [json.loads(line)["task"] for line in kept[4].splitlines()] == ["remove", "local"]
    plain = FilterPairs().judge(**{**LIMITS, "reassign": False}, **named, instructions=lines)
    assert [json.loads(line)["task"] for line in plain[4].splitlines()] == ["local", "local"]
    assert "task" not in plain[5].split('"scores"')[1].split("changed")[0]
    best = FilterPairs().judge(**{**LIMITS, "keep": 1}, **named, instructions=json.dumps(words().to_json()))
    assert best[7] == 1 and "others of its instruction rank higher" in best[6]
    assert torch.equal(best[2][0], target[1])  # less changed outside than in the first
    none = FilterPairs().judge(**{**LIMITS, "changed": 0.9}, **named, instructions=lines)
    assert none[7] == 0 and none[1].shape == (0, 8, 8, 3) and none[3].shape == (0, 8, 8)


def test_kept_pairs_stand_in_their_instructions_order():
    from emu_edit.core.pairs.records import Verdict

    several = pairs()[:2]
    verdicts = [Verdict("local", True, rank=0.1), Verdict("local", True, rank=0.5)]
    assert ranked(several, verdicts, 0) == [1, 0] and ranked(several, verdicts, 1) == [1]


@pytest.mark.parametrize(
    ("wires", "says"),
    [
        ({}, "neither pairs nor both source and target"),
        ({"pairs": []}, "there are no pairs to judge"),
        ({"instructions": ""}, "instructions: there are none"),
        ({"instructions": "make it blue"}, "no JSON objects"),
        ({"instructions": '{"task": "local"}'}, "'instruction' is missing"),
        ({"instructions": "\n".join([json.dumps(words().to_json())] * 2)}, "there are 2 for 3 pairs"),
        ({"target": pictures(2)[1]}, "3 sources and 2 targets"),
    ],
)
def test_wrong_wires_are_told(wires, says):
    source, target, _ = pictures()
    given = {"instructions": json.dumps(words().to_json()), "source": source, "target": target, **wires}
    with pytest.raises(NodeError, match="^Filter Pairs") as problem:
        FilterPairs().judge(**LIMITS, **(wires if not wires or "pairs" in wires else given))
    assert says in str(problem.value)


def test_a_model_that_is_not_there_is_told():
    with pytest.raises(NodeError, match="'x/y' is not among the models found"):
        FilterPairs().judge(**{**LIMITS, "depth_model": "x/y"}, pairs=pairs())
