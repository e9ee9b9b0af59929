"""Task vectors in the text context."""

from __future__ import annotations

import copy

import pytest
import torch

from emu_edit.core.errors import EmuEditError
from emu_edit.core.task_conditioning import TaskConditioner
from emu_edit.core.tasks import TASK_IDS


@pytest.fixture
def conditioner() -> TaskConditioner:
    return TaskConditioner(6, 4)


@pytest.fixture
def trained(conditioner) -> TaskConditioner:
    with torch.no_grad():
        conditioner.to_context.weight.copy_(torch.randn(4, 6, generator=torch.Generator().manual_seed(1)))
    return conditioner


def test_starts_with_sixteen_different_vectors_and_no_effect(conditioner):
    assert conditioner.names == TASK_IDS
    assert len({tuple(conditioner.vector(name).tolist()) for name in TASK_IDS}) == 16
    hidden = torch.randn(2, 5, 4)
    assert torch.equal(conditioner.condition_context(hidden, conditioner.vector("add")[None]), hidden)


def test_same_seed_same_table():
    assert TaskConditioner(6, 4).fingerprint() == TaskConditioner(6, 4).fingerprint()
    assert TaskConditioner(6, 4).fingerprint() != TaskConditioner(6, 4, seed=1).fingerprint()


def test_no_task_is_zero_and_has_no_effect_even_when_trained(trained):
    hidden = torch.randn(1, 3, 4)
    none = trained.vector("none")
    assert none.abs().sum() == 0
    assert torch.equal(trained.condition_context(hidden, none[None]), hidden)


def test_adds_the_mapped_vector_to_the_first_position_alone(trained):
    hidden = torch.randn(2, 3, 4)
    given = hidden.clone()
    tasks = torch.stack([trained.vector("add"), trained.vector("sketch")])
    out = trained.condition_context(hidden, tasks)
    assert torch.equal(out[:, 1:], hidden[:, 1:]) and torch.equal(hidden, given)
    for row in range(2):
        expected = hidden[row, 0] + trained.to_context.weight @ tasks[row]
        assert torch.allclose(out[row, 0], expected, atol=1e-6)


def test_gradients_reach_a_vector_that_is_being_learnt(trained):
    learnt = torch.zeros(1, 6, requires_grad=True)
    trained.condition_context(torch.randn(2, 3, 4), learnt).sum().backward()
    assert learnt.grad is not None and learnt.grad.abs().sum() > 0


def test_parameters_stay_float32_and_results_follow_the_context(trained):
    mark = trained.fingerprint()
    half = copy.deepcopy(trained).to(torch.bfloat16)
    assert half.fingerprint() == mark
    out = half.condition_context(torch.zeros(1, 2, 4, dtype=torch.bfloat16), half.vector("add")[None])
    assert out.dtype == torch.bfloat16 and out.abs().sum() > 0


def test_fingerprint_changes_with_names_table_and_map(conditioner):
    marks = {conditioner.fingerprint(), TaskConditioner(6, 4, [f"{n}2" for n in TASK_IDS]).fingerprint()}
    with torch.no_grad():
        conditioner.table.weight[3, 2] += 1e-4
        marks.add(conditioner.fingerprint())
        conditioner.to_context.weight[0, 0] = 1e-4
        marks.add(conditioner.fingerprint())
    assert len(marks) == 4 and all(len(mark) == 16 for mark in marks)


def test_state_dict_has_the_two_names_of_the_file_format(conditioner):
    assert set(conditioner.state_dict()) == {"table.weight", "to_context.weight"}


def test_bad_input_is_told(conditioner):
    with pytest.raises(EmuEditError, match="task 'fly'.*remove"):
        conditioner.vector("fly")
    with pytest.raises(EmuEditError, match=r"text context of shape \[1, 3, 9\]"):
        conditioner.condition_context(torch.zeros(1, 3, 9), torch.zeros(1, 6))
    for bad in (torch.zeros(1, 5), torch.zeros(6), torch.zeros(3, 6)):
        with pytest.raises(EmuEditError, match="task vector of shape"):
            conditioner.condition_context(torch.zeros(2, 3, 4), bad)
    for names in ([], ["a", "a"], ["none"], [""]):
        with pytest.raises(EmuEditError, match="task names"):
            TaskConditioner(6, 4, names)
    with pytest.raises(EmuEditError, match="positive"):
        TaskConditioner(0, 4)
