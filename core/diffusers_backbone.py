"""A U-Net, a VAE and a text encoder of diffusers and transformers, as a Backbone.

The parts are used as given and diffusers itself is not imported here. Any U-Net with the interface of
UNet2DConditionModel will do: SD 1.5, InstructPix2Pix, and those with task vectors (see task_conditioning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .attention.hook import attached
from .attention.layers import AttentionControl
from .backbone import NoiseSchedule, TextContext
from .errors import EmuEditError
from .positions import CHANNELS, positions
from .task_conditioning import TaskConditioner

PUNCTUATION = ".,;:!?\"'()"
PREDICTS = ("epsilon", "v_prediction", "sample", "change")


def picture_change(output: Tensor, start: Tensor) -> Tensor:
    """The change [B,C,h,w] of latents `start` [B,C,h,w] that a "change" network's output means.

    The output is the change itself, or has one channel more: a gate m, and the change is f - m * start. A
    narrow network can then clear a place for something new without spelling out what stood there.
    """
    channels = start.shape[1]
    if output.shape[1] == channels:
        return output
    return output[:, :channels] - output[:, channels:] * start


class DiffusersBackbone:
    """See Backbone. The modules are kept, not copied; their training or evaluation mode is the caller's.

    `predicts`: None for what the scheduler's config says; "change" for a network whose output f is the change
    from the input picture, x0 = image + f (see picture_change), which is handed on as v so that nothing else
    need know (an output layer that starts at zero then leaves the picture as it is).
    `image_condition`: "unscaled" as InstructPix2Pix was trained, or "scaled" like the diffused latents.
    `latent_input`: "noisy" for a U-Net that reads z_t, as all published ones; "estimate" for one that reads
    sqrt(abar_t) z_t, the best linear guess at latents of unit variance: pure noise is then not read at all.
    `position_frequencies`: how many waves of positions.positions its U-Net reads as well, after the rest.
    Raises EmuEditError when the parts do not belong together.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler_config: Mapping[str, Any],
        conditioner: TaskConditioner | None = None,
        *,
        name: str,
        predicts: str | None = None,
        image_condition: str = "unscaled",
        latent_input: str = "noisy",
        position_frequencies: int = 0,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.unet, self.vae, self.text_encoder, self.tokenizer = unet, vae, text_encoder, tokenizer
        self.scheduler_config, self.conditioner, self.name = dict(scheduler_config), conditioner, name
        self.image_condition_scale, self.defaults = image_condition, dict(defaults or {})
        self.latent_input, self.position_frequencies = latent_input, position_frequencies
        schedule = NoiseSchedule.from_diffusers(scheduler_config)
        self.predicts = predicts or schedule.prediction_type
        if self.predicts not in PREDICTS:
            raise EmuEditError(
                f"editor {name!r}: it predicts {self.predicts!r}, but only {', '.join(PREDICTS)} are known; "
                "correct the model's configuration."
            )
        native = "v_prediction" if self.predicts == "change" else self.predicts
        self.schedule = replace(schedule, prediction_type=native)
        if image_condition not in ("scaled", "unscaled"):
            raise EmuEditError(
                f"editor {name!r}: image_condition is {image_condition!r}; it must be scaled or unscaled."
            )
        if latent_input not in ("noisy", "estimate"):
            raise EmuEditError(
                f"editor {name!r}: latent_input is {latent_input!r}; it must be noisy or estimate."
            )
        self._check_parts()

    def _check_parts(self) -> None:
        config, latent = self.unet.config, self.latent_channels
        if self._content_channels not in (latent, 2 * latent):
            beside = f" beside {self.position_channels} of position" if self.position_channels else ""
            raise EmuEditError(
                f"editor {self.name!r}: its U-Net takes {self._content_channels} channels{beside} but its "
                f"VAE makes {latent}; an editor takes {2 * latent}, a text-to-image model {latent}."
            )
        if self.predicts == "change" and not self.takes_image:
            raise EmuEditError(
                f"editor {self.name!r}: it predicts the change of a picture that its U-Net never sees; "
                f"use a U-Net of {2 * latent} input channels."
            )
        kind = getattr(config, "class_embed_type", None)
        if kind not in (None, "simple_projection"):
            raise EmuEditError(
                f"editor {self.name!r}: its U-Net has class embeddings of type {kind!r}, which no task "
                "vector fits; only simple_projection is known."
            )
        width = self.unet.config.projection_class_embeddings_input_dim if kind else None
        if self.conditioner is not None and width != self.conditioner.task_width:
            raise EmuEditError(
                f"editor {self.name!r}: its U-Net takes task vectors of width {width} but its task table has "
                f"width {self.conditioner.task_width}; load the two parts of one model."
            )

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def downscale(self) -> int:
        own = getattr(self.vae.config, "patch_size", None)
        return int(own) if own else 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_multiple(self) -> int:
        return self.downscale * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def position_channels(self) -> int:
        return CHANNELS * self.position_frequencies

    @property
    def _content_channels(self) -> int:
        return int(self.unet.config.in_channels) - self.position_channels

    @property
    def takes_image(self) -> bool:
        return self._content_channels == 2 * self.latent_channels

    @property
    def task_width(self) -> int | None:
        return None if self.conditioner is None else self.conditioner.task_width

    @property
    def task_names(self) -> tuple[str, ...]:
        return () if self.conditioner is None else self.conditioner.names

    @property
    def task_base(self) -> str:
        return "" if self.conditioner is None else self.conditioner.fingerprint()

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> DiffusersBackbone:
        """Move all parts, in place; returns itself. Task vectors stay float32."""
        for part in (self.unet, self.vae, self.text_encoder, self.conditioner):
            if part is not None:
                # Not part.to: diffusers' own prints a line about float32 modules, of which there are none.
                torch.nn.Module.to(part, device=device, dtype=dtype)
        return self

    def encode_image(self, images: Tensor) -> Tensor:
        """Latents [B,C,h,w] of pictures [B,H,W,3] in 0..1, scaled as the diffusion sees them."""
        return self._mode(images) * self.vae.config.scaling_factor

    def image_condition(self, images: Tensor) -> Tensor:
        """Latents [B,C,h,w] of pictures as the U-Net reads its input picture."""
        return self.encode_image(images) if self.image_condition_scale == "scaled" else self._mode(images)

    def _mode(self, images: Tensor) -> Tensor:
        planes = images.movedim(-1, 1).to(self.vae.device, self.vae.dtype)
        posterior = self.vae.encode(planes * 2.0 - 1.0)
        mode = posterior.latent_dist.mode() if hasattr(posterior, "latent_dist") else posterior.latents
        return mode.to(self.device, self.dtype)

    def latents_read(self, latents: Tensor, timestep: int | Tensor) -> Tensor:
        """What the U-Net reads of noisy latents [B,C,h,w] at a timestep, one or [B]: see `latent_input`."""
        if self.latent_input == "noisy":
            return latents
        alpha = self.schedule.alpha_sigma(timestep)[0].to(latents.dtype).to(latents.device)
        return latents * alpha.reshape(-1, 1, 1, 1)

    def unet_input(self, latents: Tensor, timestep: int | Tensor, image: Tensor | None) -> Tensor:
        """What the U-Net is given: noisy latents [B,C,h,w] as it reads them, the input picture's condition
        [B,C,h,w] if it takes one (None: an empty picture), and positions if it takes these.
        """
        if self.takes_image and image is None:
            image = torch.zeros_like(latents)
        parts = [self.latents_read(latents, timestep)]
        if image is not None:
            parts.append(image.to(latents))
        if self.position_frequencies:
            waves = positions(self.position_frequencies, latents.shape[2], latents.shape[3], latents)
            parts.append(waves.expand(len(latents), -1, -1, -1))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pictures [B,H,W,3], float32 in 0..1."""
        return self.decode_beyond(latents).clamp(0, 1)

    def decode_beyond(self, latents: Tensor) -> Tensor:
        """The same before values are cut off at 0 and 1, beyond which no gradient would pass."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.device, self.vae.dtype)
        planes = self.vae.decode(scaled).sample
        return (planes.float() / 2 + 0.5).movedim(1, -1).contiguous()

    def encode_text(self, texts: Sequence[str]) -> TextContext:
        """Hidden states [B,L,C], L the encoder's full length. What cannot be read is in `notes`."""
        config = self.text_encoder.config
        length = min(int(self.tokenizer.model_max_length), int(config.max_position_embeddings))
        rows = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_attention_mask=True,
        )
        ids = torch.tensor(rows["input_ids"], device=self.text_encoder.device)
        mask = None
        if getattr(config, "use_attention_mask", False):
            mask = torch.tensor(rows["attention_mask"], device=self.text_encoder.device)
        hidden = self.text_encoder(ids, attention_mask=mask)[0].to(self.device, self.dtype)
        words = [text.split() for text in texts]
        token_words = [self._token_words(w, row) for w, row in zip(words, rows["input_ids"], strict=True)]
        read = zip(words, token_words, rows["input_ids"], strict=True)
        notes = tuple(note for w, row, ids in read for note in self._notes(w, row, ids))
        kept = zip(rows["input_ids"], rows["attention_mask"], strict=True)
        spelt = [[i for i, used in zip(row, seen, strict=True) if used] for row, seen in kept]
        return TextContext(hidden, token_words, words, notes, spelt)

    def _notes(self, words: list[str], row: list[int], ids: list[int]) -> list[str]:
        """Sentences about words beyond the encoder's length and outside its vocabulary."""
        notes, special = [], (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        if words and max(row) < len(words) - 1:
            notes.append(
                f"The instruction is too long: it is read up to {words[max(row)]!r}, and no further."
            )
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown in special:  # CLIP's tokenizer spells every word out
            return notes
        met = [words[w].strip(PUNCTUATION) for w, i in zip(row, ids, strict=True) if w >= 0 and i == unknown]
        strange = [w for w in dict.fromkeys(met) if unknown in self.tokenizer(w)["input_ids"]]
        if strange:
            notes.append(f"The editor {self.name!r} does not know the words {', '.join(map(repr, strange))}.")
        return notes

    def _token_words(self, words: list[str], ids: list[int]) -> list[int]:
        """For each token id of a text, the index of its word, or -1.

        Found from the token counts of the text's beginnings, which holds for any tokenizer that reads from
        left to right, with or without character offsets.
        """
        row = [-1] * len(ids)
        if not words:
            return row
        starts = [" ".join(words[: k + 1]) for k in range(len(words))]
        ends = [len(found) for found in self.tokenizer(starts, add_special_tokens=False)["input_ids"]]
        first = 1 if ids[0] in (self.tokenizer.bos_token_id, self.tokenizer.cls_token_id) else 0
        begin = 0
        for index, end in enumerate(ends):
            for token in range(begin, end):
                # The last place is kept for the end-of-text token, also in texts that were cut.
                if first + token < len(ids) - 1:
                    row[first + token] = index
            begin = end
        return row

    def task_vector(self, name: str) -> Tensor:
        """The vector [D] of a named task. Raises EmuEditError if this editor does not know it."""
        if self.conditioner is None:
            raise EmuEditError(f"task {name!r}: the editor {self.name!r} has no tasks; use none.")
        return self.conditioner.vector(name)

    def predict(
        self,
        latents: Tensor,
        timestep: int | Tensor,
        text: TextContext,
        image: Tensor | None = None,
        task: Tensor | None = None,
        control: AttentionControl | None = None,
    ) -> Tensor:
        """See Backbone.predict. The network runs in its own type; what surrounds it in that of `latents`."""
        batch = latents.shape[0]
        if self.takes_image and image is None:
            image = torch.zeros_like(latents)
        hidden = text.hidden
        if task is not None:
            if self.conditioner is None:
                raise EmuEditError(f"editor {self.name!r}: it has no tasks; run it without one.")
            hidden = self.conditioner.condition_context(hidden, task)
        inputs = self.unet_input(latents, timestep, image)
        labels = None
        if getattr(self.unet.config, "class_embed_type", None) is not None:
            width = self.unet.config.projection_class_embeddings_input_dim
            labels = latents.new_zeros(batch, width) if task is None else task.expand(batch, -1)
            labels = labels.to(self.device, self.dtype)
        with attached(self.unet, control, (latents.shape[2], latents.shape[3])):
            output = self.unet(
                inputs.to(self.dtype),
                timestep.to(self.device) if isinstance(timestep, Tensor) else timestep,
                encoder_hidden_states=hidden.to(self.dtype),
                class_labels=labels,
                return_dict=False,
            )[0].to(latents.dtype)
        if self.predicts != "change" or image is None:
            return output
        start = image.to(latents)
        if self.image_condition_scale == "unscaled":
            start = start * self.vae.config.scaling_factor
        return self.schedule.from_x0(start + picture_change(output, start), latents, timestep)
