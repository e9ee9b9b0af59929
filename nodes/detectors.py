"""Load Detector and Text to Mask: masks of what words name, for any editor and any mask node."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn

from ..core.errors import EmuEditError
from ..core.masks.kinds import DETECTOR, FILES, SEGMENTER, kind_of
from . import host
from .loaders import BUNDLED as BUNDLED_EDITOR
from .loaders import FOLDER_DEPTH, LoadEditor, editor_path, signature
from .widgets import choice, number, socket, text, whole

EDITOR = "bundled editor (Segment task)"
NONE = "none"
# Where other packs put such models, and a folder of our own.
PLACES = {
    DETECTOR: ("emu_edit_detectors", "grounding-dino", "groundingdino"),
    SEGMENTER: ("emu_edit_detectors", "sams", "sam", "sam2"),
}
VOCABULARY = "bert-base-uncased"
NOW, AFTER = "what is there", "what the edit adds"

_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
_handles: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def roots(kind: str) -> list[Path]:
    """models/<name> of each place where such a model may lie, and what extra_model_paths.yaml says of it."""
    if host.folder_paths is None:
        return []
    found = []
    for name in PLACES[kind]:
        found.append(Path(host.folder_paths.models_dir) / name)
        if name in host.folder_paths.folder_names_and_paths:
            found += [Path(folder) for folder in host.folder_paths.get_folder_paths(name)]
    return list(dict.fromkeys(found))


def models(kind: str) -> dict[str, Path]:
    """Folders and files of one kind: menu name -> path."""
    found: dict[str, Path] = {}
    for root in roots(kind):
        for place, folders, files in os.walk(root, followlinks=True):
            folder = Path(place)
            depth = len(folder.relative_to(root).parts)
            candidates = [folder, *(folder / name for name in sorted(files) if name.lower().endswith(FILES))]
            if depth and _is(folder, kind):
                candidates = [folder]  # its files are parts of it
                folders.clear()
            for path in candidates:
                if _is(path, kind):
                    found.setdefault(f"{root.name}/{path.relative_to(root).as_posix()}", path)
            if depth >= FOLDER_DEPTH:
                folders.clear()
            folders.sort()
    return found


def _is(path: Path, kind: str) -> bool:
    try:
        return kind_of(path) == kind
    except EmuEditError:  # a broken file of some other model is not this menu's concern
        return False


def chosen(kind: str, name: str) -> Path:
    """The path of a menu entry; no other path can be named."""
    path = models(kind).get(name)
    if path is None:
        raise EmuEditError(
            f"{name!r} is not among the {kind}s found; put it under models/{PLACES[kind][1]}, press R, and "
            f"pick it "
            "from the menu."
        )
    return path


class LoadDetector:
    """Loads what Text to Mask finds things with."""

    ID = "EmuEditLoadDetector"
    DISPLAY_NAME = "Load Detector"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Loads what finds things by words, for Text to Mask: a GroundingDINO from models/grounding-dino and "
        "a SAM "
        "or SAM 2 from models/sams, as transformers folders or as the original .pth files. Without any, the "
        "bundled editor marks things in simple drawn scenes. Nothing is downloaded."
    )
    SEARCH_ALIASES = ["grounding dino", "segment anything", "sam", "sam2", "text detector", "load sam"]
    FUNCTION = "load"
    RETURN_TYPES = ("EMU_DETECTOR",)
    RETURN_NAMES = ("detector",)
    OUTPUT_TOOLTIPS = ("What finds things, for Text to Mask.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "detector": choice(
                    [EDITOR, *models(DETECTOR)],
                    EDITOR,
                    "A GroundingDINO from models/grounding-dino or models/emu_edit_detectors: a transformers "
                    "folder, "
                    "or the original SwinT or SwinB file. The bundled editor needs no download, and knows "
                    "drawn "
                    "scenes only.",
                ),
                "segmenter": choice(
                    [NONE, *models(SEGMENTER)],
                    NONE,
                    "A SAM or SAM 2 that makes an exact mask in each box found, from models/sams or "
                    "models/emu_edit_detectors. none fills the boxes. The bundled editor needs none.",
                ),
                "device": choice(
                    ("auto", "cpu"),
                    "auto",
                    "auto is ComfyUI's own device, and lets ComfyUI move the models out when memory is "
                    "short.",
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, detector: str, segmenter: str) -> bool | str:
        try:
            _paths(detector, segmenter)
        except EmuEditError as slip:
            return str(slip)
        return True

    @classmethod
    def IS_CHANGED(cls, detector: str, segmenter: str, device: str) -> str:
        return repr([(str(path), signature(path)) for path in _paths(detector, segmenter)])

    def load(self, detector: str, segmenter: str, device: str) -> tuple[Any]:
        from ..core.masks.loading import load_segmenter
        from ..core.masks.painted import EditorSource
        from ..core.masks.sources import Segmented

        if detector == EDITOR:
            with host.slips_of(self, "detector"):
                (editor,) = LoadEditor().load(BUNDLED_EDITOR, device, "auto")
                return (EditorSource(editor),)
        where = host.run_device(device)
        with host.slips_of(self, "detector"):
            found = _once(chosen(DETECTOR, detector), where, _detector)
        if segmenter == NONE:
            return (found,)
        with host.slips_of(self, "segmenter"):
            return (Segmented(found, _once(chosen(SEGMENTER, segmenter), where, load_segmenter)),)


def _paths(detector: str, segmenter: str) -> list[Path]:
    first = editor_path(BUNDLED_EDITOR) if detector == EDITOR else chosen(DETECTOR, detector)
    second = [] if segmenter == NONE or detector == EDITOR else [chosen(SEGMENTER, segmenter)]
    return [first, *second]


def _detector(path: Path) -> Any:
    from ..core.masks.loading import load_detector

    vocabularies = [] if host.folder_paths is None else [Path(host.folder_paths.models_dir) / VOCABULARY]
    return load_detector(path, "cpu", vocabularies)


def _once(path: Path, where: torch.device, load: Any) -> Any:
    """Load a model unless a node holds it already, and lend it to ComfyUI's memory manager."""
    key = (str(path), signature(path), str(where))
    found = _loaded.get(key)
    if found is None:
        found = _loaded[key] = load(path)
        if host.comfy_patcher is not None:
            modules = nn.ModuleList([found.model])
            _handles[found] = host.comfy_patcher.ModelPatcher(modules, where, torch.device("cpu"))
        else:
            found.model.to(where)
    return found


