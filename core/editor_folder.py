"""An editor as a folder: diffusers' layout, and beside it what makes it an Emu Edit model.

model_index.json  unet/  vae/  text_encoder/  tokenizer/  scheduler/      as diffusers writes them
emu_edit/config.json, emu_edit/tasks.safetensors                          ours: task table, defaults
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .diffusers_backbone import DiffusersBackbone
from .errors import EmuEditError
from .model_numbers import check_autoencoder, check_defaults, check_number, check_scheduler
from .model_parts import (
    DIFFUSERS_STEM,
    EDITOR,
    TRANSFORMERS_STEM,
    check_channels,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    read_config,
    text_encoder_tensors,
)
from .positions import CHANNELS
from .task_conditioning import TaskConditioner
from .weights import cast_tensors, pour, read_json, read_tensors, write_json, write_tensors

FORMAT, VERSIONS = "emu-edit", (1, 2, 3)  # 2: with a latent_input that is not "noisy"; 3: with positions
MOST_FREQUENCIES = 12
Config = Mapping[str, Any]
_OURS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler", "emu_edit")


def load_folder(folder: Path, dtype: torch.dtype, kind: str = EDITOR) -> dict[str, Any]:
    """The keyword arguments of DiffusersBackbone for the model in `folder`, on the CPU in `dtype`.

    `kind` is one of model_parts.KINDS: what the model must be by its number of input channels.
    """
    if not (folder / "model_index.json").is_file():
        rescued = backup_of(folder)
        mend = f"a save was interrupted, so rename {rescued} to {folder.name}"
        mend = mend if rescued.is_dir() else "give a diffusers folder or a .safetensors file"
        raise EmuEditError(f"{folder} is not a model folder (no model_index.json); {mend}.")
    index = read_json(folder / "model_index.json")
    if not (folder / "unet").is_dir() or "text_encoder_2" in index:
        parts = ", ".join(sorted(key for key, value in index.items() if isinstance(value, list))) or "nothing"
        raise EmuEditError(
            f"{folder} is a {index.get('_class_name')} with {parts}; use an InstructPix2Pix of the Stable "
            "Diffusion 1.5 family, which has one U-Net and one text encoder."
        )
    # Small files first: most mistakes show there, before anything large is read.
    configs = {part: read_config(folder / part) for part in ("unet", "vae", "text_encoder")}
    ours = _read_ours(folder)
    beside = CHANNELS * position_frequencies(ours, folder) if ours else 0
    _check_fit(folder, configs["unet"], configs["vae"], configs["text_encoder"], kind, beside)
    check_autoencoder(configs["vae"], folder / "vae" / "config.json")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    check_scheduler(scheduler, folder / "scheduler" / "scheduler_config.json")
    tasks = _load_tasks(folder, configs["unet"], ours)
    text_encoder = load_text_encoder(folder / "text_encoder", configs["text_encoder"], dtype)
    return {
        "tokenizer": load_tokenizer(folder / "tokenizer", text_encoder),
        "text_encoder": text_encoder,
        "vae": load_vae(folder / "vae", configs["vae"], dtype),
        "unet": load_unet(folder / "unet", configs["unet"], dtype),
        "scheduler_config": scheduler,
        "name": folder.name,
        **tasks,
    }


def _check_fit(folder: Path, unet: Config, vae: Config, text: Config, kind: str, beside: int) -> None:
    """Raise EmuEditError unless the parts' configurations are those of one model of that kind.

    `beside`: how many of the U-Net's input channels are positions.
    """
    extra = unet.get("addition_embed_type")
    if extra not in (None, "text"):
        raise EmuEditError(
            f"{folder / 'unet'} is a U-Net with added conditions of type {extra!r} (SDXL or a relative); use "
            "an editor of the Stable Diffusion 1.5 family."
        )
    check_channels(folder, unet["in_channels"], vae["latent_channels"], kind, "folder", beside)
    context, width = unet["cross_attention_dim"], text["hidden_size"]
    if context != width:
        raise EmuEditError(
            f"{folder}: its text encoder is {width} wide, its U-Net reads {context}; use parts of one model."
        )


def _read_ours(folder: Path) -> dict[str, Any] | None:
    """emu_edit/config.json, checked as far as it goes by itself; None where there is none."""
    file = folder / "emu_edit" / "config.json"
    if not file.is_file():
        return None
    config = read_json(file)
    if config.get("format") != FORMAT or config.get("version") not in VERSIONS:
        raise EmuEditError(
            f"{file} is of format {config.get('format')!r} version {config.get('version')!r}; this "
            f"program reads {FORMAT!r} up to version {VERSIONS[-1]}, so update it."
        )
    names, defaults = config.get("task_names"), config.get("defaults", {})
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not named or not isinstance(defaults, dict):
        raise EmuEditError(
            f"{file}: task_names must be a list of names and defaults an object; mend or replace it."
        )
    check_defaults(defaults, file)
    return config


def position_frequencies(config: Config, folder: Path) -> int:
    """How many waves of position the U-Net of `folder` reads, by its emu_edit/config.json, here `config`."""
    name, file = "position_frequencies", folder / "emu_edit" / "config.json"
    waves = config.get(name, 0)
    check_number(waves, name, file, 0, MOST_FREQUENCIES, whole=True)
    return int(waves)


def _load_tasks(folder: Path, unet: Config, config: Config | None) -> dict[str, Any]:
    """What emu_edit/ (`config`, None without) adds to the arguments of DiffusersBackbone."""
    file = folder / "emu_edit" / "config.json"
    context = unet["cross_attention_dim"]
    expected = unet.get("projection_class_embeddings_input_dim") if unet.get("class_embed_type") else None
    if config is None:
        if expected is not None:
            raise EmuEditError(
                f"{folder} takes task vectors but {file} does not exist; download the model again."
            )
        return {}
    settings = {
        "name": str(config.get("name", folder.name)),
        "predicts": config.get("predicts"),
        "image_condition": config.get("image_condition", "unscaled"),
        "latent_input": config.get("latent_input", "noisy"),
        "position_frequencies": position_frequencies(config, folder),
        "defaults": config.get("defaults", {}),
    }
    names = config["task_names"]
    if not names:
        return settings
    widths = (config.get("task_width"), config.get("context_width"))
    if not isinstance(expected, int) or widths != (expected, context):
        raise EmuEditError(
            f"{file} says task width {widths[0]} and context {widths[1]} but the U-Net takes {expected} "
            f"and {context}; use the emu_edit folder that came with this model."
        )
    conditioner = TaskConditioner(expected, context, names)
    source = folder / "emu_edit" / "tasks.safetensors"
    pour(conditioner, read_tensors(source), source)
    return settings | {"conditioner": conditioner}


def save_folder(editor: DiffusersBackbone, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write an editor. What stands in `folder` is replaced only when all is written; other files there stay.

    `dtype` is the type of the stored network weights (None: as they are); task vectors stay float32.
    Raises EmuEditError when `folder` holds something that is not an editor, or the disk refuses.
    """
    folder = folder.resolve()
    check_destination(folder)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write(editor, part, dtype)
        _swap(part, folder)
    except OSError as problem:
        raise EmuEditError(f"{folder} could not be written ({problem}); choose another place.") from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_destination(folder: Path) -> None:
    """Raise EmuEditError when an editor cannot be written to `folder`: call it before long work as well."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _is_editor(folder))):
        raise EmuEditError(f"{folder} exists and is not an editor's folder; choose a new or an empty one.")
    above = next(place for place in folder.resolve().parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise EmuEditError(f"{folder} could not be written ({above} takes no files); choose another place.")


def _is_editor(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()


def backup_of(folder: Path) -> Path:
    """Where the former folder waits while a new one takes its name."""
    return folder.with_name(f".{folder.name}.old")


def _swap(part: Path, folder: Path) -> None:
    """Put the folder `part` in the place of `folder`. Whenever this stops, one whole editor remains."""
    backup = backup_of(folder)
    # An earlier save may have been killed: before its second rename, or after it.
    if backup.exists() and not folder.exists():
        os.replace(backup, folder)
    elif backup.exists():
        _retire(backup, folder)
    if folder.exists():
        os.replace(folder, backup)
    try:
        os.replace(part, folder)
    finally:
        if backup.exists() and not folder.exists():
            os.replace(backup, folder)
    if backup.exists():
        _retire(backup, folder)


def _retire(backup: Path, folder: Path) -> None:
    """Delete a former folder, once whatever in it is not ours has moved to the present one."""
    for entry in backup.iterdir():
        if entry.name not in _OURS and not (folder / entry.name).exists():
            os.replace(entry, folder / entry.name)
    shutil.rmtree(backup, ignore_errors=True)


def _write(editor: DiffusersBackbone, folder: Path, dtype: torch.dtype | None) -> None:
    for part, model in (("unet", editor.unet), ("vae", editor.vae)):
        model.save_config(str(folder / part))
        write_tensors(
            folder / part / f"{DIFFUSERS_STEM}.safetensors", cast_tensors(model.state_dict(), dtype)
        )
    text = folder / "text_encoder"
    editor.text_encoder.config.save_pretrained(str(text))
    write_json(text / "config.json", read_json(text / "config.json") | {"architectures": ["CLIPTextModel"]})
    write_tensors(
        text / f"{TRANSFORMERS_STEM}.safetensors",
        cast_tensors(text_encoder_tensors(editor.text_encoder), dtype),
    )
    editor.tokenizer.save_pretrained(str(folder / "tokenizer"))
    write_json(folder / "scheduler" / "scheduler_config.json", editor.scheduler_config)
    write_json(folder / "model_index.json", _index(editor))
    conditioner = editor.conditioner
    config: dict[str, Any] = {
        "format": FORMAT,
        "version": 3 if editor.position_frequencies else 2 if editor.latent_input != "noisy" else 1,
        "name": editor.name,
        "task_names": list(editor.task_names),
        "task_width": conditioner.task_width if conditioner else None,
        "context_width": conditioner.context_width if conditioner else None,
        "predicts": editor.predicts,
        "image_condition": editor.image_condition_scale,
        "latent_input": editor.latent_input,
        "position_frequencies": editor.position_frequencies,
        "defaults": dict(editor.defaults),
    }
    write_json(folder / "emu_edit" / "config.json", config)
    if conditioner is not None:
        write_tensors(folder / "emu_edit" / "tasks.safetensors", conditioner.state_dict())


def _index(editor: DiffusersBackbone) -> Mapping[str, Any]:
    plain = (
        editor.conditioner is None
        and type(editor.vae).__name__ != "PatchAutoencoder"
        and (editor.latent_input, editor.predicts == "change") == ("noisy", False)
        and not editor.position_frequencies
    )
    classes = {
        "unet": editor.unet,
        "vae": editor.vae,
        "text_encoder": editor.text_encoder,
        "tokenizer": editor.tokenizer,
    }
    index: dict[str, Any] = {
        # Stock diffusers runs an editor without task vectors; it must not silently run the others.
        "_class_name": "StableDiffusionInstructPix2PixPipeline" if plain else "EmuEdit",
        "scheduler": ["diffusers", editor.scheduler_config.get("_class_name", "DDIMScheduler")],
    }
    for part, value in classes.items():
        library = type(value).__module__.split(".")[0]
        known = library if library in ("diffusers", "transformers") else "emu_edit"
        index[part] = [known, type(value).__name__]
    if plain:
        index |= {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
        }
    return index
