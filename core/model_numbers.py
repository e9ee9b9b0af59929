"""The numbers in a model folder's JSON files: looked at before anything computes with them.

A hand-edited or half-written file then gives one sentence that names it, where the libraries would give a
traceback, or pictures of noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import EmuEditError

# What an editor may recommend (emu_edit/config.json, "defaults"): name -> (least value, whole numbers only).
DEFAULTS = {
    "steps": (1, True),
    "text_guidance": (0, False),
    "image_guidance": (0, False),
    "size": (1, True),
}
MOST_STEPS = 100_000  # of a noise schedule; models are trained with 1000


def check_number(value: Any, name: str, source: Path, least: float, most: float, whole: bool = False) -> None:
    """Raise EmuEditError unless `value`, read under `name` in the file `source`, is such a number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if number and least <= value <= most and (not whole or value == int(value)):
        return
    kind = "a whole number" if whole else "a number"
    limits = f"of {least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
    raise EmuEditError(f"{source}: {name} is {value!r} and should be {kind} {limits}; mend or replace it.")


def check_defaults(defaults: Mapping[str, Any], source: Path) -> None:
    """Raise EmuEditError unless the settings that an editor recommends can be followed."""
    for name, (least, whole) in DEFAULTS.items():
        if name in defaults:
            check_number(defaults[name], f"defaults.{name}", source, least, math.inf, whole)


def check_scheduler(config: Mapping[str, Any], source: Path) -> None:
    """Raise EmuEditError unless the numbers of a diffusers scheduler's config can be a noise schedule's."""
    for name, least in (("num_train_timesteps", 1), ("steps_offset", 0)):
        if name in config:
            check_number(config[name], name, source, least, MOST_STEPS, whole=True)
    betas = config.get("trained_betas")
    if betas is None:
        for name in ("beta_start", "beta_end"):
            if name in config:
                check_number(config[name], name, source, 0, 1)
        return
    if not isinstance(betas, list) or not 0 < len(betas) <= MOST_STEPS:
        raise EmuEditError(
            f"{source}: trained_betas must be a list of 1 to {MOST_STEPS} numbers; mend or replace it."
        )
    for index, beta in enumerate(betas):
        check_number(beta, f"trained_betas[{index}]", source, 0, 1)


def check_autoencoder(config: Mapping[str, Any], source: Path) -> None:
    """Raise EmuEditError unless the scale of an autoencoder's latents is one."""
    if "scaling_factor" in config:
        check_number(config["scaling_factor"], "scaling_factor", source, 1e-6, 1e6)
