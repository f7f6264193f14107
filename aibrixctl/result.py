"""What a command returns, and the envelope that scripts read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from accelerators.errors import ToolError
from aibrixctl.exit_codes import OF_KIND, ExitCode

if TYPE_CHECKING:
    from rich.console import Console

Status = Literal["success", "partial", "error"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """One error or warning: a stable code, what was found, what it is about, what to do."""

    code: str
    message: str
    target: str | None = None
    hint: str = ""
    details: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; ``details`` only where there are any."""
        body = {name: value for name, value in vars(self).items() if name != "details"}
        return body if self.details is None else body | {"details": dict(self.details)}

    @classmethod
    def of(cls, error: ToolError) -> "Problem":
        """Return the problem that an error states; structured details ride along."""
        details = getattr(error, "details", None)
        return cls(error.code, error.message, error.target, error.hint, details)


@dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        data: what ``-o json`` prints under ``data``; keys carry units.
        rows: records for ``-o csv`` and ``-o jsonl``; also the table when there is no ``view``.
        record: value of ``type`` in each JSON Lines record.
        view: draws what a person reads on a console; the flag is True for ``-o wide``.
        status, exit_code: the verdict.
        errors, warnings: shown on stderr, and listed in the envelope.
    """

    data: Any
    rows: Sequence[Row] | None = None
    record: str = "row"
    view: Callable[["Console", bool], None] | None = None
    status: Status = "success"
    exit_code: int = ExitCode.OK
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def failed(error: ToolError) -> Result:
    """Return the result of a command that raised."""
    return Result(
        data=None,
        status="error",
        exit_code=OF_KIND[error.kind],
        errors=(Problem.of(error),),
    )


def waiting_stopped(target: str | None, code: int) -> Result:
    """Return the result of a command that a signal ended while it waited for a server."""
    problem = Problem("interrupted", f"stopped while waiting for {target}", target)
    return Result(None, status="error", exit_code=code, errors=(problem,))


def envelope(result: Result, command: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one shape in which every command answers a script."""
    return {
        "schema": f"aibrixctl/{command.replace(' ', '-')}/v1",
        "command": command,
        "status": result.status,
        "exit_code": int(result.exit_code),
        "data": result.data,
        "errors": [error.to_json() for error in result.errors],
        "warnings": [warning.to_json() for warning in result.warnings],
        "meta": dict(meta),
    }
