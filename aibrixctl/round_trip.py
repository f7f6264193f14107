"""The proof of the scenarios: what is injected is found, and nothing else; cleared, it is gone."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerators.errors import ToolError
from accelerators.mocked import VARIABLE

if TYPE_CHECKING:
    from diagnose.findings import Report
    from mockfail.scenario import Expected, Scenario


@dataclass(frozen=True)
class Trip:
    """The outcome for one scenario.

    Attributes:
        expected, found: findings, as ``CODE gpu 3``.
        after: findings that remain when the faults are cleared.
        problem: why there is no outcome.
    """

    scenario: str
    expected: tuple[str, ...]
    found: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    elapsed_s: float = 0.0
    problem: str | None = None

    @property
    def missed(self) -> list[str]:
        """What should have been found."""
        return [text for text in self.expected if text not in self.found]

    @property
    def extra(self) -> list[str]:
        """What should not have been found."""
        return [text for text in self.found if text not in self.expected]

    @property
    def passed(self) -> bool:
        """Whether the findings are exactly the expected ones, and gone afterwards."""
        return not (self.missed or self.extra or self.after or self.problem)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "scenario": self.scenario,
            "passed": self.passed,
            "expected": list(self.expected),
            "found": list(self.found),
            "missed": self.missed,
            "extra": self.extra,
            "after_clear": list(self.after),
            "elapsed_s": round(self.elapsed_s, 3),
            "problem": self.problem,
        }


def trips(
    scenarios: Iterable["Scenario"],
    timeout_s: float,
    workers: int,
    stop: threading.Event | None = None,
) -> Iterator[Trip]:
    """Yield the outcome of each scenario, in their order; several run side by side.

    Args:
        scenarios: those that say what is expected.
        timeout_s: of a diagnosis; a driver that hangs takes that long.
        workers: diagnoses at a time.
        stop: once set, ends those under way and yields only what is complete.
    """
    from diagnose.errors import StoppedError

    with ThreadPoolExecutor(workers) as pool:
        for outcome in [pool.submit(trip, each, timeout_s, stop) for each in scenarios]:
            with suppress(StoppedError):
                yield outcome.result()


def trip(scenario: "Scenario", timeout_s: float, stop: threading.Event | None = None) -> Trip:
    """Inject a scenario into a simulated node, diagnose, clear it and diagnose again.

    Raises:
        StoppedError: ``stop`` was set before there was an outcome.
    """
    from diagnose.errors import StoppedError
    from mockfail import environment, plan
    from mockfail.native import preload_environment

    if stop and stop.is_set():
        raise StoppedError("check.stopped", "stopped before the scenario was injected")
    started_s = time.monotonic()
    expected = tuple(sorted(_expected(each) for each in scenario.expected or ()))
    place = Path(tempfile.mkdtemp(prefix="aibrixctl-check-"))
    try:
        made = plan.plan([scenario], scenario.node or "h100x8")
        record = environment.new(scenario.name, made.node, made.mode, layers=made.layers)
        # What is timed has begun so long ago that the moment of the expectation is now.
        record = replace(record, started_s=record.started_s - scenario.expected_at_s)
        folder = place / "mock"
        environment.create(folder, record)
        around = _clean(os.environ)
        variables = around | preload_environment(folder, around)
        found = _diagnosed(scenario, variables, timeout_s, stop)
        environment.change(folder, lambda current: current.without(None))
        after = _diagnosed(scenario, variables, timeout_s, stop)
    except StoppedError:
        raise
    except Exception as error:  # of a diagnosis that breaks, the other scenarios are still wanted
        problem = error.message if isinstance(error, ToolError) else repr(error)
        elapsed_s = time.monotonic() - started_s
        return Trip(scenario.name, expected, elapsed_s=elapsed_s, problem=problem)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Trip(scenario.name, expected, found, after, time.monotonic() - started_s)


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would make the diagnosis see another machine."""
    ours = (VARIABLE, "CUDA_VERSION", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES")
    return {name: value for name, value in environment.items() if name not in ours}


def _diagnosed(
    scenario: "Scenario",
    variables: Mapping[str, str],
    timeout_s: float,
    stop: threading.Event | None,
) -> tuple[str, ...]:
    from diagnose.run import Options, diagnose

    family = "auto" if scenario.accelerator == "any" else scenario.accelerator
    options = Options(accelerator=family, timeout_s=timeout_s)
    return _found(diagnose(options, variables, stop=stop))


def _found(report: "Report") -> tuple[str, ...]:
    return tuple(sorted(_text(f.code, f.device.kind, f.device.index) for f in report.findings))


def _expected(expected: "Expected") -> str:
    return _text(expected.code, expected.kind, expected.index)


def _text(code: str, kind: str, index: int | None) -> str:
    return code if index is None else f"{code} {kind} {index}"
