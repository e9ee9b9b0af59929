"""What else the nodes take from ComfyUI: folders of our own under models/, and pictures for the browser.

As in host.py, everything has a plain fallback outside ComfyUI.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from torch import Tensor

from ..core.picture_files import to_pil
from . import host

FAMILY_FOLDER = "emu_edit_families"
SCORER_FOLDER = "emu_edit_scorers"

if host.folder_paths is not None:
    for _kind in (FAMILY_FOLDER, SCORER_FOLDER):
        host.folder_paths.add_model_folder_path(_kind, str(Path(host.folder_paths.models_dir) / _kind))


def show_pictures(images: Tensor, name: str) -> list[dict[str, str]]:
    """Write pictures [B,H,W,3] where the browser can fetch them until ComfyUI ends; how to ask for each.

    Nothing is written outside ComfyUI. Names are never used twice, so that no cache shows an old picture.
    """
    if host.folder_paths is None:
        return []
    folder = Path(host.folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    run = uuid4().hex[:12]
    shown = []
    for index, image in enumerate(images):
        file = f"emu_edit_{name}_{run}_{index:03}.png"
        to_pil(image).save(folder / file, compress_level=1)
        shown.append({"filename": file, "subfolder": "", "type": "temp"})
    return shown
