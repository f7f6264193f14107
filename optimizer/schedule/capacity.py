"""Whether replicas serve an hour's demand, and if not, an inequality that says why.

Replicas y serve a demand when routing shares f exist with ``sum_b load[b, g] f[b, g] <= usable
y[g]``. By duality that is so exactly when for all prices u >= 0

    usable * sum_g u[g] y[g]  >=  sum_b min_g u[g] load[b, g]

so the demand of an hour becomes inequalities on y alone, and routing leaves the model. One price
gives one inequality for every hour.
"""

from typing import Any

import highspy
import numpy as np

from optimizer.model import Floats

TOLERANCE = 1e-7


class Capacity:
    """One hour's demand: tells which replicas serve it."""

    def __init__(self, load: Floats, usable: float):
        """Take [B, G] load; a bucket without demand has 0 everywhere."""
        self.usable = usable
        self.kinds = load.shape[1]
        asked = load[(load != 0).any(axis=1)]
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.silent()
        self._highs.setOptionValue("threads", 1)
        self._build(asked)

    def _build(self, load: Floats) -> None:
        """Minimise t, by which every type would have to be larger; t is the first column."""
        infinity = highspy.kHighsInf
        buckets, kinds = np.nonzero(np.isfinite(load))
        n = len(buckets)
        first_kind = load.shape[0]
        self._first_kind = first_kind
        rows = first_kind + self.kinds
        self._highs.addRows(
            rows,
            np.concatenate([np.ones(first_kind), np.full(self.kinds, -infinity)]),
            np.concatenate([np.ones(first_kind), np.zeros(self.kinds)]),
            0,
            np.zeros(rows, dtype=np.int32),
            np.empty(0, dtype=np.int32),
            np.empty(0),
        )
        self._highs.addCol(
            1.0,
            -infinity,
            infinity,
            self.kinds,
            np.arange(first_kind, rows, dtype=np.int32),
            np.full(self.kinds, -1.0),
        )
        self._highs.addCols(
            n,
            np.zeros(n),
            np.zeros(n),
            np.full(n, infinity),
            2 * n,
            np.arange(0, 2 * n, 2, dtype=np.int32),
            np.column_stack([buckets, kinds + first_kind]).astype(np.int32).ravel(),
            np.column_stack([np.ones(n), load[buckets, kinds]]).ravel(),
        )

    def shortage(self, replicas: Floats) -> Floats | None:
        """Return prices that show why [G] replicas do not serve the hour; None when they do."""
        for g in range(self.kinds):
            limit = float(self.usable * replicas[g])
            self._highs.changeRowBounds(self._first_kind + g, -highspy.kHighsInf, limit)
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(f"routing: {self._highs.getModelStatus()}")
        short = self._highs.getInfo().objective_function_value
        if short <= TOLERANCE * max(1.0, float(replicas.max())):
            return None
        duals = np.array(self._highs.getSolution().row_dual)[self._first_kind :]
        return np.asarray(np.maximum(-duals, 0.0))


def needed(load: Floats, prices: Floats) -> Floats:
    """Return [H] right sides of the inequality that prices give, for [H, B, G] load."""
    with np.errstate(invalid="ignore"):
        priced = np.where(np.isfinite(load), load * prices, np.inf)
    return np.asarray(priced.min(axis=2).sum(axis=1))
