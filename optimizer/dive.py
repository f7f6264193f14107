"""A good answer early: round the relaxed model one type at a time, solving again in between.

Each step fixes one number of replicas and re-solves from the last basis, which costs a few
simplex pivots. The count nearest to a whole number is rounded first, to that number.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import highspy

_INTEGRAL = 1e-6


def dive(highs: Any, columns: Sequence[int], deadline_s: float) -> list[float] | None:
    """Return all column values, with whole replicas as far as time allowed; None when stuck.

    Args:
        highs: a solved relaxation; its bounds are left changed.
        columns: indices of the replica counts.
        deadline_s: stop then, on ``time.monotonic``'s clock.
    """
    solved = highspy.HighsModelStatus.kOptimal
    while True:
        values = list(highs.getSolution().col_value)
        fractional = [c for c in columns if abs(values[c] - round(values[c])) > _INTEGRAL]
        if not fractional or time.monotonic() >= deadline_s:
            return values
        column = min(fractional, key=lambda c: abs(values[c] - round(values[c])))
        nearest = round(values[column])
        other = math.floor(values[column]) + math.ceil(values[column]) - nearest
        for count in (nearest, other):
            highs.changeColBounds(column, float(count), float(count))
            highs.run()
            if highs.getModelStatus() == solved:
                break
        else:
            return None
