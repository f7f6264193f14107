"""The exit codes of every command, in one table."""

from enum import IntEnum

from accelerators.errors import Kind


class ExitCode(IntEnum):
    """Exit status; verdicts are 10 and above so that CI can tell them from failures."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    FAULTS_FOUND = 10
    INFEASIBLE = 11
    SLO_NOT_MET = 12
    UNREACHABLE = 13
    SIGINT = 130
    SIGTERM = 143


MEANING = {
    ExitCode.OK: "success",
    ExitCode.FAILURE: "failure: a file, an engine or the tool itself",
    ExitCode.USAGE: "wrong usage, input or configuration",
    ExitCode.PARTIAL: "partial result: printed, but incomplete or not certified",
    ExitCode.FAULTS_FOUND: "faults found",
    ExitCode.INFEASIBLE: "infeasible: no plan meets the limits",
    ExitCode.SLO_NOT_MET: "SLO not met",
    ExitCode.UNREACHABLE: "target unreachable, or access refused",
    ExitCode.SIGINT: "interrupted (SIGINT); what was measured is printed",
    ExitCode.SIGTERM: "terminated (SIGTERM); what was measured is printed",
}

OF_KIND: dict[Kind, ExitCode] = {
    "failure": ExitCode.FAILURE,
    "usage": ExitCode.USAGE,
    "partial": ExitCode.PARTIAL,
    "infeasible": ExitCode.INFEASIBLE,
    "slo_not_met": ExitCode.SLO_NOT_MET,
    "unreachable": ExitCode.UNREACHABLE,
}
