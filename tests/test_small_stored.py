"""The small editor trained on stored pairs: in an order of its own, stopped and gone on, and told apart."""

from __future__ import annotations

import argparse
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_small_training import TINY

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable
from emu_edit.training.pairs.models import context_of, jobs_of, world_of
from emu_edit.training.pairs.plan import BuildPlan
from emu_edit.training.pairs.run import build, one_process
from emu_edit.training.pairs.stages import Maker
from emu_edit.training.small.data import batches
from emu_edit.training.small.stored import StoredPairs
from emu_edit.training.small.train import main, train

PLAN = BuildPlan(count=6, seed=4, tasks=("detect", "color", "depth"), size=32, chunk_jobs=3, shard_jobs=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(durable.os, "fsync", lambda handle: None)
    home, world = tmp_path_factory.mktemp("pairs"), world_of(PLAN)
    jobs, maker = jobs_of(PLAN, world), Maker(PLAN, context_of(PLAN, world))
    build(home, PLAN, jobs, lambda store, total: one_process(PLAN, jobs, maker, store, total))
    patch.undo()
    return home


def sitting(run, samples, pairs, **more):
    options = {"size": 32, "minutes": 60, "anneal": 0, "start": None, "first_sample": 0, "export": None}
    options |= {"device": "cpu", "precision": "fp32", "workers": 0, "redrawn": False, **more}
    recipe = replace(TINY, pictures_every=0)
    train(recipe, argparse.Namespace(run=run, samples=samples, pairs=pairs, **options))
    return load_file(run / "state.safetensors")


def seen(stored, numbers):
    """What samples show, in brief."""
    return [(one["instruction"], int(one["target"].sum())) for one in map(stored.__getitem__, numbers)]


def test_every_round_shows_every_pair_once_in_another_order(folder):
    stored = StoredPairs(folder, 32, 1)
    rounds = [seen(stored, range(6 * n, 6 * n + 6)) for n in range(3)]
    assert len(set(rounds[0])) == 6 and sorted(rounds[0]) == sorted(rounds[1]) == sorted(rounds[2])
    assert len({tuple(one) for one in rounds}) == 3
    assert (
        seen(StoredPairs(folder, 32, 1), range(6)) == rounds[0] != seen(StoredPairs(folder, 32, 2), range(6))
    )
    assert seen(pickle.loads(pickle.dumps(stored)), range(6, 12)) == rounds[1]  # as workers get it


def test_samples_are_the_shards_pictures_with_the_mask_they_were_made_under(folder):
    stored = StoredPairs(folder, 32, 1)
    for index in range(6):
        pair, shown = stored.pairs[int(stored._order(0)[index])], stored[index]
        assert torch.equal(shown["source"], pair.source) and torch.equal(shown["target"], pair.target)
        assert shown["task"] == pair.task and shown["mask"].shape == (32, 32)
        whole = torch.full_like(shown["mask"], 255)
        assert torch.equal(shown["mask"], whole) == (pair.task != "detect")
    batch = next(batches(StoredPairs(folder, 16, 1), 4, 3, workers=0))
    assert batch["source"].shape == (3, 16, 16, 3) and batch["mask"].dtype == torch.uint8


def test_redrawn_jobs_keep_their_words_and_order(folder):
    stored, exact = StoredPairs(folder, 32, 1), StoredPairs(folder, 32, 1, redrawn=True)
    for index in range(6):
        one, other = stored[index], exact[index]
        assert (one["instruction"], one["task"]) == (other["instruction"], other["task"])
        if one["task"] == "detect":
            assert torch.equal(one["source"], other["source"])
            assert not torch.equal(one["mask"], other["mask"])  # the object, not the box around it
    assert stored.identity() != exact.identity() == StoredPairs(folder, 32, 9, True).identity()


def test_a_stopped_run_goes_on_as_if_it_had_not_been(folder, tmp_path):
    expected = sitting(tmp_path / "whole", 16, folder)
    for samples in (4, 16):
        found = sitting(tmp_path / "parts", samples, folder)
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    other = sitting(tmp_path / "exact", 16, folder, redrawn=True)
    assert not all(torch.equal(tensor, other[name]) for name, tensor in expected.items())
    with pytest.raises(EmuEditError, match="begun with other pairs"):
        sitting(tmp_path / "parts", 20, folder, redrawn=True)
    with pytest.raises(EmuEditError, match="begun with other pairs"):
        sitting(tmp_path / "parts", 20, None)


def test_slips_are_sentences(folder, tmp_path, capsys):
    for arguments, words in (
        (["--pairs", str(tmp_path)], "holds no shards"),
        (["--redrawn"], "--redrawn needs --pairs"),
    ):
        assert main(["--run", str(tmp_path / "run"), "--samples", "1", *arguments]) == 1
        assert words in capsys.readouterr().err
    stored = StoredPairs(folder, 32, 1)
    job = {**stored.pairs[0].record["job"], "picture": "photo.png"}
    pair = replace(stored.pairs[0], record={**stored.pairs[0].record, "job": job})
    with pytest.raises(EmuEditError, match="leave --redrawn out"):
        stored._redrawn(pair)
