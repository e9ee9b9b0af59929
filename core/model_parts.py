"""The parts of an editor built from configurations: U-Net, autoencoder, text encoder, tokenizer.

Classes come from a short list of known ones, named by the configuration; nothing named in a file is imported.
Models are built and filled here rather than by the libraries' own loaders, so that no missing file can turn
into a download and no missing weight into a random one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import EmuEditError
from .packages import need_class
from .weights import find_weights, pour, read_json, read_tensors

WHY = "to load an editor"
DIFFUSERS_STEM = "diffusion_pytorch_model"
TRANSFORMERS_STEM = "model"
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "PatchAutoencoder")
# For each part: the classes it may be, the entry that names its class, the sizes that must fit together.
_KNOWN = {
    "unet": (("UNet2DConditionModel",), "_class_name", ("in_channels", "cross_attention_dim")),
    "vae": (AUTOENCODERS, "_class_name", ("latent_channels",)),
    "text_encoder": (("CLIPTextModel",), "architectures", ("hidden_size",)),
}
EDITOR, TEXT_TO_IMAGE, EITHER = KINDS = ("editor", "text-to-image", "either")
"""What may be loaded: a U-Net that sees an input picture, one that does not, or any of the two."""

_OLD_ATTENTION = (
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
)


def check_channels(source: Path, channels: int, latent: int, kind: str, place: str, beside: int = 0) -> None:
    """Raise EmuEditError unless a U-Net of `channels` input channels is of `kind`; latents have `latent`.

    `source` is a `place` ("folder" or "checkpoint") and stands in the sentence; `beside`: how many of the
    channels are positions.
    """
    wanted_of = {EDITOR: (2 * latent,), TEXT_TO_IMAGE: (latent,), EITHER: (latent, 2 * latent)}
    if beside and channels - beside not in wanted_of[EITHER]:
        raise EmuEditError(
            f"{source} has {channels} input channels; less {beside} of position that is neither {latent} nor "
            f"{2 * latent}: mend position_frequencies in emu_edit/config.json."
        )
    told = f" beside {beside} of position" if beside else ""
    channels -= beside
    if channels not in wanted_of[kind]:
        hints = {latent: " (it makes pictures from text alone)", 2 * latent: " (it edits pictures)"}
        wanted = {
            EDITOR: f"an InstructPix2Pix editor has {2 * latent}, so use the {place} of such an editor",
            TEXT_TO_IMAGE: f"a text-to-image model has {latent}, so use the {place} of such a model",
            EITHER: f"a text-to-image model has {latent} and an editor {2 * latent}, so use one of these",
        }[kind]
        raise EmuEditError(
            f"{source} has {channels} input channels{told}{hints.get(channels, '')}; {wanted}."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a component folder (unet, vae or text_encoder), of a class known for that part."""
    known, key, numbers = _KNOWN[folder.name]
    config = read_json(folder / "config.json")
    found = config.get(key)
    name = found[0] if isinstance(found, list) and found else found
    if name not in known:
        raise EmuEditError(
            f"{folder / 'config.json'} names the class {name!r}, which is not supported here; "
            f"use a model whose {folder.name} is {' or '.join(known)}."
        )
    for number in numbers:
        if not isinstance(config.get(number), int):
            raise EmuEditError(
                f"{folder / 'config.json'}: {number} is {config.get(number)!r} and should be a whole number; "
                "download it again."
            )
    return config


def configured(make: Callable[[], nn.Module], source: Path) -> Any:
    """The model that `make` builds from a configuration read at `source`; EmuEditError if it cannot."""
    try:
        return make()
    except Exception as problem:  # constructors of two libraries, each version with exceptions of its own
        raise EmuEditError(
            f"{source}: its configuration is not usable ({problem}); download it again."
        ) from problem


def filled(model: Any, tensors: Mapping[str, Tensor], source: Path, dtype: torch.dtype) -> Any:
    """The model in evaluation mode, in `dtype`, holding exactly `tensors` (see weights.pour)."""
    nn.Module.to(model, dtype=dtype)  # diffusers' own `to` warns of modules that it does not have
    pour(model, tensors, source)
    return model.eval()


def build_unet(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: Path, dtype: torch.dtype
) -> Any:
    """A UNet2DConditionModel of a configuration and weights."""
    found: Any = need_class("diffusers", "UNet2DConditionModel", WHY)
    # Nearly a billion weights are not worth drawing at random first. (A U-Net has no buffers to lose.)
    with torch.device("meta"):
        model = configured(lambda: found.from_config(dict(config)), source)
    return filled(model.to_empty(device="cpu"), tensors, source, dtype)


