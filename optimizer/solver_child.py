"""The solver's own process: models in, better and better answers out, over one pipe.

Started by :mod:`optimizer.solver` as ``python -m optimizer.solver_child FD PARENT_PID``.
"""

import contextlib
import sys
from multiprocessing.connection import Connection

from accelerators.children import end_with
from optimizer.milp import solve
from optimizer.model import Incumbent
from optimizer.schedule.model import ScheduleModel, ScheduleSolution
from optimizer.schedule.solve import solve as solve_schedule


def serve(pipe: Connection) -> None:
    """Solve models until the other end closes."""

    def report(answer: Incumbent | ScheduleSolution | None, *bound: float) -> None:
        pipe.send(("progress", answer, *bound))

    pipe.send(("ready",))
    while True:
        try:
            model, deadline_s, gap = pipe.recv()
        except EOFError:
            return
        try:
            chosen = solve_schedule if isinstance(model, ScheduleModel) else solve
            answer: tuple[str, object] = ("done", chosen(model, deadline_s, gap, report))
        except Exception as error:  # whatever it is, the parent must hear of it
            answer = ("failed", f"{type(error).__name__}: {error}")
        pipe.send(answer)


def main(arguments: list[str]) -> None:
    """Run on the pipe whose file descriptor is the first argument."""
    import highspy  # noqa: F401 - loaded while the parent reads its input
    import pulp  # noqa: F401

    end_with(int(arguments[1]))
    with contextlib.suppress(BrokenPipeError):
        serve(Connection(int(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
