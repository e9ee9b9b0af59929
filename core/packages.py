"""Optional packages, asked for when they are needed and missed in one sentence."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import EmuEditError

# Both, and in this order: diffusers alone may raise a package under an older transformers that breaks it.
INSTALL = "pip install transformers diffusers"


def need(package: str, why: str, install: str = INSTALL) -> ModuleType:
    """Import an optional package; EmuEditError names it, `why` it is needed ("to load an editor"), the mend.

    Example: `need("diffusers", "to load an editor").UNet2DConditionModel`.
    """
    try:
        return importlib.import_module(package)
    except ImportError as problem:
        raise EmuEditError(
            f"the Python package {package!r} is needed {why} and could not be imported ({problem}); "
            f"run: {install}"
        ) from problem


def need_class(package: str, name: str, why: str) -> type:
    """A class of an optional package. Both libraries import lazily, so a broken one shows only here."""
    try:
        found = getattr(need(package, why), name)
    except (AttributeError, ImportError, RuntimeError) as problem:
        raise EmuEditError(
            f"{package}.{name} is needed {why} and could not be imported ({problem}); run: {INSTALL}"
        ) from problem
    if not isinstance(found, type):
        raise EmuEditError(f"{package}.{name} is needed {why} but is no class; install a released {package}.")
    return found
