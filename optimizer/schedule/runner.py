"""Solve a schedule in a child process, so that its time limit is one."""

import os
import threading
import time
from multiprocessing.connection import Connection

from accelerators import children
from optimizer.errors import OptimizerError
from optimizer.schedule.model import ScheduleModel, ScheduleSolution

_GRACE = 1.05
_POLL_S = 0.1


def solve_schedule(
    model: ScheduleModel, *, limit_s: float, gap: float, stop: threading.Event | None = None
) -> ScheduleSolution:
    """Return the best schedule found within the limit (the child is killed soon after it).

    Args:
        model: what to solve.
        limit_s: wall-clock seconds, the child's start included.
        gap: relative gap at which an answer is good enough.
        stop: when set, the best answer so far is returned.

    Raises:
        OptimizerError: the solver's process failed.
    """
    ends_s = time.monotonic() + limit_s
    process, pipe = children.start("optimizer.solver_child", str(os.getpid()))
    try:
        return _listen(pipe, (model, ends_s, gap), time.monotonic() + limit_s * _GRACE, stop)
    except (EOFError, OSError) as error:
        raise OptimizerError(
            "solver.died",
            "the solver's process ended before it answered",
            hint="it may have run out of memory; try fewer buckets",
        ) from error
    finally:
        pipe.close()
        process.kill()
        process.wait()


def _listen(
    pipe: Connection,
    task: tuple[ScheduleModel, float, float],
    until_s: float,
    stop: threading.Event | None,
) -> ScheduleSolution:
    best = ScheduleSolution("no_solution", None, 0.0, None, None)
    while (left_s := until_s - time.monotonic()) > 0 and not (stop and stop.is_set()):
        if not pipe.poll(min(left_s, _POLL_S)):
            continue
        kind, *content = pipe.recv()
        if kind == "ready":
            pipe.send(task)
        elif kind == "failed":
            raise OptimizerError("solver.failed", f"the solver failed: {content[0]}")
        else:
            best = content[0]
            if kind == "done":
                break
    return best
