"""Diffusers' and transformers' models as a backbone."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from toy_models import SD_SCHEDULE, TEXT_LENGTH, toy_backbone, toy_pictures
from transformers import PreTrainedTokenizerFast

from emu_edit.core.edit import EditSettings, edit
from emu_edit.core.errors import EmuEditError
from emu_edit.core.tasks import TASK_IDS

QUICK = EditSettings(steps=2)


def test_an_untouched_change_model_keeps_the_picture():
    """Predicting the change with an output layer of zeros gives the picture back, whatever the settings."""
    schedule = SD_SCHEDULE | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    for condition in ("scaled", "unscaled"):
        made = toy_backbone(
            scheduler=schedule | {"set_alpha_to_one": True}, predicts="change", image_condition=condition
        )
        torch.nn.init.zeros_(made.unet.conv_out.weight)
        torch.nn.init.zeros_(made.unet.conv_out.bias)
        assert made.schedule.prediction_type == "v_prediction"
        pictures = toy_pictures()
        latents = made.encode_image(pictures)
        for sampler in ("ddim", "dpmpp_2m"):
            settings = EditSettings(steps=3, text_guidance=4.0, image_guidance=1.0, sampler=sampler, size=64)
            result = edit(made, pictures, "remove it", settings=settings)
            torch.testing.assert_close(result.latents, latents, rtol=1e-4, atol=1e-4)


def test_an_estimate_is_what_the_unet_reads():
    """With latent_input "estimate" the network reads sqrt(abar) z, and nothing of pure noise."""
    schedule = SD_SCHEDULE | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    as_it_is, estimate = (toy_backbone(scheduler=schedule, latent_input=how) for how in ("noisy", "estimate"))
    estimate.unet.load_state_dict(as_it_is.unet.state_dict())
    text, image = as_it_is.encode_text(["a", "b"]), torch.randn(2, 4, 8, 8)
    z, other = torch.randn(2, 2, 4, 8, 8)
    alpha = as_it_is.schedule.alphas_cumprod.sqrt().float()
    for t in (0, 400, torch.tensor([10, 700])):
        scaled = z * alpha[t].reshape(-1, 1, 1, 1)
        expected = as_it_is.predict(scaled, t, text, image)
        assert torch.equal(estimate.predict(z, t, text, image), expected)
    assert torch.equal(estimate.predict(z, 999, text, image), estimate.predict(other, 999, text, image))
    assert not torch.equal(as_it_is.predict(z, 999, text, image), as_it_is.predict(other, 999, text, image))


def test_words_and_tokens():
    backbone = toy_backbone()
    context = backbone.encode_text(["make the ball red, please", "", "bar"])
    assert len(context) == 3 and context.hidden.shape[:2] == (3, TEXT_LENGTH)
    assert context.words == [["make", "the", "ball", "red,", "please"], [], ["bar"]]
    # m a k e | t h e | ba l l | re d , | p l e ...: 14 of them fit between begin and end of text.
    expected = [-1, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, -1]
    assert context.token_words[0] == expected
    assert set(context.token_words[1]) == {-1}
    assert context.token_words[2][:4] == [-1, 0, 0, -1]


def test_what_cannot_be_read_is_told(caplog):
    backbone = toy_backbone()
    assert backbone.encode_text(["remove it", ""]).notes == ()
    long = "remove the ball and the tree and everything else"
    said = "The instruction is too long: it is read up to 'and', and no further."
    result = edit(backbone, toy_pictures(), long, settings=QUICK)
    assert result.notes == (said,) and said in caplog.text
    # A tokenizer of whole words, as the bundled editor has.
    vocabulary = {
        word: i for i, word in enumerate(["<pad>", "<start>", "<end>", "<unknown>", "remove", "it"])
    }
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    backbone.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=TEXT_LENGTH,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
    )
    context = backbone.encode_text(["remove it, now, or Never!", "remove it."])
    assert context.notes == ("The editor 'toy' does not know the words 'now', 'or', 'Never'.",)
    assert context.token_words[0][:9] == [0, 1, 1, 2, 2, 3, 4, 4, -1]


def test_half_precision_runs():
    made = toy_backbone(task_width=6).to(dtype=torch.bfloat16)
    assert made.dtype == torch.bfloat16 and made.encode_image(toy_pictures()).dtype == torch.bfloat16
    result = edit(made, toy_pictures(), "remove it", task="add", settings=QUICK)
    assert result.images.dtype == torch.float32 and result.latents.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(in_channels=9), "U-Net takes 9 channels but its VAE makes 4"),
        (dict(in_channels=4, predicts="change"), "a picture that its U-Net never sees"),
        (dict(predicts="score"), "it predicts 'score'"),
        (dict(image_condition="raw"), "image_condition is 'raw'"),
        (dict(latent_input="clean"), "latent_input is 'clean'"),
        (dict(unet_options={"class_embed_type": "timestep"}), "class embeddings of type 'timestep'"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(options, said):
    with pytest.raises(EmuEditError, match=said):
        toy_backbone(**options)


def test_what_an_editor_says_of_itself():
    backbone, editor = toy_backbone(), toy_backbone(task_width=6)
    assert (backbone.downscale, backbone.size_multiple, backbone.latent_channels) == (8, 64, 4)
    assert backbone.takes_image and not toy_backbone(in_channels=4).takes_image
    assert (backbone.task_width, backbone.task_names, backbone.task_base) == (None, (), "")
    assert editor.task_width == 6 and editor.task_names == TASK_IDS and len(editor.task_base) == 16
