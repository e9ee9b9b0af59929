"""The rules of the house that a program can see (docs/design.md): imports, unsafe calls, files."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = ("core", "nodes", "commands", "training")
# ComfyUI's modules as they stand on its sys.path.
COMFY = {"comfy", "comfy_api", "comfy_extras", "execution", "folder_paths", "latent_preview", "server"}
# Which of our packages each package may import; arrows point down.
ARROWS = {
    "core": {"core"},
    "nodes": {"nodes", "core"},
    "commands": {"commands", "core", "nodes", "training"},
    "training": {"training", "core"},
}
MADE = {"__pycache__", "build", "demo", "dist", "node_modules", "runs"}
TEXT = {".cfg", ".css", ".html", ".ini", ".js", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml", ""}
LONGEST = 400
PICKLES = {"cPickle", "dill", "joblib", "marshal", "pickle", "shelve"}
# Split, so that this file does not find itself.
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "raise NotImplemented" + "Error")


def house_files() -> Iterator[Path]:
    """Every file of the checkout except hidden folders' (but .ci) and what commands make."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            hidden = path.name.startswith(".") and path.name not in {".ci", ".comfyignore", ".gitignore"}
            if hidden or path.name in MADE or path.name.endswith(".egg-info"):
                continue
            if path.is_dir():
                folders.append(path)
            else:
                yield path


FILES = list(house_files())
CODE = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """(dots, dotted module, line) of every import statement, those inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", node.lineno
            if not node.module:
                for alias in node.names:
                    yield node.level, alias.name, node.lineno


def own_target(path: Path, dots: int, module: str) -> str | None:
    """The package of ours that a relative import reaches: 'core' for `from ..core.images import x`."""
    if dots == 0:
        return None
    folder = path.relative_to(ROOT).parent.parts
    reached = folder[: len(folder) - (dots - 1)]
    return (*reached, *module.split("."))[0] or None


def test_the_house_has_files():
    assert len(CODE) > 10
    assert (ROOT / "__init__.py") in CODE


def test_imports_of_our_own_are_relative():
    slips = [
        f"{name(path)}:{line} imports {module}"
        for path in CODE
        for dots, module, line in imports(path)
        if dots == 0 and module.split(".")[0] in {*OWN, "emu_edit"}
    ]
    assert not slips, slips


def test_only_nodes_know_comfyui():
    slips = [
        f"{name(path)}:{line} imports {module}"
        for path in CODE
        if path.relative_to(ROOT).parts[0] != "nodes"
        for dots, module, line in imports(path)
        if dots == 0 and module.split(".")[0] in COMFY
    ]
    assert not slips, slips


def test_arrows_point_down():
    slips = []
    for path in CODE:
        package = path.relative_to(ROOT).parts[0]
        for dots, module, line in imports(path) if package in ARROWS else ():
            target = own_target(path, dots, module)
            if target in OWN and target not in ARROWS[package]:
                slips.append(f"{name(path)}:{line} reaches up to {target}")
    assert not slips, slips


def test_no_unsafe_calls():
    slips = []
    for path in CODE:
        for dots, module, line in imports(path):
            if dots == 0 and module.split(".")[0] in PICKLES:
                slips.append(f"{name(path)}:{line} imports {module}")
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            shell = any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in node.keywords)
            # SAM and GroundingDINO were published as .pth: one file may open them, by torch's restricted
            # unpickler, which rebuilds tensors and plain containers and refuses everything else.
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            restricted = options.get("weights_only") == "True"
            allowed = name(path) == "core/masks/pth.py" and restricted
            loads = (called == "torch.load" and not allowed) or called.endswith("np.load")
            if called in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"} or shell or loads:
                slips.append(f"{name(path)}:{node.lineno} calls {called}")
    assert not slips, slips


def test_nothing_is_left_unfinished():
    marks = re.compile(rf"\b({'|'.join(UNFINISHED)})\b")
    slips = []
    for path in FILES:
        if path.suffix in {".py", ".js", ".md"}:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if marks.search(line):
                    slips.append(f"{name(path)}:{number} {line.strip()[:80]}")
    assert not slips, slips


def test_no_error_is_swallowed_unseen():
    slips = []
    for path in CODE:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            if node.type is None or (broad and all(isinstance(step, ast.Pass) for step in node.body)):
                slips.append(f"{name(path)}:{node.lineno}")
    assert not slips, slips


def test_every_module_says_what_it_is():
    silent = [name(path) for path in CODE if not ast.get_docstring(tree(path))]
    assert not silent, silent


def test_files_hold_one_idea():
    long = {name(p): n for p in CODE if (n := len(p.read_text(encoding="utf-8").splitlines())) > LONGEST}
    assert not long, f"over {LONGEST} lines: {long}"


def test_every_json_file_parses():
    slips = []
    for path in FILES:
        if path.suffix == ".json":
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                slips.append(f"{name(path)}: {error}")
    assert not slips, slips


def test_no_path_of_one_machine():
    machine = re.compile(r"(?<![\w.:/-])/(?:work|farm|root|home|Users)/[A-Za-z.]")
    slips = []
    for path in FILES:
        if path.suffix in TEXT:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if machine.search(line):
                    slips.append(f"{name(path)}:{number} {line.strip()[:80]}")
    assert not slips, slips


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_installed():
    folders = {path.parent.relative_to(ROOT) for path in CODE if path.name == "__init__.py"}
    found = {".".join(("emu_edit", *folder.parts)) for folder in folders}
    assert set(pyproject()["tool"]["setuptools"]["packages"]) == found


def test_registry_rules():
    project, comfy = pyproject()["project"], pyproject()["tool"]["comfy"]
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["urls"]["Repository"].startswith("https://")
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert comfy["requires-comfyui"] == ">=0.3.64"
    assert "web" not in comfy


def test_installing_moves_nobodys_torch():
    """No upper pins in what users install, and requirements.txt leaves torch to ComfyUI."""
    project = pyproject()["project"]
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    wanted = [line for line in lines if line]
    assert not any(line.lower().startswith("torch") for line in wanted)
    for line in [*wanted, *project["dependencies"], *project["optional-dependencies"]["edit"]]:
        assert not re.search(r"[<=~]=|<", line), line
    # In this order pip keeps the transformers that is there; the other way round it may move huggingface_hub.
    assert wanted == project["optional-dependencies"]["edit"] == ["transformers", "diffusers"]
