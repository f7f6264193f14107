"""The schedule's model with what is known of the demand so far, as HiGHS takes it.

A period is a run of hours that share one fleet. Columns are replicas by period, then by type;
after them replicas that start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt

from optimizer.model import Floats
from optimizer.schedule.model import ScheduleModel

Hours = npt.NDArray[np.int64]
_SLACK = 1e-9


@dataclass(frozen=True)
class Inequality:
    """``prices . replicas >= need[h]`` for every hour: [G] and [H]."""

    prices: Floats
    need: Floats


class Master:
    """One mixed-integer model; build it, solve it once."""

    def __init__(
        self,
        model: ScheduleModel,
        periods: Sequence[Hours],
        inequalities: Sequence[Inequality],
        *,
        starts: bool,
    ):
        """Take the hours of each period; ``starts`` says whether starting replicas costs."""
        self.model, self.periods, self.starts = model, periods, starts
        self.kinds = len(model.cost)
        self.fleets = len(periods) * self.kinds
        self.proven = False
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.silent()
        self._highs.setOptionValue("threads", 1)
        self._columns()
        self._limit_rows()
        if starts:
            self._start_rows()
        for inequality in inequalities:
            self._demand_rows(inequality)

    def _columns(self) -> None:
        model, n = self.model, len(self.periods)
        hours = np.array([len(period) for period in self.periods], dtype=np.float64)
        self._add_columns(
            (hours[:, None] * model.cost).ravel(),
            np.tile(model.lower, n),
            np.tile(np.where(np.isinf(model.upper), highspy.kHighsInf, model.upper), n),
        )
        whole = np.full(self.fleets, highspy.HighsVarType.kInteger)
        self._highs.changeColsIntegrality(
            self.fleets, np.arange(self.fleets, dtype=np.int32), whole
        )
        if self.starts:
            top = np.full(self.fleets, highspy.kHighsInf)
            self._add_columns(np.tile(model.start_cost, n), np.zeros(self.fleets), top)

    def _add_columns(self, cost: Floats, lower: Floats, upper: Floats) -> None:
        empty = np.empty(0, dtype=np.int32)
        begins = np.zeros(len(cost), dtype=np.int32)
        self._highs.addCols(len(cost), cost, lower, upper, 0, begins, empty, np.empty(0))

    def _row(self, low: float, high: float, columns: Sequence[int], values: Floats) -> None:
        index = np.asarray(columns, dtype=np.int32)
        self._highs.addRow(low, high, len(index), index, np.asarray(values, dtype=np.float64))

    def _column(self, period: int, kind: int) -> int:
        return period * self.kinds + kind

    def _limit_rows(self) -> None:
        model = self.model
        for p in range(len(self.periods)):
            for pool in model.pools:
                members = [self._column(p, g) for g in pool.members]
                used = model.gpus[list(pool.members)]
                self._row(-highspy.kHighsInf, float(pool.gpus), members, used)
            if math.isfinite(model.budget):
                columns = [self._column(p, g) for g in range(self.kinds)]
                self._row(-highspy.kHighsInf, model.budget, columns, model.cost)

    def _start_rows(self) -> None:
        signs = np.array([1.0, -1.0, -1.0])
        for p in range(len(self.periods)):
            for g in range(self.kinds):
                here, before = self._column(p, g), self._column((p - 1) % len(self.periods), g)
                if here != before:
                    self._row(-highspy.kHighsInf, 0.0, [here, before, self.fleets + here], signs)

    def _demand_rows(self, inequality: Inequality) -> None:
        priced = np.nonzero(inequality.prices)[0]
        for p, hours in enumerate(self.periods):
            need = float(inequality.need[hours].max())
            if need > 0:
                columns = [self._column(p, int(g)) for g in priced]
                low = need * (1 - _SLACK)
                self._row(low, highspy.kHighsInf, columns, inequality.prices[priced])

    def solve(
        self, limit_s: float, gap: float, start: Floats | None = None
    ) -> tuple[Floats | None, float]:
        """Return [periods, G] replicas and the bound; the bound is infinite where none can be."""
        self._highs.setOptionValue("time_limit", limit_s)
        self._highs.setOptionValue("mip_rel_gap", gap)
        if start is not None:
            self._start_from(start)
        self._highs.run()
        status, info = self._highs.getModelStatus(), self._highs.getInfo()
        if status == highspy.HighsModelStatus.kInfeasible:
            return None, math.inf
        self.proven = status == highspy.HighsModelStatus.kOptimal
        bound = info.mip_dual_bound if math.isfinite(info.mip_dual_bound) else 0.0
        if info.primal_solution_status != highspy.kSolutionStatusFeasible:
            return None, bound
        values = np.array(self._highs.getSolution().col_value)[: self.fleets]
        return np.round(values).reshape(len(self.periods), self.kinds) + 0.0, bound

    def _start_from(self, start: Floats) -> None:
        solution = highspy.HighsSolution()
        solution.col_value = np.concatenate([start.ravel(), self.model.started(start).ravel()])
        self._highs.setSolution(solution)
