"""The pack as ComfyUI loads it: under a name of its own, light, with or without diffusers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# ComfyUI's own way (nodes.py, load_custom_node): the module's name is the folder's path with "." replaced.
LOAD = """
import importlib.util, json, os, sys, time

class Hidden:
    def __init__(self, names):
        self.names = set(names)
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
        return None

folder, hidden = sys.argv[1], sys.argv[2].split(",")
sys.meta_path.insert(0, Hidden(hidden))
import torch
brought = set(sys.modules)
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "__init__.py"))
pack = importlib.util.module_from_spec(spec)
sys.modules[name] = pack
begin = time.process_time()
spec.loader.exec_module(pack)
assert hasattr(pack, "NODE_CLASS_MAPPINGS") and hasattr(pack, "NODE_DISPLAY_NAME_MAPPINGS")
seconds = time.process_time() - begin
"""
# Ours that only a running graph needs: whole parts, and modules. With them loading takes twice as long.
LATE = (
    "benchmarks", "commands", "core.checkpoints", "core.editor_families", "core.masks.detect",
    "core.masks.loading", "core.masks.original_dino", "core.masks.original_sam", "core.masks.phrases",
    "core.masks.sources", "core.masks.wordings", "core.pairs", "core.predictor", "core.predictors",
    "training",
)  # fmt: skip
HEAVY = {"accelerate", "cv2", "diffusers", "huggingface_hub", "scipy", "torchvision", "transformers"}


def in_fresh_python(tmp_path: Path, root: Path, code: str, hide: tuple[str, ...] = ()) -> dict:
    """Run LOAD + code in a new interpreter whose working folder and path know nothing of the checkout.

    The pack stands in a `custom_nodes` folder under a name that is no Python name. Returns what the code
    put into `report`, with the interpreter's stderr added as `stderr`.
    """
    pack = tmp_path / "custom_nodes" / "emu-edit.v0"
    pack.parent.mkdir()
    pack.symlink_to(root, target_is_directory=True)
    answer = tmp_path / "answer.json"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    script = f"{LOAD}\nreport = {{}}\n{code}\njson.dump(report, open({str(answer)!r}, 'w'))\n"
    run = subprocess.run(
        [sys.executable, "-B", "-c", script, str(pack), ",".join(hide)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return {**json.loads(answer.read_text()), "stderr": run.stderr, "stdout": run.stdout}


def test_loads_light_and_quiet(tmp_path, root, capsys):
    code = """
report["seconds"] = seconds
report["nodes"] = sorted(pack.NODE_CLASS_MAPPINGS)
report["names"] = sorted(pack.NODE_DISPLAY_NAME_MAPPINGS)
report["web"] = os.path.isdir(os.path.join(folder, pack.WEB_DIRECTORY))
report["new"] = sorted({m.split(".")[0] for m in set(sys.modules) - brought if not m.startswith(folder[:1])})
report["modules"] = sorted(m for m in sys.modules if "." not in m)
report["own"] = sorted(m.removeprefix(name + ".") for m in sys.modules if m.startswith(name + "."))
"""
    report = in_fresh_python(tmp_path, root, code)
    with capsys.disabled():
        print(f"\npack imported in {report['seconds']:.3f} s beyond torch (CPU time), with {report['new']}")
    # Absence is the rule that holds on a slow machine too; the time is for the eye.
    assert not HEAVY & set(report["modules"])
    assert "nodes.detectors" in report["own"] and "core.images" in report["own"]
    assert [m for m in report["own"] if m.startswith(tuple(f"{late}." for late in LATE)) or m in LATE] == []
    assert report["nodes"] and all(node.startswith("EmuEdit") for node in report["nodes"])
    assert report["names"] == report["nodes"]
    assert report["web"]
    assert (report["stdout"], report["stderr"]) == ("", "")


CALL_WITH_DEFAULTS = """
def call(cls):
    options = cls.INPUT_TYPES().get("required", {})
    given = {}
    for key, (kind, *rest) in options.items():
        extra = rest[0] if rest else {}
        choices = kind if isinstance(kind, (list, tuple)) else extra.get("options", [None])
        given[key] = extra["default"] if "default" in extra else choices[0]
    return getattr(cls(), cls.FUNCTION)(**given)

try:
    call(pack.NODE_CLASS_MAPPINGS["EmuEditLoadEditor"])
    report["error"], report["kind"] = None, []
except Exception as error:
    report["error"], report["kind"] = str(error), [kind.__name__ for kind in type(error).__mro__]
report["nodes"] = sorted(pack.NODE_CLASS_MAPPINGS)
"""


@pytest.mark.parametrize("missing", ["diffusers", "transformers"])
def test_without_an_optional_package_the_node_says_so(tmp_path, root, missing):
    report = in_fresh_python(tmp_path, root, CALL_WITH_DEFAULTS, hide=(missing,))
    assert "EmuEditLoadEditor" in report["nodes"] and "EmuEditInstruct" in report["nodes"]
    assert "EmuEditError" in report["kind"], report["error"]
    assert missing in report["error"] and "pip install" in report["error"]
    # One sentence: no line break, and no full stop that a further sentence follows.
    assert "\n" not in report["error"] and not re.search(r"\.\s+[A-Z]", report["error"]), report["error"]


def test_thresholding_needs_neither(tmp_path, root):
    code = """
cls = pack.NODE_CLASS_MAPPINGS["EmuEditSequentialThreshold"]
before = torch.full((1, 16, 16, 3), 0.5)
after = before.clone()
after[:, :8] = 1.0
spec = cls.INPUT_TYPES()["required"]
given = {key: value[1]["default"] for key, value in spec.items() if len(value) > 1 and "default" in value[1]}
pictures = [key for key, value in spec.items() if value[0] == "IMAGE"]
assert len(pictures) == 2, pictures
given.update(zip(pictures, (before, after)))
kept = getattr(cls(), cls.FUNCTION)(**given)[0]
report["kept_below"] = bool(torch.equal(kept[:, 15], before[:, 15]))
report["changed_above"] = bool(torch.equal(kept[:, 0], after[:, 0]))
"""
    report = in_fresh_python(tmp_path, root, code, hide=("diffusers", "transformers"))
    assert report["kept_below"] and report["changed_above"]
