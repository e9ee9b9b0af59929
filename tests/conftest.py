"""Makes `import emu_edit` mean this checkout in every test, installed or not; keeps tests off the network."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports huggingface_hub, which reads these once: a test that would download fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# The same examples on every machine, and no deadline: the first call of a torch kernel is slow.
settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("house")


def _bind_package() -> None:
    """Load the repository root as the package `emu_edit`, as ComfyUI loads it under a name of its own.

    Without this an `emu_edit` that happens to be installed (another checkout, say) would be the one tested.
    """
    init = ROOT / "__init__.py"
    spec = importlib.util.spec_from_file_location("emu_edit", init, submodule_search_locations=[str(ROOT)])
    if spec is None or spec.loader is None:
        raise RuntimeError(f"cannot load the package from {init}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["emu_edit"] = module
    if init.exists():
        spec.loader.exec_module(module)


_bind_package()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder, which is the package."""
    return ROOT
