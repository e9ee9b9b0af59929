"""Load Scorer: CLIP and DINO from the user's model folders, for Scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn

from ..core.errors import EmuEditError
from ..core.metric_models import load_clip, load_dino, read_shape
from ..core.metric_presets import PRESETS, preset
from ..core.packages import need
from ..core.scorer import Scorer
from . import host
from .host_files import SCORER_FOLDER
from .loaders import FOLDER_DEPTH, signature
from .widgets import choice

AUTO, NONE = "auto", "none"
KINDS = (SCORER_FOLDER, "clip_vision", "text_encoders")
_loaders = {"clip": load_clip, "dino": load_dino}

# One copy of a model however many nodes name it; gone when nothing holds it any more.
_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
_handles: WeakKeyDictionary[Scorer, Any] = WeakKeyDictionary()


def folders(kind: str) -> dict[str, Path]:
    """Folders with a CLIP (kind "clip") or a DINO ("dino") as transformers saves it: menu name -> path."""
    found: dict[str, Path] = {}
    for model_kind in KINDS:
        for root in host.model_roots(model_kind):
            for place, inner, _ in os.walk(root, followlinks=True):
                folder = Path(place)
                depth = len(folder.relative_to(root).parts)
                if depth and _holds(folder, kind):
                    found.setdefault(f"{model_kind}/{folder.relative_to(root).as_posix()}", folder)
                if depth >= FOLDER_DEPTH:
                    inner.clear()
                inner.sort()
    return found


def _holds(folder: Path, kind: str) -> bool:
    try:
        return read_shape(folder, kind) is not None
    except EmuEditError:  # a broken config.json of some other model is not this menu's concern
        return False


def chosen(kind: str, name: str, wanted: str) -> Path | None:
    """The folder of a menu entry; "auto" is the first that holds the preset's model. None for no model."""
    found = folders(kind)
    if name == NONE:
        return None
    if name == AUTO:
        shape = getattr(preset(wanted), kind)
        return next((folder for folder in found.values() if read_shape(folder, kind) == shape), None)
    if name not in found:
        raise EmuEditError(
            f"{name!r} is not among the folders found; put a transformers folder under "
            f"models/{SCORER_FOLDER}, press R, and pick it from the menu."
        )
    return found[name]


def make_resident(scorer: Scorer) -> None:
    """Bring a scorer's models onto their device by ComfyUI's rules, if it was lent to them."""
    handle = _handles.get(scorer)
    if handle is not None:
        host.comfy_memory.load_models_gpu([handle], force_full_load=True)


class LoadScorer:
    """Loads what Scores needs for its CLIP and DINO columns. Nothing is downloaded."""

    ID = "EmuEditLoadScorer"
    DISPLAY_NAME = "Load Scorer"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Loads CLIP and DINO for Scores from folders under models/emu_edit_scorers (or clip_vision, "
        "text_encoders). Two presets say which models, preprocessing and rows: numbers from different "
        "presets cannot be compared. Nothing is downloaded; what is missing is left out of the table, with "
        "a sentence."
    )
    SEARCH_ALIASES = ["clip score", "dino score", "metrics model", "load clip dino"]
    FUNCTION = "load"
    RETURN_TYPES = ("EMU_SCORER",)
    RETURN_NAMES = ("scorer",)
    OUTPUT_TOOLTIPS = ("The models, for Scores.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        auto = "auto takes the first folder that holds the preset's model, none leaves these scores out."
        return {
            "required": {
                "preset": choice(
                    list(PRESETS),
                    next(iter(PRESETS)),
                    "paper-like: CLIP ViT-L/14 on the squashed picture, every edit counts, as near to Emu "
                    "Edit's table as is known. ultraedit-like: ViT-B/32 on the middle of the picture, "
                    "edits with bad captions left out. Both use DINO ViT-S/16.",
                ),
                "clip": choice(
                    [AUTO, NONE, *folders("clip")], AUTO, f"For CLIPdir, CLIPim and CLIPout. {auto}"
                ),
                "dino": choice([AUTO, NONE, *folders("dino")], AUTO, f"For the DINO score. {auto}"),
                "device": choice(
                    ("auto", "cpu"),
                    "auto",
                    "auto is ComfyUI's own device. cpu is fast enough for single edits and leaves the "
                    "graphics card alone.",
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, preset: str, clip: str, dino: str) -> bool | str:
        try:
            chosen("clip", clip, preset)
            chosen("dino", dino, preset)
        except EmuEditError as slip:
            return str(slip)
        return True

    @classmethod
    def IS_CHANGED(cls, preset: str, clip: str, dino: str, device: str) -> str:
        paths = [chosen("clip", clip, preset), chosen("dino", dino, preset)]
        return repr([(str(path), signature(path)) for path in paths if path is not None])

    def load(self, preset: str, clip: str, dino: str, device: str) -> tuple[Scorer]:
        rules = PRESETS.get(preset)
        if rules is None:
            raise EmuEditError(f"{self.DISPLAY_NAME}, input preset: there is no preset {preset!r}.")
        where = host.run_device(device)
        models: dict[str, Any] = {}
        notes = []
        for (kind, name), hub in zip((("clip", clip), ("dino", dino)), rules.hub, strict=True):
            with host.slips_of(self, kind):
                folder = chosen(kind, name, preset)
                if folder is not None:
                    models[kind] = self._model(kind, folder, where)
                elif name == AUTO:
                    notes.append(
                        f"No {getattr(rules, kind).label} was found, so its scores are left out; put the "
                        f"folder of {hub} (config.json, model.safetensors and the tokenizer's files, if "
                        f"any) under models/{SCORER_FOLDER}."
                    )
        scorer = Scorer(rules, models.get("clip"), models.get("dino"), tuple(notes))
        if models and host.comfy_patcher is not None:
            parts = nn.ModuleList([found.model for found in models.values()])
            _handles[scorer] = host.comfy_patcher.ModelPatcher(
                parts, load_device=where, offload_device=torch.device("cpu")
            )
        return (scorer,)

    @staticmethod
    def _model(kind: str, folder: Path, where: torch.device) -> Any:
        need("transformers", "to score edits by CLIP and DINO")
        key = (kind, str(folder), signature(folder), str(where))
        model = _loaded.get(key)
        if model is None:
            # ComfyUI's memory manager moves it; without one it goes to its device at once.
            start = "cpu" if host.comfy_patcher is not None else where
            model = _loaders[kind](folder, start)
            _loaded[key] = model
        return model
