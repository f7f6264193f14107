"""Make a plain function a command: common options in, a rendered Result and a code out.

A command function takes typed arguments and returns a :class:`~aibrixctl.result.Result`; it never
prints results and never exits.
"""

import functools
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer

from accelerators.documents import timestamp
from accelerators.errors import ToolError
from aibrixctl import __version__
from aibrixctl.choices import one_of
from aibrixctl.exit_codes import ExitCode
from aibrixctl.render import FORMATS, Format, emit
from aibrixctl.result import Problem, Result
from aibrixctl.terminal import Reporter, drop_stdout


@dataclass
class Session:
    """How the running command was asked to behave.

    ``nested`` is True while a command runs others and takes their results.
    """

    command: str = "aibrixctl"
    output: Format = "table"
    output_file: str | None = None
    exit_zero: bool = False
    no_input: bool = False
    reporter: Reporter = field(default_factory=Reporter)
    nested: bool = False
    started_s: float = field(default_factory=time.monotonic)


_session = Session()


def session() -> Session:
    """Return the session of the command that runs."""
    return _session


def start_session(fresh: Session) -> None:
    """Replace the session, at the start of a run and once the options are known."""
    global _session  # noqa: PLW0603 - one command runs per process
    _session = fresh


def _check_format(value: str) -> str:
    if value not in FORMATS:
        raise typer.BadParameter(f"{value!r} is not a format; expected {'|'.join(FORMATS)}")
    return value


_COMMON: dict[str, tuple[Any, Any]] = {
    "output": (
        Annotated[
            str,
            typer.Option(
                "--output",
                "-o",
                metavar="|".join(FORMATS),
                help="Output format.",
                envvar="AIBRIXCTL_OUTPUT",
                callback=_check_format,
                autocompletion=one_of(*FORMATS),
                show_envvar=False,
            ),
        ],
        "table",
    ),
    "output_file": (
        Annotated[
            str | None,
            typer.Option(
                "--output-file",
                metavar="FILE",
                envvar="AIBRIXCTL_OUTPUT_FILE",
                show_envvar=False,
                help="Write the output to FILE, atomically.",
            ),
        ],
        None,
    ),
    "exit_zero": (
        Annotated[
            bool,
            typer.Option(
                "--exit-zero",
                envvar="AIBRIXCTL_EXIT_ZERO",
                show_envvar=False,
                help="Exit 0 on verdicts and partial results (codes 3 and 10 to 12), for cron; "
                "silent about them with --quiet.",
            ),
        ],
        False,
    ),
    "no_input": (
        Annotated[
            bool,
            typer.Option(
                "--no-input",
                envvar="AIBRIXCTL_NO_INPUT",
                show_envvar=False,
                help="Never ask; fail instead.",
            ),
        ],
        False,
    ),
    "quiet": (
        Annotated[
            bool,
            typer.Option(
                "--quiet",
                "-q",
                envvar="AIBRIXCTL_QUIET",
                show_envvar=False,
                help="No progress, hints or warnings.",
            ),
        ],
        False,
    ),
    "verbose": (
        Annotated[
            int,
            typer.Option(
                "--verbose",
                "-v",
                count=True,
                envvar="AIBRIXCTL_VERBOSE",
                show_envvar=False,
                show_default=False,
                help="More on stderr; twice for most.",
            ),
        ],
        0,
    ),
}
COMMON_OPTIONS = tuple(_COMMON)


@dataclass(frozen=True)
class Example:
    """One example of the help text.

    Attributes:
        line: the command line, as a user types it.
        about: what it does, in a few words.
    """

    line: str
    about: str


@dataclass(frozen=True)
class Spec:
    """What the command tree, the documentation and the tests need to know of a command.

    ``runs_words``: what follows its own options is another program's command line.
    """

    path: str
    examples: tuple[Example, ...]
    runs_words: bool = False


def command(
    path: str, *, examples: Sequence[tuple[str, str]] = (), runs_words: bool = False
) -> Callable[[Callable[..., Result]], Callable[..., int | Result]]:
    """Return a decorator that makes a function the command at ``path``, e.g. ``profile load``.

    Args:
        path: words of the command, without the program's name.
        examples: pairs of a command line and what it does; shown in help and man page, and run
            by a test.
        runs_words: options after the first argument are not the command's own, as with ``env``.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., int | Result]:
        own = inspect.signature(function)

        @functools.wraps(function)
        def run(**arguments: Any) -> int | Result:
            common = {name: arguments.pop(name) for name in COMMON_OPTIONS}
            if _session.nested:
                return function(**arguments)
            reporter = Reporter(quiet=common["quiet"], verbosity=common["verbose"])
            start_session(
                Session(
                    path,
                    common["output"],
                    common["output_file"],
                    common["exit_zero"],
                    common["no_input"],
                    reporter,
                )
            )
            _refuse_output(common["output_file"])
            return finish(function(**arguments))

        extra = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
            )
            for name, (annotation, default) in _COMMON.items()
        ]
        run.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[*own.parameters.values(), *extra], return_annotation=int
        )
        run.__annotations__ = function.__annotations__ | {
            name: annotation for name, (annotation, _) in _COMMON.items()
        }
        run.spec = Spec(  # type: ignore[attr-defined]
            path, tuple(Example(*pair) for pair in examples), runs_words
        )
        return run

    return decorate


def _refuse_output(file: str | None) -> None:
    """Refuse a ConfigMap that can't be one before the work, not after it; raises UsageError."""
    if file is not None and file.startswith("k8s:"):
        from cluster.documents import parse_url

        parse_url(file, "--output-file")


def finish(result: Result) -> int:
    """Print a result as the session asks, its errors and warnings on stderr; return the code."""
    current = session()
    meta = {
        "tool_version": __version__,
        "generated_at": timestamp(),
        "elapsed_s": round(time.monotonic() - current.started_s, 3),
    }
    try:
        emit(result, current.command, current.output, current.output_file, meta)
    except BrokenPipeError:
        drop_stdout()
    except ToolError as failure:
        # What took an hour to measure is not lost with the disk: it goes to stdout.
        if result.data is None or current.output_file in (None, "-"):
            raise
        current.output_file = None
        told = (*result.errors, Problem.of(failure))
        return finish(replace(result, status="error", exit_code=ExitCode.FAILURE, errors=told))
    for warning in result.warnings:
        current.reporter.say(f"warning: {warning.message}")
        if warning.hint:
            current.reporter.say(f"  hint: {warning.hint}")
    verdict = result.exit_code in (
        ExitCode.PARTIAL,
        ExitCode.FAULTS_FOUND,
        ExitCode.INFEASIBLE,
        ExitCode.SLO_NOT_MET,
    )
    forgiven = current.exit_zero and verdict
    for error in result.errors if not (forgiven and current.reporter.quiet) else ():
        current.reporter.line(f"error: {error.message}")
        if error.hint:
            current.reporter.line(f"  hint: {error.hint}")
    return int(ExitCode.OK if forgiven else result.exit_code)
