"""The bundled editor's parts, built from the recipe with fresh weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.diffusers_backbone import DiffusersBackbone
from ...core.patch_autoencoder import PatchAutoencoder
from ...core.positions import CHANNELS
from ...core.task_conditioning import TaskConditioner
from ...core.tasks import TASK_IDS
from .recipe import Recipe

LATENT_INPUT = "estimate"  # pure noise, from which it edits in one step, would only blur what it sees
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")


def build_tokenizer(words: Sequence[str], length: int):
    """One token a word of a closed vocabulary, in lower case; punctuation is passed over."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *sorted(set(words) - set(SPECIAL))))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z0-9]+"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=length,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
    )


def build_text_encoder(recipe: Recipe, vocabulary: int):
    """A small CLIP text transformer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=recipe.text_width,
            intermediate_size=3 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=recipe.text_heads,
            max_position_embeddings=recipe.text_tokens,
            projection_dim=recipe.text_width,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def build_unet(recipe: Recipe):
    """Stock diffusers: the task vector as `class_labels`, pooled text by attention, both on the timestep.

    Their sum scales and shifts every residual block, which on a small budget learns "which object, what
    change" sooner than cross-attention alone; that stands on the coarse grids, where it is cheap.
    """
    from diffusers import UNet2DConditionModel

    words = recipe.words_on
    unet = UNet2DConditionModel(
        sample_size=recipe.picture // recipe.patch,
        in_channels=2 * recipe.latent_channels + CHANNELS * recipe.position_frequencies,
        out_channels=recipe.latent_channels + 1,  # one gate: see picture_change
        layers_per_block=recipe.layers,
        block_out_channels=recipe.channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in words),
        # On the coarsest grid the way down and the middle have it; once more would bring little.
        up_block_types=(
            "UpBlock2D",
            *("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(words[:-1])),
        ),
        # diffusers' name; it is the number of heads
        attention_head_dim=tuple(max(1, width // recipe.head_width) for width in recipe.channels),
        norm_num_groups=recipe.groups,
        cross_attention_dim=recipe.text_width,
        time_embedding_dim=recipe.time_width,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=recipe.text_width,
        addition_embed_type="text",
        addition_embed_type_num_heads=recipe.text_heads,
        resnet_time_scale_shift="scale_shift",
    )
    # The output is the change from the input picture: none, to begin with.
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


def build_autoencoder(recipe: Recipe, pictures: Tensor) -> PatchAutoencoder:
    """Principal components of the patches of pictures [B,3,S,S] in -1..1."""
    vae = PatchAutoencoder(recipe.patch, recipe.latent_channels)
    rows = torch.nn.functional.pixel_unshuffle(pictures.double(), recipe.patch).movedim(1, -1).flatten(0, 2)
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    keep = torch.arange(len(values) - 1, len(values) - 1 - recipe.latent_channels, -1)
    vae.set_principal_components(
        mean.float(), vectors[:, keep].float(), values[keep].clamp_min(1e-12).sqrt().float()
    )
    return vae


def scheduler_config(recipe: Recipe) -> dict[str, object]:
    """A scaled-linear schedule brought to zero terminal SNR (Lin et al. 2305.08891), as Emu Edit does."""
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": recipe.train_steps,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": recipe.beta_end,
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    }


def build_editor(recipe: Recipe, words: Sequence[str], pictures: Tensor, seed: int = 0) -> DiffusersBackbone:
    """A fresh editor; `pictures` [B,3,S,S] in -1..1 give the autoencoder its components."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(words, recipe.text_tokens)
    conditioner = TaskConditioner(recipe.text_width, recipe.text_width, TASK_IDS, seed=seed)
    return DiffusersBackbone(
        build_unet(recipe),
        build_autoencoder(recipe, pictures),
        build_text_encoder(recipe, len(tokenizer)),
        tokenizer,
        scheduler_config(recipe),
        conditioner,
        name="emu-edit-small",
        predicts="change",
        image_condition="scaled",
        latent_input=LATENT_INPUT,
        position_frequencies=recipe.position_frequencies,
        defaults=recipe.defaults,
    )
