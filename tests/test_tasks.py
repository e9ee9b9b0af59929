"""The sixteen tasks and vectors that stand for them."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emu_edit.core.errors import EmuEditError
from emu_edit.core.tasks import GROUPS, TASK_IDS, TASKS, TaskVector, blend


def vector(name: str = "a", values=(1.0, 2.0), base: str = "b", examples: int = 1) -> TaskVector:
    return TaskVector(name, torch.tensor(values), base, examples)


def test_sixteen_tasks_in_the_order_of_the_table():
    assert " ".join(TASK_IDS) == (
        "local remove add texture background global style text "
        "detect segment color depth segmentation pose normal sketch"
    )
    assert [TASKS[name].id for name in TASK_IDS] == list(TASK_IDS)
    assert {info.group for info in TASKS.values()} == set(GROUPS)
    assert all(info.label and info.description.endswith(".") for info in TASKS.values())


def test_vector_is_kept_as_float32_of_its_own():
    source = torch.ones(3, dtype=torch.float16, requires_grad=True)
    task = TaskVector("t", source, "")
    with torch.no_grad():
        source.zero_()
    assert task.vector.dtype == torch.float32 and not task.vector.requires_grad
    assert task.vector.tolist() == [1, 1, 1] and task.width == 3
    assert copy.deepcopy(task).metadata == {}


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(2, 2), torch.zeros(0), torch.zeros(3, dtype=torch.int64), torch.tensor([1.0, float("nan")])],
)
def test_vector_refuses_what_is_no_row_of_numbers(bad):
    with pytest.raises(EmuEditError, match="task 'odd'"):
        TaskVector("odd", bad, "")


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=4))
def test_blend_is_the_weighted_sum(weights):
    rows = torch.randn(len(weights), 5, generator=torch.Generator().manual_seed(0))
    mixed = blend([TaskVector(f"t{i}", row, "b", i) for i, row in enumerate(rows)], weights)
    expected = sum(w * row.double() for w, row in zip(weights, rows, strict=True))
    assert torch.allclose(mixed.vector.double(), expected, atol=1e-6)
    assert mixed.base == "b" and mixed.examples == sum(range(len(weights)))


def test_blend_of_one_task_is_that_task():
    assert torch.equal(blend([vector()], [1]).vector, vector().vector)


@pytest.mark.parametrize(
    ("vectors", "weights", "sentence"),
    [
        ([], [], "no tasks"),
        ([vector()], [1, 2], "1 tasks but 2 weights"),
        ([vector()], [float("inf")], "finite"),
        ([vector(), vector("c", (1.0,))], [1, 1], "width 1"),
        ([vector(), vector("c", base="x")], [1, 1], "editor x"),
    ],
)
def test_blend_refuses(vectors, weights, sentence):
    with pytest.raises(EmuEditError, match=sentence):
        blend(vectors, weights)
