"""SAM and SAM 2: a mask for each box, through transformers' models and without their processors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .detect import standardised

AT_ONCE = 16  # boxes decoded together


class Segmenter(Protocol):
    """Masks [N,H,W] float32, 0 or 1, on the CPU, for boxes [N,4] in pixels of one picture [H,W,3]."""

    @property
    def name(self) -> str: ...

    def segment(self, image: Tensor, boxes: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Sam:
    """SAM (padded square) or SAM 2 (stretched square).

    poll is called before a picture is looked at and before each batch of boxes, and may raise to interrupt.
    """

    model: Any
    name: str
    side: int = 1024
    stretched: bool = False
    poll: Callable[[], None] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def segment(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The picture is looked at once; a pixel is in the mask where its logit is above 0."""
        height, width = image.shape[:2]
        masks = torch.zeros(boxes.shape[0], height, width)
        if not boxes.shape[0]:
            return masks
        self._poll()
        size = self.inner_size(height, width)
        dtype = next(self.model.parameters()).dtype
        features = self.model.get_image_embeddings(self.prepared(image).to(self.device, dtype))
        scale = boxes.new_tensor([size[1] / width, size[0] / height] * 2)
        prompts = (boxes * scale).to(self.device, dtype)
        for start in range(0, boxes.shape[0], AT_ONCE):
            self._poll()
            some = prompts[None, start : start + AT_ONCE]
            answer = self.model(image_embeddings=features, input_boxes=some, multimask_output=False)
            logits = answer.pred_masks[0].float()
            for i, plane in enumerate(logits):
                masks[start + i] = (self.restored(plane[None], height, width)[0, 0] > 0).float().cpu()
        return masks

    def _poll(self) -> None:
        if self.poll is not None:
            self.poll()

    def inner_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the square that the picture fills."""
        if self.stretched:
            return self.side, self.side
        scale = self.side / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def prepared(self, image: Tensor) -> Tensor:
        """One picture [H,W,3] in 0..1 -> [1,3,side,side] as the model was trained to see it."""
        rows, columns = self.inner_size(*image.shape[:2])
        planes = image.movedim(-1, 0)[None].float().clamp(0, 1)
        planes = F.interpolate(planes, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        return F.pad(standardised(planes), (0, self.side - columns, 0, self.side - rows))

    def restored(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Logits [N,1,h,w] of the square -> [N,1,height,width] of the picture."""
        if not self.stretched:
            rows, columns = self.inner_size(height, width)
            logits = F.interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)
            logits = logits[..., :rows, :columns]
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