def make_resident(detector: Any) -> None:
    """Bring the models of a detector onto their device by ComfyUI's rules."""
    from ..core.masks.painted import EditorSource
    from ..core.masks.sources import Segmented

    if isinstance(detector, EditorSource):
        host.make_resident(detector.backbone)
        return
    parts = (detector.detector, detector.segmenter) if isinstance(detector, Segmented) else (detector,)
    handles = [_handles[part] for part in parts if part in _handles]
    if handles:
        host.comfy_memory.load_models_gpu(handles, force_full_load=True)


def cancellable(detector: Any, poll: Callable[[], None] | None = None) -> Any:
    """The same detector, asking `poll` between steps, pictures and batches of boxes (was Cancel pressed?).

    A copy, which make_resident knows as it knows the detector itself.
    """
    from ..core.masks.detect import GroundingDino
    from ..core.masks.painted import EditorSource
    from ..core.masks.segment import Sam
    from ..core.masks.sources import Segmented

    ask = poll or host.stop_if_interrupted
    if isinstance(detector, Segmented):
        return Segmented(cancellable(detector.detector, ask), cancellable(detector.segmenter, ask))
    if isinstance(detector, EditorSource):
        return replace(detector, on_step=lambda info: ask())
    if isinstance(detector, (GroundingDino, Sam)):
        copy = replace(detector, poll=ask)
        if detector in _handles:
            _handles[copy] = _handles[detector]
        return copy
    return detector


class TextToMask:
    """Words and pictures in, masks and boxes out."""

    ID = "EmuEditTextToMask"
    DISPLAY_NAME = "Text to Mask"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Finds what a phrase or a whole instruction is about ('make the dog's tail blue': the tail) and "
        "gives one "
        "mask for each picture, with boxes, a count and a report. Nothing found is an empty mask and a "
        "sentence. "
        "Works before any editor; Soft Mask grows and softens the mask."
    )
    SEARCH_ALIASES = ["text to mask", "grounding dino", "segment by text", "find object", "prompt mask"]
    FUNCTION = "find"
    RETURN_TYPES = ("MASK", "BOUNDING_BOX", "INT", "STRING")
    RETURN_NAMES = ("mask", "boxes", "count", "report")
    OUTPUT_TOOLTIPS = (
        "White where the thing is, one mask for each picture; white everywhere if the words are about the "
        "whole "
        "picture.",
        "For each picture a list of boxes in pixels with score and label, as ComfyUI's own detectors give "
        "them.",
        "How many things were found in all pictures together.",
        "What was looked for, what was found, and how sure the detector is.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "detector": socket("EMU_DETECTOR", "What finds things, from Load Detector."),
                "image": socket("IMAGE", "The pictures to look in, any number of them."),
                "text": text(
                    "the red ball",
                    "A phrase ('the red ball', 'cat, dog') or the instruction itself ('make the red ball "
                    "blue'): the "
                    "thing meant is taken from it.",
                ),
                "look_for": choice(
                    (NOW, AFTER),
                    NOW,
                    "For 'add a hat to the dog': what is there looks for the dog, what the edit adds for the "
                    "hat, which "
                    "makes sense in the edited picture.",
                ),
                "threshold": number(
                    0.3,
                    0.0,
                    1.0,
                    0.05,
                    "How sure the detector must be. Lower it when nothing is found, raise it when too much "
                    "is.",
                ),
                "text_threshold": number(
                    0.25,
                    0.0,
                    1.0,
                    0.05,
                    "How sure it must be of the noun, so that 'red ball' does not find what is only red. 0 "
                    "is off. "
                    "The bundled editor does without it.",
                ),
                "max_instances": whole(
                    0, 0, 100, "Keep the best so many things in each picture. 0 keeps all that were found."
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, text: str | None = None) -> bool | str:
        from ..core.masks.phrases import target_of

        try:
            if text is not None:
                target_of(text)
        except EmuEditError as slip:
            return str(slip)
        return True

    def find(
        self,
        detector: Any,
        image: Tensor,
        text: str,
        look_for: str,
        threshold: float,
        text_threshold: float,
        max_instances: int,
    ) -> tuple[Tensor, list[list[dict[str, Any]]], int, str]:
        from ..core.masks.sources import DetectSettings, text_to_mask

        with host.slips_of(self):
            settings = DetectSettings(threshold, text_threshold, max_instances)
            make_resident(detector)
            found = text_to_mask(cancellable(detector), image, text, settings, after=look_for == AFTER)
        return found.mask(), found.bounding_boxes(), found.count, found.report()
