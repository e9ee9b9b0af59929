"""The sixteen editing tasks, and the vector that stands for a task.

Emu Edit (arXiv 2311.10089, Table 1 and section 1.8 of its method) conditions one model on a task index
through a learnt embedding. The paper counts 16 tasks over 12 named rows; the split used here (eleven rows
plus one task for each of five translation modalities, both directions in one) is our reading of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from .errors import EmuEditError

NO_TASK = "none"
"""The name of no task at all: the zero vector."""

GROUPS = ("region", "free-form", "vision")


@dataclass(frozen=True)
class TaskInfo:
    """One task: `id` as in files, `label` for menus, `group` (one of GROUPS), a short `description`."""

    id: str
    label: str
    group: str
    description: str


_ALL = (
    TaskInfo("local", "Local", "region", "Replace an object, or change an attribute such as its colour."),
    TaskInfo("remove", "Remove", "region", "Erase an object and fill in what was behind it."),
    TaskInfo("add", "Add", "region", "Insert a new object."),
    TaskInfo("texture", "Texture", "region", "Change an object's surface and keep its shape."),
    TaskInfo("background", "Background", "region", "Change what is behind the objects."),
    TaskInfo("global", "Global", "free-form", "Change the whole picture: season, weather, hour, mood."),
    TaskInfo("style", "Style", "free-form", "Change the artistic style and keep the structure."),
    TaskInfo("text", "Text", "free-form", "Add, remove or replace lettering, or change its font and colour."),
    TaskInfo("detect", "Detect", "vision", "Draw a rectangle around the named object."),
    TaskInfo("segment", "Segment", "vision", "Mark the pixels of the named object."),
    TaskInfo(
        "color", "Color", "vision", "Adjust the picture: colours, brightness, contrast, blur, sharpness."
    ),
    TaskInfo("depth", "Depth", "vision", "Turn a picture into its depth map, or back."),
    TaskInfo("segmentation", "Segmentation", "vision", "Turn a picture into its segmentation map, or back."),
    TaskInfo("pose", "Pose", "vision", "Turn a picture into its pose drawing, or back."),
    TaskInfo("normal", "Normal", "vision", "Turn a picture into its surface normals, or back."),
    TaskInfo("sketch", "Sketch", "vision", "Turn a picture into a sketch, or back."),
)

TASKS: Mapping[str, TaskInfo] = MappingProxyType({info.id: info for info in _ALL})
"""The tasks by id, in the order of the embedding table."""

TASK_IDS: tuple[str, ...] = tuple(TASKS)


@dataclass(frozen=True, eq=False)
class TaskVector:
    """What an editor is told about the task: picked, learnt, predicted or blended, always just a vector.

    `vector` is float32 [D] on the CPU (other float types and devices are converted); `base` is the
    fingerprint of the editor it belongs to ("" for any); `examples` is how many training pairs it has
    seen, 0 when it was not learnt on its own; `metadata` is free text for people.
    Raises EmuEditError when the vector is not one finite row of numbers.
    """

    name: str
    vector: Tensor
    base: str
    examples: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vector = self.vector
        if vector.ndim != 1 or vector.numel() == 0 or not vector.is_floating_point():
            raise EmuEditError(
                f"task {self.name!r}: its vector has shape {list(vector.shape)} and type {vector.dtype}; "
                "give one row of floating-point numbers [D]."
            )
        vector = vector.detach().to("cpu", torch.float32).clone()
        if not bool(torch.isfinite(vector).all()):
            raise EmuEditError(f"task {self.name!r}: its vector holds NaN or infinities; learn it again.")
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "metadata", dict(self.metadata))

    @property
    def width(self) -> int:
        """D, the number of entries."""
        return self.vector.shape[0]


def blend(vectors: Sequence[TaskVector], weights: Sequence[float]) -> TaskVector:
    """The weighted sum of tasks of one editor: sum_i weights[i] * vectors[i], weights used as given.

    Weights that sum to 1 interpolate; others strengthen, weaken or subtract. `examples` adds up.
    Raises EmuEditError for nothing to blend, unequal counts, weights that are not finite, or tasks of
    different editors or widths.
    """
    if not vectors:
        raise EmuEditError("blend: no tasks were given; give at least one.")
    if len(vectors) != len(weights):
        raise EmuEditError(f"blend: {len(vectors)} tasks but {len(weights)} weights; give one for each task.")
    amounts = torch.tensor([float(w) for w in weights], dtype=torch.float64)
    if not bool(torch.isfinite(amounts).all()):
        raise EmuEditError(f"blend: the weights are {list(weights)}; give finite numbers.")
    first = vectors[0]
    for other in vectors[1:]:
        if other.width != first.width:
            raise EmuEditError(
                f"blend: task {other.name!r} has width {other.width} but {first.name!r} has {first.width}; "
                "blend tasks of one editor."
            )
        if other.base != first.base:
            raise EmuEditError(
                f"blend: task {other.name!r} belongs to editor {other.base or 'any'} but {first.name!r} to "
                f"{first.base or 'any'}; blend tasks of one editor."
            )
    rows = torch.stack([v.vector for v in vectors]).double()
    return TaskVector(
        name=" + ".join(f"{float(w):g} {v.name}" for v, w in zip(vectors, weights, strict=True)),
        vector=(amounts @ rows).float(),
        base=first.base,
        examples=sum(v.examples for v in vectors),
    )
