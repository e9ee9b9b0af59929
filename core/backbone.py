"""What every algorithm here asks of a diffusion editor, and the noise schedule they share.

A latent z at training timestep t is z = alpha_t * x0 + sigma_t * eps with alpha_t = sqrt(abar_t) and
sigma_t = sqrt(1 - abar_t). Timestep -1 stands for the clean end of sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .attention.layers import AttentionControl
from .errors import EmuEditError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")


def rescale_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale sqrt(abar) [T] so that the last step is pure noise and the first is as it was.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2305.08891), algorithm 1.
    """
    root = alphas_cumprod.double().sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * (first / (first - last))) ** 2


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A discrete variance-preserving noise schedule and what the network predicts under it.

    `alphas_cumprod` [T] float64 on the CPU, in [0, 1], falling. The rest has the meaning of the options of
    the same name of diffusers' DDIMScheduler, whose timesteps these are; latents are never clipped.
    """

    alphas_cumprod: Tensor
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas_cumprod", self.alphas_cumprod.detach().to("cpu", torch.float64))
        for name, allowed in (("prediction_type", PREDICTION_TYPES), ("timestep_spacing", SPACINGS)):
            value = getattr(self, name)
            if value not in allowed:
                raise EmuEditError(
                    f"noise schedule: {name} is {value!r}, but only {', '.join(allowed)} are known; "
                    "use a checkpoint with one of these."
                )

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """The schedule that DDIMScheduler.from_config(config) would follow, from any scheduler's config.

        Raises EmuEditError for schedules that are not defined by betas (flow matching, for one).
        """
        steps = int(config.get("num_train_timesteps", 1000))
        betas = _betas(config, steps)
        # float32 on purpose: the very numbers the checkpoint was trained with.
        alphas_cumprod = torch.cumprod(1.0 - betas, dim=0).double()
        if config.get("rescale_betas_zero_snr", False):
            alphas_cumprod = rescale_zero_terminal_snr(alphas_cumprod)
        return cls(
            alphas_cumprod,
            prediction_type=str(config.get("prediction_type", "epsilon")),
            timestep_spacing=str(config.get("timestep_spacing", "leading")),
            steps_offset=int(config.get("steps_offset", 0)),
            set_alpha_to_one=bool(config.get("set_alpha_to_one", True)),
        )

    @property
    def train_steps(self) -> int:
        """T, how many timesteps the model was trained with."""
        return self.alphas_cumprod.shape[0]

    @property
    def zero_terminal_snr(self) -> bool:
        """True when the last timestep is pure noise."""
        return float(self.alphas_cumprod[-1]) < 1e-12

    def timesteps(self, steps: int) -> Tensor:
        """`steps` descending timesteps, LongTensor [steps], equal to DDIMScheduler.set_timesteps.

        Two exceptions, where those would leave the model's domain: nothing exceeds T-1, and a model that
        predicts the noise starts at T-2 under zero terminal SNR (z holds nothing to recover x0 from at T-1).
        Raises EmuEditError unless 1 <= steps <= T.
        """
        total = self.train_steps
        if not 1 <= steps <= total:
            raise EmuEditError(f"sampling: {steps} steps asked for; choose between 1 and {total}.")
        if self.timestep_spacing == "linspace":
            times = np.linspace(0, total - 1, steps).round()[::-1].astype(np.int64)
        elif self.timestep_spacing == "leading":
            times = (np.arange(steps) * (total // steps))[::-1] + self.steps_offset
        else:
            # [:steps]: rounding of the float stride can make arange one longer.
            times = np.round(np.arange(total, 0, -total / steps))[:steps].astype(np.int64) - 1
        latest = total - 2 if self.zero_terminal_snr and self.prediction_type == "epsilon" else total - 1
        return torch.from_numpy(times.copy()).clamp(max=latest)

    def alpha_sigma(self, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(abar_t), sqrt(1 - abar_t)), float64, shaped like `t`; t = -1 is the end of sampling.

        The end is (1, 0), or the first trained level when `set_alpha_to_one` is False, as in DDIMScheduler.
        """
        if isinstance(t, Tensor):
            abar = self.alphas_cumprod[t.to("cpu", torch.int64)]
        elif t < 0:
            abar = torch.ones((), dtype=torch.float64) if self.set_alpha_to_one else self.alphas_cumprod[0]
        else:
            abar = self.alphas_cumprod[t]
        return abar.sqrt(), (1 - abar).sqrt()

    def add_noise(self, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """z_t from clean latents and noise [B,...]; `t` is one timestep or a LongTensor [B]."""
        alpha, sigma = self._levels(t, x0)
        return alpha * x0 + sigma * eps

    def target(self, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """What the network ought to predict at z_t = add_noise(x0, eps, t), in `prediction_type`."""
        if self.prediction_type == "epsilon":
            return eps
        if self.prediction_type == "sample":
            return x0
        alpha, sigma = self._levels(t, x0)
        return alpha * eps - sigma * x0  # v: Salimans & Ho 2022 (2202.00512), appendix D

    def to_x0(self, pred: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """The clean latents implied by a prediction at z_t (undefined for "epsilon" where alpha_t = 0)."""
        alpha, sigma = self._levels(t, z)
        if self.prediction_type == "epsilon":
            return (z - sigma * pred) / alpha
        return pred if self.prediction_type == "sample" else alpha * z - sigma * pred

    def to_eps(self, pred: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """The noise implied by a prediction at z_t."""
        alpha, sigma = self._levels(t, z)
        if self.prediction_type == "sample":
            return (z - alpha * pred) / sigma
        return pred if self.prediction_type == "epsilon" else alpha * pred + sigma * z

    def from_x0(self, x0: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """The prediction, in `prediction_type`, that implies `x0` at z_t: the inverse of to_x0."""
        if self.prediction_type == "sample":
            return x0
        alpha, sigma = self._levels(t, z)
        return (z - alpha * x0) / sigma if self.prediction_type == "epsilon" else (alpha * z - x0) / sigma

    def _levels(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma ready to multiply `like` [B,...]."""
        alpha, sigma = self.alpha_sigma(t)
        if alpha.ndim == 0:
            return alpha, sigma  # numbers on the CPU neither promote nor move what they multiply
        shape = (-1,) + (1,) * (like.ndim - 1)
        alpha, sigma = alpha.view(shape), sigma.view(shape)
        # The type first: some devices have no float64.
        return alpha.to(like.dtype).to(like.device), sigma.to(like.dtype).to(like.device)


def _betas(config: Mapping[str, Any], steps: int) -> Tensor:
    """The betas [T] float32 of a diffusers scheduler's config, computed in the same order as there."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    kind = config.get("beta_schedule", "linear")
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float32)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2
    if kind == "squaredcos_cap_v2":
        bar = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return torch.tensor([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(steps)], dtype=torch.float32)
    raise EmuEditError(
        f"noise schedule: beta_schedule is {kind!r}, but only linear, scaled_linear and squaredcos_cap_v2 "
        "are known; use a checkpoint with one of these."
    )


@dataclass
class TextContext:
    """Encoded texts: `hidden` [B,L,C], and which word each of the L tokens belongs to.

    `words[b]` are the whitespace-separated words of text b; `token_words[b][l]` is an index into them, or -1
    for special and padding tokens. `ids[b]` are text b's token ids from begin to end of text, without
    padding; no list, or an empty one, where the backbone does not tell them. `notes` are sentences about what
    of these texts could not be read; they stay with the context that encode_text returned and not with parts
    of it.
    """

    hidden: Tensor
    token_words: list[list[int]] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    ids: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def __getitem__(self, rows: slice) -> TextContext:
        return TextContext(self.hidden[rows], self.token_words[rows], self.words[rows], ids=self.ids[rows])

    def repeat(self, times: int) -> TextContext:
        """The whole batch `times` times over: [times*B,L,C]."""
        hidden = self.hidden.repeat(times, 1, 1)
        return TextContext(hidden, self.token_words * times, self.words * times, ids=self.ids * times)

    def expand(self, batch: int) -> TextContext:
        """One text for `batch` pictures; as it is when there are that many already."""
        return self.repeat(batch) if len(self) == 1 and batch > 1 else self

    @staticmethod
    def cat(parts: Sequence[TextContext]) -> TextContext:
        """Several batches of equal token length, one after the other."""
        return TextContext(
            torch.cat([part.hidden for part in parts]),
            [row for part in parts for row in part.token_words],
            [row for part in parts for row in part.words],
            # Half a list would tell the wrong rows.
            ids=[row for part in parts for row in part.ids] if all(part.ids for part in parts) else [],
        )


class Backbone(Protocol):
    """A latent diffusion editor. Images are [B,H,W,3] in 0..1; latents [B,C,h,w] with h = H / downscale.

    Nothing here draws random numbers or switches gradients off, so that methods may optimise through it.
    """

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def schedule(self) -> NoiseSchedule: ...
    @property
    def downscale(self) -> int:
        """Pixels per latent, along a side."""

    @property
    def size_multiple(self) -> int:
        """Working sizes are multiples of this many pixels, so that every level of the network divides."""

    @property
    def latent_channels(self) -> int: ...
    @property
    def takes_image(self) -> bool:
        """True for editors, whose network sees the input picture; False for text-to-image models."""

    @property
    def task_width(self) -> int | None:
        """D of a task vector, or None for an editor without tasks."""

    @property
    def task_names(self) -> tuple[str, ...]: ...
    @property
    def task_base(self) -> str:
        """The fingerprint that task files for this editor carry; "" without tasks."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Settings this editor works best with: steps, text_guidance, image_guidance, size."""

    def encode_image(self, images: Tensor) -> Tensor:
        """Latents of pictures (posterior mode), scaled as the diffusion sees them."""

    def image_condition(self, images: Tensor) -> Tensor:
        """Latents of pictures as the network reads its input picture (SD InstructPix2Pix: unscaled)."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pictures, float32 clamped to 0..1, of latents as the diffusion sees them."""

    def encode_text(self, texts: Sequence[str]) -> TextContext: ...

    def task_vector(self, name: str) -> Tensor:
        """The vector [D] of a named task."""

    def predict(
        self,
        latents: Tensor,
        timestep: int | Tensor,
        text: TextContext,
        image: Tensor | None = None,
        task: Tensor | None = None,
        control: AttentionControl | None = None,
    ) -> Tensor:
        """The network's prediction [B,C,h,w] in `schedule.prediction_type`, in the type of `latents`.

        `timestep` is one for all or a LongTensor [B]; `image` [B,C,h,w] from image_condition, None for the
        null picture (zeros); `task` [B,D], None for no task (zeros). `control` steps in at the layers that it
        wants (see attention.layers), for this call only: afterwards the network is what it was.
        """
