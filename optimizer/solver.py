"""Run the solver in a child process, so that a time limit is a time limit.

HiGHS overshoots its own limit, and a native call cannot be interrupted from Python. The child
streams each better answer; at the limit the parent kills it and keeps the best one.
"""

import math
import os
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np

from accelerators import children
from optimizer.errors import OptimizerError
from optimizer.model import Incumbent, Model, Solution

GRACE = 0.05
_POLL_S = 0.1
_OWN_SHARE = 0.95


class Solver:
    """A child process that solves one model after another; use it as a context manager.

    The process starts in the background at once: what the caller does meanwhile is free.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._ready = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None when there is none."""
        return self._process.pid if self._process else None

    def _start(self) -> Connection:
        self._process, ours = children.start("optimizer.solver_child", str(os.getpid()))
        self._pipe, self._ready = ours, False
        return ours

    def close(self) -> None:
        """Kill the child and wait until it is gone."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._pipe = self._process = None

    def solve(
        self,
        model: Model,
        *,
        limit_s: float,
        gap: float = 1e-3,
        stop: threading.Event | None = None,
    ) -> Solution:
        """Return the best answer found within the limit (killed at the latest 5% after it).

        Args:
            model: what to solve.
            limit_s: wall-clock seconds, the child's start included.
            gap: relative gap at which an answer is good enough.
            stop: when set, the best answer so far is returned.

        Raises:
            OptimizerError: the solver's process failed.
        """
        started_s = time.monotonic()
        pipe = self._pipe or self._start()
        best, bound = quick_answer(model), -math.inf
        task = (model, started_s + limit_s * _OWN_SHARE, gap)
        done = False
        try:
            if self._ready:
                pipe.send(task)
            while (left_s := started_s + limit_s * (1 + GRACE) - time.monotonic()) > 0:
                if stop is not None and stop.is_set():
                    break
                if not pipe.poll(min(left_s, _POLL_S)):
                    continue
                kind, *content = pipe.recv()
                if kind == "ready":  # a model sent before would fill the pipe, and block
                    self._ready = True
                    pipe.send(task)
                    continue
                if kind == "progress":
                    bound = content[1]
                    best = _cheaper(model, best, content[0])
                    continue
                done = True
                if kind == "failed":
                    raise OptimizerError("solver.failed", f"the solver failed: {content[0]}")
                return _finish(model, content[0], best)
        except (EOFError, OSError) as error:
            raise OptimizerError(
                "solver.died",
                "the solver's process ended before it answered",
                hint="it may have run out of memory; try fewer buckets",
            ) from error
        finally:
            if not done:
                self.close()
        return Solution("feasible" if best else "no_solution", best, bound, bound)


def _cheaper(model: Model, ours: Incumbent | None, theirs: Incumbent | None) -> Incumbent | None:
    if ours is None or theirs is None:
        return ours or theirs
    sign = -1 if model.goal == "rate" else 1
    return theirs if sign * theirs.value <= sign * ours.value else ours


def _finish(model: Model, found: Solution, best: Incumbent | None) -> Solution:
    if found.status == "infeasible":
        return found
    answer = found.incumbent or best
    status = "feasible" if found.status == "no_solution" and answer else found.status
    if found.incumbent and best and best.value < found.incumbent.value and model.goal == "cost":
        answer = best
    return Solution(status, answer, found.bound, found.lp_bound)


def quick_answer(model: Model) -> Incumbent | None:
    """Return a plain feasible answer, computed without the solver; None when none is found.

    The best of: each bucket to the type that serves it cheapest, and all on one type.
    """
    if model.goal != "cost":
        return None
    price = model.load * model.cost
    choices = [price] + [
        np.where(np.arange(len(model.cost)) == g, price, math.inf) for g in range(len(model.cost))
    ]
    best: Incumbent | None = None
    for prices in choices:
        chosen = prices.argmin(axis=1)
        rows = np.arange(len(chosen))
        if not np.isfinite(prices[rows, chosen]).all():
            continue
        shares = np.zeros(model.load.shape)
        shares[rows, chosen] = 1.0
        busy = np.bincount(chosen, model.load[rows, chosen], len(model.cost))
        replicas = np.maximum(np.ceil(busy / model.usable * (1 - 1e-12)), model.lower)
        value = float(replicas @ model.cost)
        if model.allows(replicas) and (best is None or value < best.value):
            best = Incumbent(replicas, shares, value)
    return best
