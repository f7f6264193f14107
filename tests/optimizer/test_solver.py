"""The solver's process: its time limit, its end, and what is left when it is stopped."""

import threading
import time

import numpy as np
import psutil
import pytest

from optimizer.errors import OptimizerError
from optimizer.model import Model, Solution
from optimizer.solver import Solver

SLACK_S = 0.5  # two noisy cores


def hard_model(buckets: int = 600, types: int = 24) -> Model:
    """A model that takes far longer than a second to close: many alike types."""
    random = np.random.default_rng(4)
    speed = random.uniform(0.5, 1.5, (buckets, types))
    return Model(
        load=random.uniform(0.05, 0.2, (buckets, 1)) * speed,
        cost=random.uniform(0.95, 1.05, types) * 3,
        gpus=np.ones(types),
        lower=np.zeros(types),
        upper=np.full(types, np.inf),
    )


@pytest.fixture(scope="module")
def hard() -> Model:
    return hard_model()


@pytest.mark.parametrize("limit_s", [0.05, 1.5])
def test_the_limit_holds_and_the_best_answer_is_kept(hard: Model, limit_s: float) -> None:
    with Solver() as solver:
        started = time.monotonic()
        solution = solver.solve(hard, limit_s=limit_s, gap=1e-9)
        assert time.monotonic() - started <= limit_s * 1.2 + SLACK_S
    assert solution.status == "feasible"
    assert solution.incumbent is not None
    assert hard.allows(solution.incumbent.replicas)
    used = (hard.load * solution.incumbent.shares).sum(axis=0)
    assert (used <= solution.incumbent.replicas * (1 + 1e-6)).all()
    np.testing.assert_allclose(solution.incumbent.shares.sum(axis=1), 1, atol=1e-6)
    assert solution.bound <= solution.incumbent.value


def test_a_child_that_is_slow_to_start_does_not_hold_up_a_large_model() -> None:
    large = hard_model(6000)
    with Solver() as solver:
        child = psutil.Process(solver.pid)
        child.suspend()  # before it reads: the model would fill the pipe
        resumed = threading.Timer(20, child.resume)
        resumed.start()
        solution = solver.solve(large, limit_s=0.2)
        in_time = resumed.is_alive()
        resumed.cancel()
    assert in_time
    assert solution.status == "feasible"


def test_stopping_keeps_the_best_answer_and_ends_the_child(hard: Model) -> None:
    stop = threading.Event()
    stop.set()
    with Solver() as solver:
        pid = solver.pid
        assert pid is not None
        solution = solver.solve(hard, limit_s=60, stop=stop)
        assert not psutil.pid_exists(pid)
    assert solution.status == "feasible"


def small(value: float = 1.0) -> Model:
    return Model(np.array([[value]]), np.ones(1), np.ones(1), np.zeros(1), np.full(1, np.inf))


def test_no_child_outlives_its_solver() -> None:
    with Solver() as solver:
        first = solver.solve(small(), limit_s=30)
        again = solver.solve(small(), limit_s=30)
        pid = solver.pid
        assert pid is not None
    assert not psutil.pid_exists(pid)
    assert (first.status, first.bound) == (again.status, again.bound) == ("optimal", 1.0)


def test_an_error_in_the_caller_ends_the_child() -> None:
    solver = Solver()
    pid = solver.pid
    assert pid is not None
    with pytest.raises(KeyboardInterrupt), solver:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(pid)


def test_a_killed_child_is_an_error_and_the_next_solve_starts_another() -> None:
    with Solver() as solver:
        solver.solve(small(), limit_s=30)
        assert solver.pid is not None
        psutil.Process(solver.pid).kill()
        psutil.wait_procs([psutil.Process(solver.pid)], timeout=5)
        with pytest.raises(OptimizerError) as caught:
            solver.solve(small(), limit_s=30)
        assert caught.value.code == "solver.died"
        assert solver.solve(small(2.0), limit_s=30).bound == 2.0


def test_infeasible_limits_are_told_apart() -> None:
    model = Model(
        np.array([[3.0]]), np.ones(1), np.ones(1), np.zeros(1), np.full(1, 2.0), budget=100
    )
    with Solver() as solver:
        solution: Solution = solver.solve(model, limit_s=30)
    assert (solution.status, solution.incumbent) == ("infeasible", None)
