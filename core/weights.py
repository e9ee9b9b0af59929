"""Safetensors and JSON files: found, checked, read, written whole, and poured into models.

Nothing here opens a pickle. Every read is checked first, so that a broken or foreign file is told in one
sentence; every write goes to a temporary name beside its target and is then renamed over it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import EmuEditError

PICKLE_ENDINGS = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


def check_safetensors(path: Path) -> None:
    """Raise EmuEditError unless `path` looks like a whole safetensors file; no tensor is read."""
    if not path.exists():
        raise EmuEditError(f"{path} does not exist; check the spelling and the folder.")
    if path.suffix.lower() in PICKLE_ENDINGS:
        raise _pickled(path)
    if not path.is_file():
        raise EmuEditError(f"{path} is not a file; give a .safetensors file.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
    # Safetensors: 8 bytes of header length, then JSON. Only without that do other marks mean anything.
    if start[8:9] != b"{":
        if start[:1] == b"\x80" or start[:2] == b"PK":
            raise _pickled(path)
        if start.startswith(b"version https://git-lfs"):
            raise EmuEditError(f"{path} is only a git-lfs pointer; run `git lfs pull` in its folder.")
        raise EmuEditError(f"{path} ({size} bytes) is not a safetensors file; download it again.")
    try:
        with safe_open(str(path), framework="pt"):
            pass
    except (SafetensorError, OSError) as problem:
        raise EmuEditError(
            f"{path} ({size} bytes) is truncated or damaged ({problem}); download it again."
        ) from problem


def _pickled(path: Path) -> EmuEditError:
    return EmuEditError(
        f"{path} is a pickled checkpoint, which can run code when opened and is therefore refused; "
        "use the .safetensors file of the same model."
    )


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Names with shapes, and the metadata, of a safetensors file; no tensor is read."""
    check_safetensors(path)
    with safe_open(str(path), framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return shapes, dict(file.metadata() or {})


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors on the CPU whose names start with `prefix`, under their names without it."""
    check_safetensors(path)
    with safe_open(str(path), framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name[len(prefix) :]: file.get_tensor(name) for name in names}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or EmuEditError."""
    if not path.is_file():
        raise EmuEditError(f"{path} does not exist; the model folder is not complete, so download it again.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise EmuEditError(f"{path} is not readable as JSON ({problem}); download it again.") from problem
    if not isinstance(value, dict):
        raise EmuEditError(
            f"{path} holds a {type(value).__name__} where a JSON object belongs; download it again."
        )
    return value


def find_weights(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of one component: `stem`.safetensors, its shards, or else a variant such as fp16.

    `stem` is "diffusion_pytorch_model" (diffusers) or "model" (transformers). Raises EmuEditError when there
    are none, or only pickled ones.
    """
    whole = folder / f"{stem}.safetensors"
    if whole.is_file():
        return [whole]
    variants = sorted(folder.glob(f"{stem}.*.safetensors"))
    indexes = [
        folder / f"{stem}.safetensors.index.json",
        *sorted(folder.glob(f"{stem}.safetensors.index.*.json")),
    ]
    for index in indexes:
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise EmuEditError(f"{index} lists no weights; download it again.")
            # Only plain names: an index must not point outside its own folder.
            return [folder / Path(str(name)).name for name in sorted(set(shards.values()))]
    if variants:
        return [next((v for v in variants if v.name == f"{stem}.fp16.safetensors"), variants[0])]
    pickled = (
        sorted(p.name for p in folder.glob("*") if p.suffix.lower() in PICKLE_ENDINGS)
        if folder.is_dir()
        else []
    )
    if pickled:
        raise _pickled(folder / pickled[0])
    raise EmuEditError(f"{whole} does not exist; the model folder is not complete, so download it again.")


def pour(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a model: every weight of it, no other, each of its shape, or EmuEditError.

    Libraries only warn of missing weights and leave them random; a picture of noise would be the result.
    """
    wanted = model.state_dict()
    kind = type(model).__name__
    missing = sorted(wanted.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - wanted.keys())
    if missing or foreign:
        example = f"no {missing[0]!r}" if missing else f"an unknown {foreign[0]!r}"
        raise EmuEditError(
            f"{source}: its weights are not those of the {kind} it should hold: {len(missing)} missing, "
            f"{len(foreign)} unknown ({example}); use a complete file of the right architecture."
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise EmuEditError(
                f"{source}: {name!r} has shape {list(tensor.shape)} but this {kind} needs "
                f"{list(wanted[name].shape)}; use a file of the right architecture."
            )
    model.load_state_dict(dict(tensors), strict=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed over it on success and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as problem:
        raise EmuEditError(f"{path} could not be written ({problem}); choose another place.") from problem
    finally:
        part.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    with replacing(path) as part:
        save_file(plain, str(part), metadata={"format": "pt", **(metadata or {})})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def cast_tensors(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Floating-point tensors in another type (None leaves them as they are); integers stay."""
    return {n: t.to(dtype) if dtype is not None and t.is_floating_point() else t for n, t in tensors.items()}
