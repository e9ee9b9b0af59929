"""Inspect Pair's browser: what is drawn and written, and what it shows of long lists; outside ComfyUI."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_pair_nodes import comfy, fake_pairs  # noqa: F401

from emu_edit.core.pairs import sheet
from emu_edit.nodes import host, pair_sheet
from emu_edit.nodes.pair_sheet import InspectPair


@pytest.fixture
def drawn(monkeypatch):
    """Numbers of the candidates whose sheets were drawn."""
    numbers, real = [], sheet.pair_sheet

    def draw(one, *rest):
        numbers.append(one.index)
        return real(one, *rest)

    monkeypatch.setattr(sheet, "pair_sheet", draw)
    return numbers


def ui(several, candidate=1, words="", tile=64):
    return InspectPair().inspect(several, candidate, words, tile)["ui"]


def test_a_second_run_draws_the_picked_one_only_and_writes_nothing(comfy, drawn):  # noqa: F811
    several = fake_pairs()
    first = ui(several)
    files = {path.name: path.stat().st_mtime_ns for path in (comfy / "temp").iterdir()}
    assert len(files) == 6 and drawn == [0, 1, 2]
    drawn.clear()
    second = ui(several, 3)
    assert drawn == [2] and second["emu_edit_sheets"] == first["emu_edit_sheets"]
    assert {path.name: path.stat().st_mtime_ns for path in (comfy / "temp").iterdir()} == files


@pytest.mark.parametrize("what", ["words", "tile", "source", "mask", "map", "seed", "verdict"])
def test_what_is_drawn_otherwise_has_another_name(comfy, what):  # noqa: F811
    one = fake_pairs(1)[0]
    before = ui([one])["emu_edit_sheets"]
    options = {"words": {"words": "ball"}, "tile": {"tile": 96}}.get(what, {})
    changed = {
        "source": {"source": one.source.flip(0)},
        "mask": {"masks": {**one.masks, "soft": torch.zeros(16, 16)}},
        "map": {"maps": {"ball": torch.rand(4, 4)}},
        "seed": {"seed": 9},
        "verdict": {"metadata": {}},
    }.get(what, {})
    assert ui([replace(one, **changed)], **options)["emu_edit_sheets"] != before


def test_beyond_the_listed_ones_the_picked_sheet_is_sent(comfy, monkeypatch):  # noqa: F811
    steps, told = [], []
    bar = SimpleNamespace(update_absolute=lambda done, total, preview: steps.append((done, total)))
    monkeypatch.setattr(host, "comfy_utils", SimpleNamespace(ProgressBar=lambda total: bar))
    monkeypatch.setattr(host, "remark", told.extend)
    monkeypatch.setattr(pair_sheet, "MOST_SHOWN", 2)
    several = fake_pairs(4)
    sent = ui(several, 4)
    assert len(sent["emu_edit_sheets"]) == len(sent["emu_edit_strips"]) == 2 and steps == [(1, 2), (2, 2)]
    (beyond,) = sent["emu_edit_beyond"]
    assert beyond not in sent["emu_edit_sheets"] and sent["emu_edit_picked"] == [3]
    assert (comfy / "temp" / beyond["filename"]).is_file()
    assert told == ["Of 4 pairs the first 2 are shown; type another's number and run."]
    assert ui(several, 2)["emu_edit_beyond"] == [] and ui([], 1)["emu_edit_beyond"] == []


# As much of a browser as candidates.js touches.
PAGE = """
const parts = {};
const part = () => ({ attributes: {}, children: [], dataset: {}, style: {}, addEventListener() {},
  setAttribute(name, value) { this.attributes[name] = value; }, append() {},
  replaceChildren(...all) { this.children = all; } });
globalThis.document = { createElement: () => Object.assign(part(), {
  attachShadow: () => ({ querySelector: (name) => (parts[name] ??= part()) }) }) };
export const app = { registerExtension: (extension) => (app.extension = extension) };
export const api = { apiURL: (path) => path };
"""
RUN = """
import { app } from "./scripts/app.js";
import "./extensions/emu-edit/js/candidates.js";
const number = { name: "candidate", value: 4 };
const node = { comfyClass: "EmuEditInspectPair", widgets: [number], size: [1, 1], setSize() {},
  addDOMWidget: (name, type, element) => ({ element }) };
app.extension.nodeCreated(node);
const state = () => ({ sheet: app.parts[".sheet"].hidden ? null : app.parts[".sheet"].src,
  marked: app.parts[".list"].children.map((one) => one.attributes["aria-selected"]) });
const seen = [];
for (const step of JSON.parse(process.argv[2])) {
  if (typeof step === "number") number.callback(step);
  else node.onExecuted(step);
  seen.push(state());
}
console.log(JSON.stringify(seen));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run the script with")
def test_the_browser_shows_a_sheet_beyond_those_listed(tmp_path, root):
    own = tmp_path / "extensions/emu-edit/js"
    shutil.copytree(root / "web/js", own)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/app.js").write_text(PAGE + "app.parts = parts;\n")
    (tmp_path / "scripts/api.js").write_text('export { api } from "./app.js";\n')
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(RUN)
    files = [{"filename": f"{k}.png"} for k in range(4)]
    output = {
        "emu_edit_sheets": files[:2],
        "emu_edit_strips": files[:2],
        "emu_edit_labels": ["a", "b"],
        "emu_edit_picked": [3],
        "emu_edit_beyond": files[3:],
    }
    older = {name: output[name] for name in output if name != "emu_edit_beyond"} | {"emu_edit_picked": [1]}
    steps = [output, 2, 3, 4, older, 4]
    told = subprocess.run(
        ["node", "run.js", json.dumps(steps)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    sheets = [one["sheet"] and one["sheet"].removeprefix("/view?filename=") for one in seen]
    # Candidate 3 was not sent, so typing it changes nothing until the next run.
    assert sheets == ["3.png", "1.png", "1.png", "3.png", "1.png", "1.png"]
    assert seen[0]["marked"] == ["false", "false"] and seen[1]["marked"] == ["false", "true"]
