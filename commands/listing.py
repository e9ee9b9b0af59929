"""`emu-edit models` and `emu-edit tasks`: what there is. Models are looked at, not loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.checkpoints import bundled_editor_path
from ..core.editor_folder import position_frequencies
from ..core.errors import EmuEditError
from ..core.model_numbers import check_defaults, check_number
from ..core.positions import CHANNELS
from ..core.tasks import TASKS
from ..core.weights import read_header, read_json

PACK = Path(__file__).resolve().parent.parent
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"  # of a single-file Stable Diffusion 1.x
EDITOR_CHANNELS = 8  # noisy latent and picture latent, four each


@dataclass(frozen=True)
class Found:
    """An editor on disk. `size_mb` counts its weights; `tasks` is empty for a plain InstructPix2Pix."""

    name: str
    path: str
    bundled: bool
    size_mb: float
    tasks: tuple[str, ...]
    defaults: dict[str, Any]


def find_editors(folders: Sequence[str] = ()) -> tuple[list[Found], list[str]]:
    """The bundled editors, those of ComfyUI's model folders (if the pack lies in one), those of `folders`;
    and a sentence for each file or folder there that is damaged.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise EmuEditError(f"folder {folder!r} does not exist; give one that holds editors.")
    bundled = bundled_editor_path().parent
    places = [bundled, *_comfy_folders(), *map(Path, folders)]
    found: dict[Path, Found] = {}
    damaged: list[str] = []
    for place in places:
        for path in _candidates(place):
            try:
                editor = _look(path, bundled=place == bundled)
            except EmuEditError as slip:
                damaged.append(str(slip))
                continue
            if editor is not None:
                found.setdefault(path.resolve(), editor)
    return list(found.values()), damaged


def _comfy_folders() -> list[Path]:
    """models/diffusers and models/checkpoints of the ComfyUI that this pack is installed in."""
    if PACK.parent.name != "custom_nodes":
        return []
    models = PACK.parent.parent / "models"
    return [models / "diffusers", models / "checkpoints"]


def _candidates(place: Path) -> Iterator[Path]:
    if (place / "model_index.json").is_file():
        yield place
        return
    if place.is_dir():
        try:
            entries = sorted(place.iterdir())
        except OSError as problem:
            raise EmuEditError(f"folder {place} cannot be read ({problem}); see to its rights.") from problem
        for entry in entries:
            if entry.suffix == ".safetensors" or (entry / "model_index.json").is_file():
                yield entry


def _look(path: Path, bundled: bool) -> Found | None:
    """What a folder or file says of itself; None for what is no editor.

    Raises EmuEditError for what cannot be read or is damaged.
    """
    try:
        if not path.is_dir():
            shape = read_header(path)[0].get(FIRST_LAYER, ())
            if len(shape) != 4 or shape[1] != EDITOR_CHANNELS:
                return None
            return Found(path.stem, str(path), bundled, _megabytes([path]), (), {})
        if not (path / "unet" / "config.json").is_file():  # a model of another family
            return None
        channels, latent = (
            _whole(path / part / "config.json", key)
            for part, key in (("unet", "in_channels"), ("vae", "latent_channels"))
        )
        ours = path / "emu_edit" / "config.json"
        config = {"name": path.name, "task_names": [], "defaults": {}}
        config |= read_json(ours) if ours.is_file() else {}
        if channels - CHANNELS * position_frequencies(config, path) != 2 * latent:
            return None
        name, tasks, defaults = config["name"], config["task_names"], config["defaults"]
        named = isinstance(tasks, list) and all(isinstance(task, str) for task in tasks)
        if not (isinstance(name, str) and named and isinstance(defaults, dict)):
            raise EmuEditError(
                f"{ours}: name must be a text, task_names a list of names and defaults an object; mend it."
            )
        check_defaults(defaults, ours)
        size = _megabytes(path.rglob("*.safetensors"))
        return Found(name, str(path), bundled, size, tuple(tasks), defaults)
    except OSError as problem:
        raise EmuEditError(f"{path} cannot be read ({problem}); see to its files and rights.") from problem


def _whole(file: Path, key: str) -> int:
    """A number of channels in a part's configuration."""
    value = read_json(file).get(key, 4)  # latent_channels may be left out, as diffusers does
    check_number(value, key, file, 1, 4096, whole=True)
    return int(value)


def _megabytes(files: Iterable[Path]) -> float:
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def list_models(folders: Sequence[str], as_json: bool) -> None:
    """Print the editors found, as JSON {"models": [...]} or as lines."""
    models, damaged = find_editors(folders)
    for sentence in damaged:
        print(f"emu-edit: left out: {sentence}", file=sys.stderr)
    if as_json:
        print(json.dumps({"models": [asdict(model) for model in models]}, indent=2))
        return
    for model in models:
        known = f"{len(model.tasks)} tasks" if model.tasks else "no tasks"
        defaults = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in model.defaults.items())
        print(f"{model.name}{' (bundled)' if model.bundled else ''}: {model.size_mb} MB, {known}")
        print(f"    {model.path}" + (f"\n    {defaults}" if defaults else ""))
    if not models:
        print(f"no editors found; the bundled one belongs in {bundled_editor_path()}")


def list_tasks(as_json: bool) -> None:
    """Print the sixteen tasks, as JSON {"tasks": [...]} or as lines."""
    if as_json:
        print(json.dumps({"tasks": [asdict(task) for task in TASKS.values()]}, indent=2))
        return
    for task in TASKS.values():
        print(f"{task.id:13}{task.group:11}{task.description}")
