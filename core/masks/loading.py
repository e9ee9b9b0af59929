"""Detectors and segmenters from disk: transformers folders, and the original files that users already have.

Nothing is downloaded. A folder is read through safetensors; an original .pth through pth.py alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import EmuEditError
from ..packages import need_class
from ..weights import check_safetensors, find_weights, read_json
from . import original_dino, original_sam
from .detect import LONGEST, SHORTEST, GroundingDino
from .kinds import DETECTOR, FOLDERS, SEGMENTER
from .pth import read_state
from .segment import Sam

WHY = "to find things by words"
# Weights a model makes itself; not every release writes them.
_MADE = (
    "relative_position_index",
    "position_ids",
    "token_type_ids",
    "swin.layernorm.weight",
    "swin.layernorm.bias",
)


def load_detector(
    path: Path, device: torch.device | str = "cpu", vocabularies: Sequence[Path] = ()
) -> GroundingDino:
    """A GroundingDINO from a transformers folder or an original file.

    An original file has no vocabulary; bert-base-uncased's (vocab.txt or tokenizer.json) is looked for beside
    it and in `vocabularies`, and last in what transformers has on this machine.
    """
    if path.is_dir():
        model, config = _from_folder(path, DETECTOR)
        tokenizer = _tokenizer([path])
        size = _json(path / "preprocessor_config.json").get("size")
        size = size if isinstance(size, dict) else {}
        shortest, longest = size.get("shortest_edge", SHORTEST), size.get("longest_edge", LONGEST)
        return GroundingDino(_ready(model, device), tokenizer, path.name, int(shortest), int(longest))
    state = read_state(path)
    config, weights = original_dino.convert(state, str(path))
    tokenizer = _tokenizer([path.parent, path.parent / "bert-base-uncased", *vocabularies])
    model = _poured("GroundingDinoForObjectDetection", "GroundingDinoConfig", config, weights, path)
    return GroundingDino(_ready(model, device), tokenizer, path.stem)


def load_segmenter(path: Path, device: torch.device | str = "cpu") -> Sam:
    """A SAM or SAM 2 from a transformers folder, or a SAM from an original file."""
    if path.is_dir():
        model, config = _from_folder(path, SEGMENTER)
        vision = getattr(model.config, "prompt_encoder_config", None)
        side = int(getattr(vision, "image_size", 1024))
        return Sam(_ready(model, device), path.name, side, stretched=str(config.get("model_type")) != "sam")
    config, weights = original_sam.convert(read_state(path), str(path))
    model = _poured("SamModel", "SamConfig", config, weights, path)
    return Sam(_ready(model, device), path.stem, int(config["vision_config"]["image_size"]))


def _from_folder(folder: Path, kind: str) -> tuple[Any, dict[str, Any]]:
    config = read_json(folder / "config.json")
    found, name = FOLDERS.get(str(config.get("model_type")), (None, ""))
    if found != kind:
        known = ", ".join(model for model, (use, _) in FOLDERS.items() if use == kind)
        raise EmuEditError(
            f"{folder} holds a model of type {config.get('model_type')!r}, which is no {kind}; choose a "
            f"folder of "
            f"type {known}."
        )
    for file in find_weights(folder, "model"):
        check_safetensors(file)
    model_class: Any = need_class("transformers", name, WHY)
    try:
        model, report = model_class.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as problem:  # each release of transformers has exceptions of its own
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise EmuEditError(f"{folder} could not be loaded ({reason}); download it again.") from problem
    _complete(report, folder, name)
    return model, config


def _poured(model: str, config: str, told: dict[str, Any], weights: dict[str, Any], path: Path) -> Any:
    """A transformers model with these weights; its own loading knows the names of every release."""
    model_class: Any = need_class("transformers", model, WHY)
    config_class: Any = need_class("transformers", config, WHY)
    try:
        loaded, report = model_class.from_pretrained(
            None, config=config_class(**told), state_dict=weights, output_loading_info=True
        )
    except Exception as problem:  # as above
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise EmuEditError(
            f"{path} does not fit a {model} ({reason}); use the published weights."
        ) from problem
    _complete(report, path, model)
    foreign = sorted(name for name in report["unexpected_keys"] if not name.endswith(_MADE))
    if foreign:
        raise EmuEditError(
            f"{path} holds {len(foreign)} weights that a {model} does not have (such as {foreign[0]!r}); it "
            f"is a "
            "relative of another build, so use the published weights."
        )
    return loaded


def _complete(report: dict[str, Any], path: Path, model: str) -> None:
    """No weight may stay random: pictures of noise would be the result."""
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(_MADE))
    if missing:
        raise EmuEditError(
            f"{path} lacks {len(missing)} weights of a {model} (such as {missing[0]!r}); download it again."
        )


def _ready(model: Any, device: torch.device | str) -> Any:
    return nn.Module.to(model.float(), device).eval()


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _tokenizer(folders: Sequence[Path]) -> Any:
    """bert-base-uncased's tokenizer from the first folder that has it, else from the local cache."""
    auto: Any = need_class("transformers", "AutoTokenizer", WHY)
    fast: Any = need_class("transformers", "BertTokenizerFast", WHY)
    for folder in folders:
        if any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
            try:
                return fast.from_pretrained(str(folder), local_files_only=True)
            except Exception as problem:  # as above
                reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
                raise EmuEditError(
                    f"{folder}: its tokenizer could not be read ({reason}); download it again."
                ) from problem
    try:
        return auto.from_pretrained("bert-base-uncased", local_files_only=True)
    except Exception as problem:  # as above
        raise EmuEditError(
            f"{folders[0]}: the vocabulary of bert-base-uncased is missing; put its vocab.txt beside the "
            f"weights."
        ) from problem
