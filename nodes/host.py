"""The one file that knows ComfyUI: folders, devices, memory, progress, interruption, and how a slip is told.

Each function has a plain fallback, so that the nodes import, run and test where ComfyUI is absent.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..core.errors import EmuEditError


def _optional(name: str) -> Any:
    """A module of ComfyUI, or None outside it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


comfy_latents = _optional("comfy.latent_formats")
comfy_memory = _optional("comfy.model_management")
comfy_patcher = _optional("comfy.model_patcher")
comfy_utils = _optional("comfy.utils")
folder_paths = _optional("folder_paths")
# "server" is too common a name to be asked for outside ComfyUI.
comfy_server = None if comfy_utils is None else _optional("server")
comfy_running = None if comfy_utils is None else _optional("comfy_execution.utils")

PACK = Path(__file__).resolve().parents[1]
PICTURES = PACK / "pictures"
TASK_FOLDER = "emu_edit_tasks"  # models/emu_edit_tasks in ComfyUI, and a key of extra_model_paths.yaml
PREVIEW_SIZE = 512

if folder_paths is not None:
    folder_paths.add_model_folder_path(TASK_FOLDER, str(Path(folder_paths.models_dir) / TASK_FOLDER))


class NodeError(EmuEditError):
    """A user's slip with the node and the input it was met at; ComfyUI shows the sentence in its dialog."""

    __module__ = "emu_edit"  # ComfyUI prints the type too; the real module name is the folder's full path


@contextmanager
def slips_of(node: Any, name: str = "") -> Iterator[None]:
    """Put the node's display name, and the input's if given, before the sentence of an EmuEditError."""
    try:
        yield
    except NodeError:
        raise
    except EmuEditError as slip:
        where, sentence = node.DISPLAY_NAME, str(slip)
        # Core names the step ("soft mask: ..."), which a node of that name has said already.
        sentence = re.sub(rf"^{re.escape(where)}[:,] ", "", sentence, flags=re.IGNORECASE)
        if name:
            where += f", input {name}"
            sentence = re.sub(r"^the [a-z]+: ", "", sentence)  # the input's name in core's words
        # `from None`: the sentence is complete, and a second traceback in ComfyUI's log would bury it.
        raise NodeError(f"{where}: {sentence}") from None


def model_roots(kind: str) -> list[Path]:
    """ComfyUI's folders of one kind of model ("checkpoints", "diffusers", ...), none outside ComfyUI."""
    if folder_paths is None:
        return []
    return [Path(folder) for folder in folder_paths.get_folder_paths(kind)]


def files_of(kind: str, suffix: str = ".safetensors") -> dict[str, Path]:
    """Files below the folders of one kind: name as ComfyUI writes it -> path. The first folder wins."""
    if folder_paths is None:
        return {}
    found: dict[str, Path] = {}
    for name in folder_paths.get_filename_list(kind):
        if name.lower().endswith(suffix):
            path = folder_paths.get_full_path(kind, name)
            if path is not None:
                found[name.replace("\\", "/")] = Path(path)
    return found


def tokenizer_folders() -> tuple[Path, ...]:
    """Where a CLIP tokenizer lies on this machine: single-file checkpoints carry none, but ComfyUI does."""
    if comfy_utils is None:
        return ()
    folder = Path(comfy_utils.__file__).parent / "sd1_tokenizer"
    return (folder,) if folder.is_dir() else ()


def run_device(choice: str = "auto") -> torch.device:
    """The device that `choice` ("auto" or "cpu") means here."""
    if choice == "cpu":
        return torch.device("cpu")
    if comfy_memory is not None:
        return torch.device(comfy_memory.get_torch_device())
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run_dtype(choice: str, device: torch.device) -> torch.dtype:
    """The number format that `choice` means: "float32", "bfloat16", "float16", or "auto" (by device)."""
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if choice in named:
        return named[choice]
    if device.type == "cpu":
        return torch.float32
    if comfy_memory is not None and not comfy_memory.should_use_fp16(device):
        return torch.float32
    return torch.float16


_handles: WeakKeyDictionary[Any, tuple[nn.ModuleList, torch.device, Any]] = WeakKeyDictionary()


def manage(backbone: Any, device: torch.device) -> None:
    """Lend an editor's modules to ComfyUI's memory manager, which moves them to `device` when needed."""
    parts = (backbone.unet, backbone.vae, backbone.text_encoder, backbone.conditioner)
    modules = nn.ModuleList([part for part in parts if part is not None])
    handle = None
    if comfy_patcher is not None:
        handle = comfy_patcher.ModelPatcher(modules, load_device=device, offload_device=torch.device("cpu"))
    _handles[backbone] = (modules, device, handle)


def make_resident(backbone: Any) -> None:
    """Bring a managed editor onto its device, making room by ComfyUI's rules; others stay where they are."""
    if backbone not in _handles:
        return
    modules, device, handle = _handles[backbone]
    if handle is not None:
        comfy_memory.load_models_gpu([handle], force_full_load=True)
    else:
        modules.to(device)


def stop_if_interrupted() -> None:
    """Raise ComfyUI's own exception if the user pressed Cancel; nothing outside ComfyUI."""
    if comfy_memory is not None:
        comfy_memory.throw_exception_if_processing_interrupted()


class Progress:
    """A progress bar on the running node, with a small picture of the state if one is given."""

    def __init__(self, total: int):
        self._bar = comfy_utils.ProgressBar(total) if comfy_utils is not None else None

    def show(self, done: int, total: int, picture: Any = None) -> None:
        """`picture` is a PIL image or None."""
        if self._bar is not None:
            preview = ("JPEG", picture, PREVIEW_SIZE) if picture is not None else None
            self._bar.update_absolute(done, total, preview)


_remarked: set[str] = set()  # nodes that show a remark now


def remark(sentences: Sequence[str]) -> None:
    """Write remarks on the running node, or take its earlier ones away; nothing outside ComfyUI."""
    if comfy_server is None or comfy_running is None:
        return
    context = comfy_running.get_executing_context()
    if context is None or not (sentences or context.node_id in _remarked):
        return
    comfy_server.PromptServer.instance.send_progress_text("\n".join(sentences), context.node_id)
    (_remarked.add if sentences else _remarked.discard)(context.node_id)


def latent_colours(channels: int) -> Tensor | None:
    """ComfyUI's factors [channels,3] from Stable Diffusion 1 latents to RGB in -1..1; None if unknown."""
    if comfy_latents is None or channels != 4:
        return None
    return torch.tensor(comfy_latents.SD15().latent_rgb_factors)
