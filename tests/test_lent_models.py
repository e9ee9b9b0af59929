"""The local models of Filter Pairs and Write Instructions are lent to ComfyUI's memory manager."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from test_cancel import toy_model
from test_instructions_nodes import LIMITS, pairs, words, write
from test_pair_filters import candidate
from torch import nn

from emu_edit.core.pairs.filters import models as filter_models
from emu_edit.nodes import filters as filters_module
from emu_edit.nodes import host
from emu_edit.nodes import instructions as instructions_module
from emu_edit.nodes.filters import FilterPairs
from emu_edit.nodes.instructions import LOCAL


class Manager:
    """What the nodes use of comfy.model_patcher and comfy.model_management; `on` are the models resident."""

    def __init__(self) -> None:
        self.made: list = []
        self.on: list = []
        self.asked = 0

    def ModelPatcher(self, modules, load_device, offload_device):
        assert all(one.device.type == "cpu" for one in modules.parameters()) and offload_device.type == "cpu"
        handle = SimpleNamespace(modules=modules, load_device=load_device)
        self.made.append(handle)
        return handle

    def load_models_gpu(self, handles, force_full_load=False):
        assert force_full_load
        self.asked += 1
        self.on = [module for handle in handles for module in handle.modules]  # memory is short: others go

    def get_torch_device(self):
        return torch.device("meta")  # nothing could run there, so it must not go by itself

    def throw_exception_if_processing_interrupted(self):
        pass


@pytest.fixture
def manager(monkeypatch, tmp_path):
    it = Manager()
    monkeypatch.setattr(host, "comfy_patcher", it)
    monkeypatch.setattr(host, "comfy_memory", it)
    monkeypatch.setattr(host, "folder_paths", SimpleNamespace(models_dir=str(tmp_path)))
    monkeypatch.setattr(filters_module, "_loaded", {})
    monkeypatch.setattr(instructions_module, "_loaded", {})
    return it


def test_a_language_model_is_lent_and_brought_back_for_each_run(manager, tmp_path):
    for name in ("one", "other"):
        folder = tmp_path / "LLM" / name
        toy = toy_model()
        toy.model.save_pretrained(folder)
        toy.tokenizer.save_pretrained(folder)
    where: list = []

    def run(name):
        write(backend=LOCAL, local_model=f"LLM/{name}", task="local", count=1)
        (held,) = instructions_module._loaded.values()
        where.append(any(module is held.model for module in manager.on))
        return held

    first = run("one")
    manager.on = []
    assert run("one") is first and len(manager.made) == 1 and manager.asked == 2
    assert run("other") is not first and len(manager.made) == 2  # and the first is held no longer
    assert where == [True] * 3 and {str(one.load_device) for one in manager.made} == {"meta"}


class Lent:
    """A depth estimator and a reader in one, that remembers whether it was resident when it was used."""

    wants_crop = False
    name = "lent"

    def __init__(self, manager):
        self.model, self.manager, self.seen = nn.Linear(2, 2), manager, []

    def _used(self):
        self.seen.append(any(module is self.model for module in self.manager.on))

    def depth(self, images):
        self._used()
        return images[..., 0]

    def read(self, picture):
        self._used()
        return []


def test_each_filters_model_is_resident_when_it_looks(manager, monkeypatch, tmp_path):
    lent: list[Lent] = []

    def load(folder, device="cpu"):
        assert device == "cpu"
        lent.append(Lent(manager))
        return lent[-1]

    monkeypatch.setattr(filter_models, "load_depth", load)
    monkeypatch.setattr(filter_models, "load_reader", load)
    for name, kind in (("deep", "DPTForDepthEstimation"), ("reads", "VisionEncoderDecoderModel")):
        folder = tmp_path / "emu_edit_filters" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"architectures": [kind]}))
    chosen = {"depth_model": "emu_edit_filters/deep", "reader": "emu_edit_filters/reads"}
    several = [*pairs(), candidate("text", old="", new="tea")]
    for _ in range(2):
        FilterPairs().judge(**{**LIMITS, **chosen, "reassign": False}, pairs=several)
    assert len(lent) == len(manager.made) == 2 and all(one.seen and all(one.seen) for one in lent)
    source = torch.rand(1, 8, 8, 3)
    told = json.dumps(words().to_json())
    manager.on = []
    FilterPairs().judge(**{**LIMITS, **chosen}, source=source, target=source, instructions=told)
    assert all(all(one.seen) for one in lent)
