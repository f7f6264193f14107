"""What an examination means for a script: faults weigh more than checks that could not run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Status

if TYPE_CHECKING:
    from aibrixctl.doctor_view import Report


def verdict(
    report: "Report",
    code: str,
    target: str | None = None,
    hints: Mapping[str, str] | None = None,
) -> tuple[Status, ExitCode, tuple[Problem, ...]]:
    """Return status, exit code, and a problem for each reason why checks stay open.

    Args:
        report: of the examination.
        code: of these problems.
        target: what was examined.
        hints: what helps, by reason.
    """
    reasons: dict[str, list[str]] = {}
    for check in report.undecided:
        reasons.setdefault(check.reason, []).append(check.code)
    problems = tuple(
        Problem(
            code,
            f"{', '.join(codes)} could not be checked: {reason}",
            target,
            (hints or {}).get(reason, ""),
        )
        for reason, codes in reasons.items()
    )
    if report.faults:
        return ("partial" if problems else "success"), ExitCode.FAULTS_FOUND, problems
    if problems:
        return "partial", ExitCode.PARTIAL, problems
    return "success", ExitCode.OK, ()
