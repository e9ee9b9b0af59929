"""Numbers on the command line, refused in a sentence before any work: `type=at_least(1)` of argparse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def at_least(lowest: int) -> Callable[[str], int]:
    """A whole number that is `lowest` or more."""

    def whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{text} is no whole number of {lowest} or more")
        return number

    return whole


def above_zero(text: str) -> float:
    """A finite number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return number
