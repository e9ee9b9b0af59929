"""What the bundled editor is trained on, for one batch.

Six things differ from the plain objective of Emu Edit (equation 2 of the paper), each because the budget
is hours of a CPU and not weeks of a cluster: the network predicts the change from the input picture; errors
count as they show in the picture (`seen_share`); they count by their size as well as by their square, since
an edit of one step that fears nothing but large errors is a blur (`shown_error`); the error of each sample is
taken relative to what there is to draw (`drawn_energy`), or a small object's edit would count for nothing
beside a new background, and a skeleton for nothing beside the black around it; discarded outputs learn where
the edit is, which teaches "the red ball" sooner; and others what stands where before and after (`layout`),
which teaches what a ball looks like.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.diffusers_backbone import DiffusersBackbone, picture_change
from ...core.patch_autoencoder import PatchAutoencoder
from .data import to_planes
from .layout import layout_output, surprise
from .recipe import Recipe


class Trainee(nn.Module):
    """All that is trained, under one roof: U-Net, task table, and the outputs for masks and layouts.

    What reads the words (text encoder, the U-Net's pooling of them) was taught before and stays as it is: the
    noise of a few thousand pictures undoes it, and Muon's steps are as long however little a gradient says.
    """

    def __init__(self, editor: DiffusersBackbone, recipe: Recipe, bf16: bool = False) -> None:
        super().__init__()
        assert editor.conditioner is not None
        self._bf16 = bf16
        self.unet, self.text_encoder, self.tasks = editor.unet, editor.text_encoder, editor.conditioner
        self.fine_mask = nn.Conv2d(recipe.channels[0], 1, 1)
        self.coarse_mask = nn.Conv2d(recipe.channels[-1], 1, 1)
        for output in (self.fine_mask, self.coarse_mask):  # the features they read may be large already
            for weight in output.parameters():
                nn.init.zeros_(weight)
        # What stands where: in the input on the way down, in the answer in the middle and on the way up.
        *_, middling, coarsest = recipe.channels
        with torch.random.fork_rng(devices=[]):  # a run that begins anew begins alike
            torch.manual_seed(recipe.world_seed)
            self.input_layout = layout_output(middling, recipe.groups)
            self.middle_layout = layout_output(coarsest, recipe.groups)
            self.answer_layout = layout_output(middling, recipe.groups)
        self._unet_input = editor.unet_input
        self._features: dict[str, Tensor] = {}
        self._pooled = True
        self.unet.add_embedding.register_forward_hook(
            lambda _, __, pooled: pooled if self._pooled else 0 * pooled
        )
        for reads in (self.text_encoder, self.unet.add_embedding):
            reads.requires_grad_(False)
        rising = self.unet.up_blocks[1]
        last = (getattr(rising, "attentions", None) or rising.resnets)[-1]
        self.unet.conv_norm_out.register_forward_pre_hook(self._keeping_input("fine"))
        self.unet.down_blocks[-2].downsamplers[0].register_forward_pre_hook(self._keeping_input("down"))
        self.unet.mid_block.register_forward_hook(self._keeping_output("coarse"))
        last.register_forward_hook(self._keeping_output("up"))

    def _keeping_input(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._features[name] = inputs[0]

        return keep

    def _keeping_output(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            self._features[name] = output[0] if isinstance(output, tuple) else output

        return keep

    def _computing(self, device: torch.device) -> AbstractContextManager[object]:
        """Within it matrices are multiplied in bfloat16, if so asked; callers cast what comes out."""
        return torch.autocast(device.type, torch.bfloat16) if self._bf16 else nullcontext()

    def forward(self, z: Tensor, t: Tensor, ids: Tensor, image: Tensor, task: Tensor):
        """The change [B,C,h,w] and the logits of the edit's mask, fine [B,1,h,w] and on the coarsest grid."""
        entering = self._unet_input(z, t, image)
        with self._computing(z.device):
            hidden = self.text_encoder(ids)[0]
            vector = self.tasks.table(task)
            hidden = self.tasks.condition_context(hidden, vector)
            output = self.unet(
                entering, t, encoder_hidden_states=hidden, class_labels=vector, return_dict=False
            )[0]
            fine, coarse = self._features["fine"], self._features["coarse"]
            logits = self.fine_mask(fine), self.coarse_mask(coarse)
        return picture_change(output.float(), image), logits[0].float(), logits[1].float()

    def layout_loss(self, before: Tensor | None, after: Tensor) -> Tensor:
        """[B]: how little the features of the last pass tell of the scenes (uint8, see layout.layout), the
        mean over two outputs, or three with `before`, which is None where no picture went in.
        """
        kept = self._features
        with self._computing(after.device):
            told = [(self.middle_layout(kept["coarse"]), after), (self.answer_layout(kept["up"]), after)]
            if before is not None:
                told.append((self.input_layout(kept["down"]), before))
        return torch.stack([surprise(logits.float(), true) for logits, true in told]).mean(0)

    def pictures(self, z: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """The clean latents [B,C,h,w] of noisy ones by words alone: no input picture and no task.

        The words come by cross-attention only, not pooled as well, or attention control would have no hold.
        """
        nothing = torch.zeros(len(z), self.tasks.task_width, device=z.device)
        entering = self._unet_input(z, t, torch.zeros_like(z))
        self._pooled = False
        try:
            with self._computing(z.device):
                output = self.unet(
                    entering,
                    t,
                    encoder_hidden_states=self.text_encoder(ids)[0],
                    class_labels=nothing,
                    return_dict=False,
                )[0]
        finally:
            self._pooled = True
        return output[:, : z.shape[1]].float()  # the gate works on the input picture, which is zero


def draw_timesteps(count: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Timesteps [count] leaning to high noise; a share of them at the last, where only the words speak."""
    u = torch.rand(count, generator=generator)
    t = (u.sqrt() * recipe.train_steps).long().clamp(max=recipe.train_steps - 1)
    pure = torch.rand(count, generator=generator) < recipe.pure_noise_share
    return torch.where(pure, torch.full_like(t, recipe.train_steps - 1), t)


@torch.no_grad()
def seen_share(vae: PatchAutoencoder) -> Tensor:
    """[1,C,1,1]: how much a squared error in a latent channel shows in the picture; 1 for latents on average.

    Latents are half way to white: left alone, the many channels of fine detail would be most of the loss, and
    what they hold is little of what a person sees.
    """
    power = vae.synthesis.weight.square().sum((0, 2, 3))  # the latents' variances, but for a factor
    return (power * power.mean() / power.square().mean()).reshape(1, -1, 1, 1)


def shown_error(vae: PatchAutoencoder, error: Tensor, x0: Tensor, wanted: Tensor, floor: float) -> Tensor:
    """[B]: the mean absolute error of the pictures, for an error of latents [B,C,h,w], relative to what there
    is to draw, as in drawn_energy; `floor` in pixels of -1..1.

    A part of the picture that holds something in q of all cases is then drawn in full or left out unless q is
    near a half; by squares alone it would be drawn q strong.
    """
    planes = functools.partial(F.conv2d, weight=vae.synthesis.weight.detach())
    with torch.no_grad():
        varied = planes(x0 - x0.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3))
        size = torch.minimum(planes(wanted).abs().mean((1, 2, 3)), varied)
    return planes(error).abs().mean((1, 2, 3)) / (size + floor)


def drawn_energy(x0: Tensor, wanted: Tensor) -> Tensor:
    """[B]: the mean square of the change, or of what the target [B,C,h,w] holds beyond its mean, if smaller.

    Of a map, most of the change is that the picture goes, which a blank page does as well.
    """
    varied = (x0 - x0.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    return torch.minimum(wanted.square().mean((1, 2, 3)), varied)


def batch_loss(
    trainee: Trainee,
    editor: DiffusersBackbone,
    batch: dict[str, Any],
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and what to log: relative errors [B], timesteps [B], which samples had words and
    picture [B], mask loss, and the layout loss where scenes are known.
    """
    with torch.no_grad():
        scale, device = editor.vae.config.scaling_factor, editor.device
        both = to_planes(torch.cat([batch["source"], batch["target"]]).to(device))
        image, x0 = (editor.vae.encode(both).latent_dist.mode() * scale).chunk(2)
        count = len(x0)
        # Chance is drawn on the CPU, so that a run is the same on every device.
        t = draw_timesteps(count, recipe, generator).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        z = editor.schedule.add_noise(x0, noise, t)
        # One draw decides what is dropped, as in InstructPix2Pix's trainer.
        u = torch.rand(count, generator=generator).to(device)
        text_only, both_dropped, image_only = recipe.dropped
        no_text = u < text_only + both_dropped
        no_image = (u >= text_only) & (u < text_only + both_dropped + image_only)
        image = image * (~no_image)[:, None, None, None]
        words = [w if not n else "" for w, n in zip(batch["instruction"], no_text.tolist(), strict=True)]
        rows = editor.tokenizer(words, padding="max_length", max_length=recipe.text_tokens, truncation=True)
        ids = torch.tensor(rows["input_ids"], device=device)
        task = torch.tensor([trainee.tasks.names.index(name) for name in batch["task"]], device=device)
        wanted = x0 - image
        share = seen_share(editor.vae)
        size = drawn_energy(x0 * share.sqrt(), wanted * share.sqrt())
        fine = F.interpolate(batch["mask"][:, None].to(device).float() / 255, size=x0.shape[2:], mode="area")
        coarse = F.avg_pool2d(fine, 2 ** (len(recipe.channels) - 1))
    change, fine_logits, coarse_logits = trainee(z, t, ids, image, task)
    relative = ((change - wanted).square() * share).mean((1, 2, 3)) / (size + recipe.change_floor)
    shown = shown_error(editor.vae, change - wanted, x0, wanted, recipe.shown_floor)
    weight = torch.where(no_image, recipe.dropped_image_weight, 1.0)
    seen = (~(no_text | no_image)).float()[:, None, None, None]
    mask_loss = _mask_loss(fine_logits, fine, seen) + _mask_loss(coarse_logits, coarse, seen)
    loss = ((relative + shown) / 2 * weight).mean() + recipe.mask_weight * mask_loss
    informed = ~(no_text | no_image)
    logged = {"relative": relative.detach(), "t": t, "informed": informed, "mask": mask_loss.detach()}
    if "after" in batch:  # pairs of other pictures than the world's come without a scene
        lost = trainee.layout_loss(batch["before"].to(device), batch["after"].to(device))
        told = (lost * informed).mean()
        loss, logged["layout"] = loss + recipe.layout_weight * told, told.detach()
    return loss, logged


def _mask_loss(logits: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
    return (F.binary_cross_entropy_with_logits(logits, mask, reduction="none") * seen).mean()
