"""Which files and folders hold a detector or a segmenter; for menus, which need none of the models' code."""

from __future__ import annotations

from pathlib import Path

from ..weights import read_header, read_json

DETECTOR, SEGMENTER = "detector", "segmenter"
FOLDERS = {
    "grounding-dino": (DETECTOR, "GroundingDinoForObjectDetection"),
    "mm-grounding-dino": (DETECTOR, "MMGroundingDinoForObjectDetection"),
    "sam": (SEGMENTER, "SamModel"),
    "sam2": (SEGMENTER, "Sam2Model"),
    "sam2_video": (SEGMENTER, "Sam2Model"),  # how the published SAM 2 folders call themselves
}
FILES = (".safetensors", ".pth", ".pt")


def kind_of(path: Path) -> str | None:
    """DETECTOR, SEGMENTER or None, without reading weights; for .pth by the name, which is all there is."""
    if path.is_dir():
        if not (path / "config.json").is_file():
            return None
        return FOLDERS.get(str(read_json(path / "config.json").get("model_type")), (None, ""))[0]
    if path.suffix.lower() == ".safetensors" and path.is_file():
        from . import original_dino, original_sam

        names = read_header(path)[0]
        return DETECTOR if original_dino.is_dino(names) else SEGMENTER if original_sam.is_sam(names) else None
    if path.suffix.lower() in FILES:
        name = path.name.lower().replace("-", "_")
        if name.startswith("groundingdino") or name.startswith("grounding_dino"):
            return DETECTOR
        return SEGMENTER if name.startswith("sam_vit") else None
    return None
