"""Every shipped workflow against the schemas: types, wires, widget values, layout, API twin, thumbnail.

tests/comfy_nodes.json holds what ComfyUI 0.3.64 says of the core nodes that templates use.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from emu_edit.nodes import NODE_CLASS_MAPPINGS

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
CORE = json.loads((Path(__file__).parent / "comfy_nodes.json").read_text(encoding="utf-8"))
NOTES = ("MarkdownNote", "Note")  # exist in the browser only
TITLE = 30
CONTROLS = ("fixed", "increment", "decrement", "randomize")
workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def inputs_of(kind: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> (type, options with "optional") of every input of a node type, in order."""
    if kind in CORE:
        return {name: (spec[0], spec[1]) for name, spec in CORE[kind]["inputs"].items()}
    schema = NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
    return {
        name: (spec[0], spec[1] | {"optional": part == "optional"})
        for part in ("required", "optional")
        for name, spec in schema.get(part, {}).items()
    }


def outputs_of(kind: str) -> list[tuple[str, str]]:
    """(type, name) of every output of a node type."""
    if kind in CORE:
        return [tuple(pair) for pair in CORE[kind]["outputs"]]
    node = NODE_CLASS_MAPPINGS[kind]
    return list(zip(node.RETURN_TYPES, node.RETURN_NAMES, strict=True))


def is_widget(spec: tuple[Any, dict[str, Any]]) -> bool:
    """Whether the browser shows an input as something to fill in."""
    kind, options = spec
    fillable = isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return fillable and not options.get("forceInput")


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    """The values in the boxes of a node by name; checks that there are as many as the schema says."""
    names = []
    for name, spec in inputs_of(node["type"]).items():
        if is_widget(spec):
            names.append(name)
            # What the browser adds by itself and saves after the value.
            if spec[1].get("control_after_generate"):
                names.append(f"{name} (control)")
            if spec[1].get("image_upload"):
                names.append(f"{name} (upload)")
    values = node.get("widgets_values", [] if names == [] else None)
    assert values is not None and len(values) == len(names), (node["type"], names, values)
    return dict(zip(names, values, strict=True))


def check_value(where: str, spec: tuple[Any, dict[str, Any]], value: Any) -> None:
    kind, options = spec
    if isinstance(kind, list):
        assert not kind or value in kind, f"{where}: {value!r} is not in the menu"
    elif kind in ("INT", "FLOAT"):
        assert type(value) is int or (kind == "FLOAT" and type(value) is float), where
        assert options.get("min", value) <= value <= options.get("max", value), f"{where}: {value}"
    elif kind == "BOOLEAN":
        assert isinstance(value, bool), where
    elif kind == "STRING":
        assert isinstance(value, str), where


def as_api(graph: dict[str, Any]) -> dict[str, Any]:
    """What the browser sends for this graph, without titles."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] in NOTES:
            continue
        values = {} if node["type"] == "PreviewAny" else widget_values(node)
        inputs = {name: value for name, value in values.items() if not name.endswith(")")}
        inputs |= {i["name"]: sources[i["link"]] for i in node["inputs"] if i.get("link") is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def test_there_are_workflows():
    assert {"edit_by_instruction", "three_turns"} <= {path.stem for path in WORKFLOWS}
    assert {p.name for p in (ROOT / "workflows" / "api").glob("*.json")} == {p.name for p in WORKFLOWS}


@workflows
def test_nodes_are_as_their_schemas_say(path):
    graph = read(path)
    ids = [node["id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids) and max(ids) <= graph["last_node_id"]
    for node in graph["nodes"]:
        kind, where = node["type"], f"{node['id']} {node['type']}"
        if kind in NOTES:
            assert node["widgets_values"][0].strip()
            continue
        assert kind in CORE or kind in NODE_CLASS_MAPPINGS, f"{where}: unknown node type"
        schema = inputs_of(kind)
        extra = {"preview", "previewMode"} if kind == "PreviewAny" else set()
        named = {i["name"]: i for i in node["inputs"]}
        assert set(named) - extra <= set(schema), where
        for name, slot in named.items():
            if name in schema and not isinstance(schema[name][0], list):
                assert slot["type"] == schema[name][0], f"{where}.{name}"
        for name, spec in schema.items():
            if not is_widget(spec) and not spec[1].get("optional"):
                assert named[name]["link"] is not None, f"{where}.{name} is required"
        assert [(o["type"], o["name"]) for o in node["outputs"]] == outputs_of(kind), where
        if kind != "PreviewAny":  # how many boxes it shows differs between versions of the browser
            for name, value in widget_values(node).items():
                if name.endswith("(control)"):
                    assert value in CONTROLS
                elif not name.endswith(")"):
                    check_value(f"{where}.{name}", schema[name], value)


@workflows
def test_wires_have_two_ends_of_one_type(path):
    graph = read(path)
    nodes = {node["id"]: node for node in graph["nodes"]}
    ids = [link[0] for link in graph["links"]]
    assert len(set(ids)) == len(ids) and max(ids) <= graph["last_link_id"]
    for link, source, out, target, slot, kind in graph["links"]:
        output, taken = nodes[source]["outputs"][out], nodes[target]["inputs"][slot]
        assert link in output["links"] and taken["link"] == link
        assert kind in (output["type"], "*") and taken["type"] in (output["type"], "*")
    held = [i["link"] for node in nodes.values() for i in node.get("inputs", []) if i.get("link") is not None]
    given = [k for node in nodes.values() for o in node.get("outputs", []) for k in o["links"] or []]
    assert sorted(held) == sorted(given) == sorted(ids)


@workflows
def test_layout_is_tidy(path):
    graph = read(path)
    boxes = []
    for node in graph["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes.append((f"{node['id']} {node['type']}", x, y - TITLE, x + width, y + height))
    for (a, *p), (b, *q) in itertools.combinations(boxes, 2):
        apart = p[2] <= q[0] or q[2] <= p[0] or p[3] <= q[1] or q[3] <= p[1]
        assert apart, f"{a} covers {b}"
    assert any(node["type"] in NOTES for node in graph["nodes"]), "no note says what to do"


@workflows
def test_api_twin_is_the_same_graph(path):
    twin = read(path.parent / "api" / path.name)
    plain = {key: {k: v for k, v in node.items() if k != "_meta"} for key, node in twin.items()}
    assert plain == as_api(read(path))


def test_thumbnails_are_contact_sheets_of_the_previews():
    import torch

    from emu_edit.commands.thumbnails import contact_sheet, run_workflow

    prompt = {
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Before"}},
        "1": {"class_type": "EmuEditExamplePicture", "inputs": {"picture": "scene_01.png"}},
    }
    shown = run_workflow(prompt)
    assert list(shown) == ["Before"] and shown["Before"].shape[-1] == 3
    tiles = {str(i): torch.rand(1, 30, 40, 3) for i in range(5)}
    assert contact_sheet(tiles).size == (800, 584)
    # A sheet of masks gets a row to itself, in its own proportions: 784 wide, a quarter as high.
    assert contact_sheet({"masks": torch.rand(1, 20, 80, 3), **tiles}).size == (800, 584 + 196 + 32)


@workflows
def test_thumbnail(path):
    from PIL import Image

    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 256
    assert path.with_suffix(".jpg").stat().st_size < 200_000
