"""Run a command line: load the configuration, find the command, turn every outcome into a code."""

import os
import sys
from dataclasses import replace
from typing import Annotated, Any, cast

import typer
from typer.main import get_command

from accelerators.errors import ToolError, UsageError
from aibrixctl import __version__, config, signals
from aibrixctl.command import COMMON_OPTIONS, Session, finish, session, start_session
from aibrixctl.exit_codes import MEANING, ExitCode
from aibrixctl.options import known_keys
from aibrixctl.quantities import UNITS
from aibrixctl.render import MACHINE, Format
from aibrixctl.result import Problem, Result, failed
from aibrixctl.terminal import Reporter, drop_stdout, prepare_streams
from aibrixctl.tree import TREE, LazyGroup, attach, leaves, path_of, without_variables

PROGRAM = "aibrixctl"
COMPLETION = "_AIBRIXCTL_COMPLETE"
"""Set by a shell that asks for completions; see ``aibrixctl completion``."""
_NAMES = {ExitCode.SIGINT: "SIGINT", ExitCode.SIGTERM: "SIGTERM"}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")  # noqa: T201
        raise typer.Exit


def _root_options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before any command."""


def root() -> LazyGroup:
    """Return the whole command tree, unloaded."""
    codes = "\n".join(f"  {code.value:<4}{MEANING[code]}" for code in ExitCode)
    app = typer.Typer(
        cls=LazyGroup,
        add_completion=False,
        rich_markup_mode=None,
        help=TREE.about,
        epilog=f"{UNITS}\n\n\b\nExit codes:\n{codes}",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root_options)
    return attach(cast(LazyGroup, without_variables(get_command(app))), TREE)


def call(words: list[str]) -> Result:
    """Run another command from within one, and return its result in place of printing it.

    Its own ``-o`` and ``-q`` do nothing; progress goes to the reporter of the running command.

    Raises:
        ToolError: what the command raises.
    """
    session().nested = True
    try:
        result = root().main(args=words, prog_name=PROGRAM, standalone_mode=False)
    finally:
        session().nested = False
    assert isinstance(result, Result)
    return result


def run(words: list[str]) -> int:
    """Run one command line and return its exit code. Never raises."""
    prepare_streams()
    start_session(_session_before_parsing(words))
    signals.install(_ended_at_once)
    try:
        return _run(words)
    except signals.Interrupted as stop:
        return _interrupted(stop.code)
    except SystemExit as end:
        # Typer ends by itself after a completion, and when its help meets a closed pipe.
        closed = isinstance(end.__context__, BrokenPipeError)
        return ExitCode.OK if closed else int(end.code or 0)
    except Exception as error:
        return _bug(error)


def _run(words: list[str]) -> int:
    path = path_of(words)
    if COMPLETION in os.environ:
        _prepare_completion()
    try:
        defaults = {} if _only_asks(words) else _configured(words, path)
        outcome: Any = root().main(
            args=words,
            prog_name=PROGRAM,
            standalone_mode=False,
            default_map=defaults,
            auto_envvar_prefix=config.PREFIX.rstrip("_"),
        )
    except ToolError as error:
        return _fail(error)
    except typer.TyperException as error:
        return _usage_error(error, path, words)
    return outcome if isinstance(outcome, int) else ExitCode.OK


def _only_asks(words: list[str]) -> bool:
    """Tell whether help, the version or completions are wanted, which no setting may prevent."""
    return COMPLETION in os.environ or not {"--help", "-h", "--version"}.isdisjoint(_own(words))


def _own(words: list[str]) -> list[str]:
    """Return the words that are ours: what follows ``--`` belongs to another program."""
    return words[: words.index("--")] if "--" in words else words


def _configured(words: list[str], path: str) -> Any:
    """Return the defaults that files set; from here on errors have the format they ask for."""
    settings = config.read_files()
    if settings:
        config.check_keys(settings, known_keys())
    chosen = config.effective(settings)
    if "output" in chosen:
        start_session(_session_before_parsing(words, str(chosen["output"].value)))
    return config.default_map(chosen, path, COMMON_OPTIONS)


def _prepare_completion() -> None:
    """Teach Typer its shells; it does so by itself only beside options that we don't offer."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()


def _fail(error: ToolError) -> int:
    return _conclude(failed(error))


def _conclude(result: Result) -> int:
    """Print a result that is an error, and return its code; without an output, say so as well."""
    try:
        return finish(result)
    except ToolError as second:
        session().output_file = os.devnull
        drop_stdout()
        again = Problem.of(second)
        told = result.errors if again in result.errors else (*result.errors, again)
        finish(replace(result, errors=told))
        return int(result.exit_code)


def _bug(error: Exception) -> int:
    """Report an error that nobody foresaw as JSON too; the traceback goes to stderr."""
    sys.excepthook(type(error), error, error.__traceback__)
    problem = Problem(
        "internal", f"{type(error).__name__}: {error}", hint="this is a bug: please report it"
    )
    return _conclude(Result(None, status="error", exit_code=ExitCode.FAILURE, errors=(problem,)))


def _usage_error(error: typer.TyperException, path: str, words: list[str]) -> int:
    text = error.format_message()
    if not text or type(error).__name__ == "NoArgsIsHelpError":
        print(text, file=sys.stderr)  # noqa: T201
        return ExitCode.USAGE
    hint = f"see `{PROGRAM} {path}".strip() + " --help`"
    if "-n" in _own(words) and _is_dry_run(error, "-n"):
        hint = f"-n is --dry-run here, and a namespace is named with --namespace; {hint}"
    return _fail(UsageError("usage", text.strip(), hint=hint))


def _is_dry_run(error: typer.TyperException, option: str) -> bool:
    """Tell whether an option is a dry run in a command that has namespaces as well."""
    context = getattr(error, "ctx", None)
    options = [set(one.opts) for one in context.command.params] if context else []
    return {"--dry-run", option} in options and {"--namespace"} in options


def _interrupted(code: ExitCode) -> int:
    return _stopped(code, f"stopped by {_NAMES[code]} before there was a result")


def _ended_at_once(code: ExitCode) -> int:
    text = f"ended at once by a second {_NAMES[code]}: what it had begun may be left as it was"
    return _stopped(code, text)


def _stopped(code: ExitCode, message: str) -> int:
    problem = Problem("interrupted", message)
    return _conclude(Result(None, status="error", exit_code=code, errors=(problem,)))


def _session_before_parsing(words: list[str], configured: str = "table") -> Session:
    """Guess command, format and file, so that an early error goes where a result would."""
    form = _option(words, "--output", "-o") or os.environ.get("AIBRIXCTL_OUTPUT") or configured
    output: Format = next((f for f in MACHINE if f == form), "table")
    path = path_of(words)
    return Session(
        path if path in dict(leaves()) else "error",
        output,
        _option(words, "--output-file") or os.environ.get("AIBRIXCTL_OUTPUT_FILE"),
        reporter=Reporter(),
    )


def _option(words: list[str], name: str, short: str | None = None) -> str | None:
    """Return the last value that the words give an option, apart or joined."""
    value = None
    words = _own(words)
    for index, word in enumerate(words):
        if word in (name, short):
            value = words[index + 1] if index + 1 < len(words) else value
        elif word.startswith(f"{name}="):
            value = word.removeprefix(f"{name}=")
        elif short and word.startswith(short):
            value = word.removeprefix(short)
    return value
