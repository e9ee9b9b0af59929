"""A trained editor in a larger recipe: more words, longer texts, a finer autoencoder, the same pictures.

What was there keeps its weights and its meaning; what is new starts where it changes next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.diffusers_backbone import DiffusersBackbone
from ...core.errors import EmuEditError
from ...core.patch_autoencoder import PatchAutoencoder
from .models import build_text_encoder, build_tokenizer, build_unet, scheduler_config
from .recipe import Recipe


def grown(
    editor: DiffusersBackbone, recipe: Recipe, words: Sequence[str], pictures: Tensor, seed: int = 0
) -> DiffusersBackbone:
    """The editor with the recipe's sizes; `pictures` [B,3,S,S] in -1..1 give new latent channels.

    Raises EmuEditError if it is no earlier stage of the recipe.
    """
    torch.manual_seed(seed)
    if editor.predicts != "change" or not isinstance(editor.vae, PatchAutoencoder):
        raise EmuEditError(
            f"training: {editor.name} is no editor of this recipe (it predicts {editor.predicts!r}); "
            "leave --from out, or give a folder that an earlier run exported."
        )
    try:
        vae = _finer(editor.vae, recipe, pictures)
        unet = _wider(editor, recipe)
        tokenizer = build_tokenizer(words, recipe.text_tokens)
        text_encoder = _with_words(editor, recipe, tokenizer)
    except (RuntimeError, ValueError) as error:
        raise EmuEditError(
            f"training: {editor.name} does not fit the recipe ({str(error).splitlines()[-1].strip()}); "
            "leave --from out, or give an editor of this recipe."
        ) from error
    return DiffusersBackbone(
        unet,
        vae,
        text_encoder,
        tokenizer,
        scheduler_config(recipe),
        editor.conditioner,
        name=editor.name,
        predicts="change",
        image_condition="scaled",
        defaults=recipe.defaults,
    )


@torch.no_grad()
def _finer(old: PatchAutoencoder, recipe: Recipe, pictures: Tensor) -> PatchAutoencoder:
    """The old components, and after them those of what the old ones leave over."""
    have, want = int(old.config.latent_channels), recipe.latent_channels
    if want == have:
        return old
    if want < have or old.config.patch_size != recipe.patch or old.refine is not None:
        raise ValueError(f"an autoencoder of {have} channels cannot become one of {want}")
    rows = F.pixel_unshuffle(pictures.double(), recipe.patch).movedim(1, -1).flatten(0, 2)
    assert old.analysis.bias is not None and old.synthesis.bias is not None
    analysis, synthesis = old.analysis.weight[:, :, 0, 0].double(), old.synthesis.weight[:, :, 0, 0].double()
    rows = rows - old.synthesis.bias.double()
    codes = rows @ analysis.T
    gain = analysis.norm(dim=1)
    # gain = k / sqrt(spread): see set_principal_components; k must stay, or the old channels would change.
    k = (gain * (codes.std(0) / gain).clamp_min(1e-12).sqrt()).median()
    left = rows - codes @ synthesis.T
    values, vectors = torch.linalg.eigh(left.T @ left / len(left))
    new = torch.arange(len(values) - 1, len(values) - 1 - (want - have), -1)
    basis, spread = vectors[:, new], values[new].clamp_min(1e-12).sqrt()
    more = k / spread.sqrt()
    vae = PatchAutoencoder(recipe.patch, want, scaling_factor=old.config.scaling_factor)
    assert vae.analysis.bias is not None and vae.synthesis.bias is not None
    vae.analysis.weight.copy_(torch.cat([analysis, (basis * more).T])[:, :, None, None])
    vae.analysis.bias.copy_(
        torch.cat([old.analysis.bias.double(), -(old.synthesis.bias.double() @ basis) * more])
    )
    vae.synthesis.weight.copy_(torch.cat([synthesis, basis / more], 1)[:, :, None, None])
    vae.synthesis.bias.copy_(old.synthesis.bias)
    return vae


@torch.no_grad()
def _wider(editor: DiffusersBackbone, recipe: Recipe):
    """New latent channels are not looked at, what is new in the output is zero, to begin with."""
    unet, weights = build_unet(recipe), editor.unet.state_dict()
    have, want = int(editor.vae.config.latent_channels), recipe.latent_channels
    before, first = weights["conv_in.weight"], torch.zeros_like(unet.conv_in.weight)
    first[:, :have], first[:, want : want + have] = before[:, :have], before[:, have:]
    last, bias = torch.zeros_like(unet.conv_out.weight), torch.zeros_like(unet.conv_out.bias)
    last[:have], bias[:have] = weights["conv_out.weight"][:have], weights["conv_out.bias"][:have]
    if len(weights["conv_out.bias"]) > have:  # the gate
        last[want], bias[want] = weights["conv_out.weight"][have], weights["conv_out.bias"][have]
    unet.load_state_dict(weights | {"conv_in.weight": first, "conv_out.weight": last, "conv_out.bias": bias})
    return unet


@torch.no_grad()
def _with_words(editor: DiffusersBackbone, recipe: Recipe, tokenizer):
    """Old words keep their vectors; new words and new places start at random."""
    made = build_text_encoder(recipe, len(tokenizer))
    weights, fresh = editor.text_encoder.state_dict(), made.state_dict()
    known = editor.tokenizer.get_vocab()
    for name in fresh:
        if name.endswith("token_embedding.weight"):
            fresh[name].mul_(weights[name].std() / fresh[name].std())
            for word, number in tokenizer.get_vocab().items():
                if word in known:
                    fresh[name][number] = weights[name][known[word]]
        elif name.endswith("position_embedding.weight"):
            fresh[name].mul_(weights[name].std() / fresh[name].std())
            fresh[name][: len(weights[name])] = weights[name]
        elif name in weights and not name.endswith("position_ids"):
            fresh[name].copy_(weights[name])
    made.load_state_dict(fresh)
    return made.eval()
