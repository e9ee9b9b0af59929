"""Edits scored by CLIP and DINO, with the preprocessing of the scripts that published the scores.

The scores (Emu Edit, arXiv 2311.10089, its table of results; CLIPdir is StyleGAN-NADA's, arXiv 2108.00946):

    CLIPdir = cos(E_img(after) - E_img(before), E_txt(output caption) - E_txt(input caption))
    CLIPim  = cos(E_img(before), E_img(after))
    CLIPout = cos(E_img(after), E_txt(output caption))
    DINO    = cos(D(before), D(after))

For CLIPdir the embeddings are normalised before the differences are taken, as in InstructPix2Pix's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import EmuEditError
from .metric_models import ScoringModel
from .metric_presets import Preset, same_caption, why_excluded
from .metrics import pair

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_DIRECTION = 1e-6  # a difference of unit vectors below this is rounding, and points nowhere

Scores = dict[str, float | None]


def squash(images: Tensor, size: int) -> Tensor:
    """[B,H,W,3] -> [B,3,size,size] bicubic, neither cropped nor antialiased (InstructPix2Pix's)."""
    planes = images.movedim(-1, 1).float()
    return F.interpolate(planes, (size, size), mode="bicubic", align_corners=False)


def crop(images: Tensor, shorter: int, size: int, resample: str = "bicubic") -> Tensor:
    """[B,H,W,3] -> [B,3,size,size] on the CPU: shorter side to `shorter`, then the middle.

    The pictures go through 8 bits and Pillow and are cut as torchvision cuts them: bit for bit what
    evaluation scripts do that read files.
    """
    from PIL import Image

    from .picture_files import to_pil

    height, width = images.shape[1:3]
    long = int(shorter * max(height, width) / min(height, width))
    wide, tall = (long, shorter) if width >= height else (shorter, long)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    filter_ = Image.Resampling[resample.upper()]
    rows = []
    for image in images:
        picture = to_pil(image).resize((wide, tall), filter_)
        picture = picture.crop((left, top, left + size, top + size))
        plane = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        rows.append(plane.reshape(size, size, 3).movedim(-1, 0).float() / 255)
    return torch.stack(rows)


def standardised(planes: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x - mean) / std for each colour of [B,3,h,w]."""
    shape = (1, 3, 1, 1)
    return (planes - planes.new_tensor(mean).view(shape)) / planes.new_tensor(std).view(shape)


@dataclass(frozen=True, eq=False)
class Scorer:
    """The models of one preset; either may be missing, with a sentence in `notes`."""

    preset: Preset
    clip: ScoringModel | None = None
    dino: ScoringModel | None = None
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """What a result needs to be compared with another: models, preprocessing, rows. JSON-safe."""
        rows = "filtered" if self.preset.filtered else "all"
        told: dict[str, Any] = {"preset": self.preset.name, "rows": rows}
        if self.clip is not None:
            n = self.clip.size
            ways = {
                "squash": f"bicubic to {n}x{n} without antialiasing or crop",
                "crop": f"antialiased bicubic, shorter side {n}, centre crop {n}",
            }
            told["clip"] = {
                "model": self.clip.ident,
                "as_in_preset": self.clip.shape == self.preset.clip,
                "preprocessing": ways[self.preset.clip_pixels],
                "direction": "embeddings normalised before the difference",
            }
        if self.dino is not None:
            told["dino"] = {
                "model": self.dino.ident,
                "as_in_preset": self.dino.shape == self.preset.dino,
                "preprocessing": f"antialiased bicubic, shorter side {_dino_resize(self.dino.size)}, "
                f"centre crop {self.dino.size}, ImageNet mean and deviation, class token",
            }
        if self.notes:
            told["notes"] = list(self.notes)
        return told

    @torch.no_grad()
    def image_embeddings(self, images: Tensor) -> Tensor:
        """CLIP's, [B,D] float32 as the model gives them, of pictures [B,H,W,3] in 0..1."""
        clip = _present(self.clip, "CLIP")
        if self.preset.clip_pixels == "squash":
            planes = squash(images, clip.size)
        else:
            planes = crop(images, clip.size, clip.size)
        planes = standardised(planes.to(clip.device), CLIP_MEAN, CLIP_STD)
        pooled = clip.model.vision_model(pixel_values=planes).pooler_output
        return clip.model.visual_projection(pooled)

    @torch.no_grad()
    def text_embeddings(self, captions: list[str]) -> Tensor:
        """CLIP's, [B,D] float32; captions longer than the model reads are cut."""
        clip = _present(self.clip, "CLIP")
        tokens = clip.tokenizer(captions, padding=True, truncation=True, return_tensors="pt").to(clip.device)
        pooled = clip.model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return clip.model.text_projection(pooled)

    @torch.no_grad()
    def dino_embeddings(self, images: Tensor) -> Tensor:
        """DINO's class token, [B,D] float32."""
        dino = _present(self.dino, "DINO")
        planes = crop(images, _dino_resize(dino.size), dino.size).to(dino.device)
        planes = standardised(planes, IMAGENET_MEAN, IMAGENET_STD)
        return dino.model(pixel_values=planes).last_hidden_state[:, 0]

    def scores(
        self,
        before: Tensor,
        after: Tensor,
        input_captions: list[str] | None = None,
        output_captions: list[str] | None = None,
    ) -> list[Scores]:
        """For each picture the scores that models and captions allow: clip_dir, clip_im, clip_out, dino.

        Beside clip_out stands clip_out_unedited, what the picture before scores against the same caption.

        before, after: [B,H,W,3] in 0..1, either batch 1 for the other's B. Captions: one for each picture, or
        None. A score that is undefined is None: the direction between equal captions or equal pictures. A row
        that the preset leaves out keeps its values here; see `excluded`.
        """
        before, after = pair(before, after)
        rows: list[Scores] = [{} for _ in range(before.shape[0])]
        if self.clip is not None:
            self._clip_scores(rows, before, after, input_captions, output_captions)
        if self.dino is not None:
            near = _cosines(self.dino_embeddings(before), self.dino_embeddings(after))
            for row, value in zip(rows, near, strict=True):
                row["dino"] = value
        return rows

    def _clip_scores(
        self,
        rows: list[Scores],
        before: Tensor,
        after: Tensor,
        input_captions: list[str] | None,
        output_captions: list[str] | None,
    ) -> None:
        seen_before, seen_after = self.image_embeddings(before), self.image_embeddings(after)
        near = _cosines(seen_before, seen_after)
        for row, value in zip(rows, near, strict=True):
            row["clip_im"] = value
        if output_captions is None:
            return
        told_after = self.text_embeddings(_as_many(output_captions, len(rows), "output captions"))
        reached, already = _cosines(seen_after, told_after), _cosines(seen_before, told_after)
        for row, value, unedited in zip(rows, reached, already, strict=True):
            row |= {"clip_out": value, "clip_out_unedited": unedited}
        if input_captions is None:
            return
        told_before = self.text_embeddings(_as_many(input_captions, len(rows), "input captions"))
        moved = F.normalize(seen_after.cpu().double()) - F.normalize(seen_before.cpu().double())
        meant = F.normalize(told_after.cpu().double()) - F.normalize(told_before.cpu().double())
        for i, value in enumerate(_cosines(moved, meant)):
            same = same_caption(input_captions[i], output_captions[i]) or torch.equal(before[i], after[i])
            still = min(float(moved[i].norm()), float(meant[i].norm())) < NO_DIRECTION
            rows[i]["clip_dir"] = None if same or still else value

    def excluded(self, input_caption: str, output_caption: str) -> str:
        """Why the preset leaves out a row with these captions; "" if it does not."""
        return why_excluded(self.preset, input_caption, output_caption)


def _cosines(one: Tensor, other: Tensor) -> list[float]:
    return F.cosine_similarity(one.cpu().double(), other.cpu().double(), dim=-1).tolist()


def _as_many(captions: list[str], count: int, what: str) -> list[str]:
    if len(captions) != count:
        raise EmuEditError(f"scores: {len(captions)} {what} for {count} pictures; give one for each.")
    return captions


def _present(found: ScoringModel | None, name: str) -> ScoringModel:
    if found is None:
        raise EmuEditError(f"scores: this scorer has no {name}; choose its folder in the loader.")
    return found


def _dino_resize(size: int) -> int:
    """256 for 224, as in DINO's own evaluation, and in proportion for others."""
    return round(size * 256 / 224)