def build_vae(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: Path, dtype: torch.dtype
) -> Any:
    """An autoencoder of a configuration, which names one of AUTOENCODERS, and weights."""
    name = config["_class_name"]
    found: Any = need_class("diffusers", "ModelMixin" if name == "PatchAutoencoder" else name, WHY)
    if name == "PatchAutoencoder":
        from .patch_autoencoder import PatchAutoencoder

        found = PatchAutoencoder
    return filled(configured(lambda: found.from_config(dict(config)), source), tensors, source, dtype)


def build_text_encoder(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: Path, dtype: torch.dtype
) -> Any:
    """A CLIPTextModel of a configuration and weights, named with or without the prefix "text_model.".

    Transformers dropped that prefix from the model in version 5.6; files carry it or not.
    """
    model_class: Any = need_class("transformers", "CLIPTextModel", WHY)
    config_class: Any = need_class("transformers", "CLIPTextConfig", WHY)
    model = configured(lambda: model_class(config_class.from_dict(dict(config))), source)
    short = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    # Position numbers are no weights; the pooled projection of some exports is not part of this class.
    short = {n: t for n, t in short.items() if n not in ("embeddings.position_ids", "text_projection.weight")}
    prefix = "text_model." if hasattr(model, "text_model") else ""
    return filled(model, {prefix + name: tensor for name, tensor in short.items()}, source, dtype)


def load_unet(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The U-Net of a diffusers component folder."""
    return build_unet(config, _all_tensors(find_weights(folder, DIFFUSERS_STEM)), folder, dtype)


def load_vae(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The autoencoder of a diffusers component folder."""
    tensors = _all_tensors(find_weights(folder, DIFFUSERS_STEM))
    if config["_class_name"] == "AutoencoderKL":
        tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
    return build_vae(config, tensors, folder, dtype)


def load_text_encoder(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The text encoder of a transformers component folder."""
    return build_text_encoder(config, _all_tensors(find_weights(folder, TRANSFORMERS_STEM)), folder, dtype)


def text_encoder_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a CLIPTextModel under the names that every version of transformers reads."""
    return {"text_model." + name.removeprefix("text_model."): t for name, t in model.state_dict().items()}


def load_tokenizer(folder: Path, text_encoder: Any) -> Any:
    """A tokenizer that fits the text encoder: CLIP's vocab.json and merges.txt, or a tokenizer.json."""
    vocabulary, merges, single = (folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
    settings = (
        read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    )
    try:
        if vocabulary.is_file() and merges.is_file():
            clip: Any = need_class("transformers", "CLIPTokenizerFast", WHY)
            tokenizer = clip.from_pretrained(str(folder), local_files_only=True)
        elif single.is_file():
            fast: Any = need_class("transformers", "PreTrainedTokenizerFast", WHY)
            tokenizer = fast(tokenizer_file=str(single), **_special_tokens(settings))
        else:
            raise EmuEditError(
                f"{folder} holds no tokenizer; it needs vocab.json and merges.txt, or tokenizer.json."
            )
    except EmuEditError:
        raise
    except Exception as problem:  # the tokenizers library raises bare Exception for files it cannot parse
        raise EmuEditError(
            f"{folder}: its tokenizer is not readable ({problem}); download it again."
        ) from problem
    words, rows = len(tokenizer), int(text_encoder.config.vocab_size)
    if words > rows:
        raise EmuEditError(
            f"{folder}: its tokenizer knows {words} tokens but the text encoder has {rows}; use the "
            "tokenizer that came with the model."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # Without a configuration file the length is unlimited, which the position table is not.
    tokenizer.model_max_length = min(
        int(tokenizer.model_max_length), int(text_encoder.config.max_position_embeddings)
    )
    return tokenizer


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token")
    found = {name: settings[name] for name in names if settings.get(name) is not None}
    plain = {name: token["content"] if isinstance(token, dict) else token for name, token in found.items()}
    length = settings.get("model_max_length")
    return plain | ({"model_max_length": int(length)} if length is not None else {})


def _renamed(name: str) -> str:
    # Autoencoders saved before diffusers 0.17 name their attention layers otherwise.
    if ".attentions." in name:
        for old, new in _OLD_ATTENTION:
            name = name.replace(old, new)
    return name


def _all_tensors(files: list[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_tensors(file)
    return tensors
