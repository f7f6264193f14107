"""``aibrixctl mock-fail start | status | set | clear | stop``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl import mock_options as options
from aibrixctl.command import command, session
from aibrixctl.result import Problem, Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from mockfail.environment import Record
    from mockfail.plan import Plan

_NODE_WIDE = "node-wide"
_FOR, _FOR_NODE_WIDE = "1h", "10m"


@command(
    "mock-fail start",
    examples=(
        (
            "aibrixctl mock-fail start lab --node h100x8",
            'a healthy simulated node; eval "$(…)" around it puts this shell on it',
        ),
        (
            "aibrixctl mock-fail start lab --scenario nvlink-down --for 10m -o json",
            "with a fault, for ten minutes",
        ),
    ),
)
def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the mock.")] = "lab",
    scenario: options.Scenarios = None,
    sets: options.Sets = None,
    node: options.NodeSpec = None,
    mode: options.ModeName = "auto",
    device: options.OnDevice = None,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help=f"Ends by itself after that, 0 never; {_FOR} by default, node-wide "
            f"{_FOR_NODE_WIDE} and always.",
        ),
    ] = None,
    node_wide: Annotated[
        bool,
        typer.Option(
            "--node-wide",
            help="For every program of this machine, through /etc/ld.so.preload. Needs root.",
        ),
    ] = False,
    kmsg: options.Kmsg = False,
    dry_run: options.DryRun = False,
) -> Result:
    """Start a mock that programs can join, and print the lines that join it.

    Programs started with these variables see the faults; `set` and `clear` change them while the
    programs run, and `stop` ends the mock.

    With --node-wide every program that starts from now on is under the mock, without variables.
    The former preload file is kept on disk first; `aibrixctl mock-fail stop node-wide` restores it
    to the byte, also after a kill or a restart, and so does the end of --for.
    """
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from mockfail import environment

    options.check_kmsg(kmsg)
    name = _NODE_WIDE if node_wide else name
    plan = options.planned(scenario, sets, node, mode, device)
    for_s = quantities.duration("--for", for_ or (_FOR_NODE_WIDE if node_wide else _FOR))
    if node_wide and not for_s:
        raise UsageError("option.for", "--for is 0; a node-wide mock must end by itself")
    record = environment.new(
        name, plan.node, plan.mode, layers=plan.layers, for_s=for_s or None, kmsg=kmsg
    )
    folder = environment.folder_of(name)
    if not dry_run:
        _start(folder, record, node_wide=node_wide)
    undo = f"aibrixctl mock-fail stop {name}"
    _say_started(name, plan, undo, node_wide=node_wide, dry_run=dry_run)
    return _started(folder, record, undo, node_wide=node_wide, dry_run=dry_run)


def _start(folder: "Path", record: "Record", *, node_wide: bool) -> None:
    from mockfail import environment, guardian, preload
    from mockfail.native import library_paths

    library_paths()
    if node_wide:
        preload.check_privilege()
    guardian.sweep()
    environment.create(folder, record, shared=node_wide)
    try:
        if node_wide:
            preload.restore()  # of a mock that a restart ended
            preload.install()
        guardian.start(folder)
    except BaseException:
        if node_wide:
            preload.restore()
        environment.remove(folder)
        raise


def _say_started(name: str, plan: "Plan", undo: str, *, node_wide: bool, dry_run: bool) -> None:
    say = session().reporter.say
    say(f"{'would start' if dry_run else 'started'} mock {name}: {options.words(plan)}")
    variables = "" if node_wide else "; unset AIBRIXCTL_MOCK_DIR LD_PRELOAD"
    say(f"undo: {undo}{variables}")


def _started(
    folder: "Path", record: "Record", undo: str, *, node_wide: bool, dry_run: bool
) -> Result:
    from mockfail.native import preload_environment

    variables: Mapping[str, str] = {} if node_wide else preload_environment(folder)
    data = options.summary(record) | {
        "folder": str(folder),
        "variables": dict(variables),
        "undo": undo,
        "dry_run": dry_run,
    }

    def view(console: "Console", wide: bool) -> None:
        import shlex

        for variable, value in variables.items():
            console.out(f"export {variable}={shlex.quote(value)}", highlight=False)

    return Result(data, view=view, warnings=_other_programs() if node_wide else ())


def _other_programs() -> tuple[Problem, ...]:
    """Warn where the machine also runs programs that can't load our libraries."""
    from mockfail.preload import other_loaders

    return tuple(
        Problem(
            "preload.other",
            f"programs of {loader} will say on stderr that they can't load the mock's libraries",
            str(loader),
        )
        for loader in other_loaders()
    )


@command(
    "mock-fail status",
    examples=(
        ("aibrixctl mock-fail status", "the mocks that there are"),
        ("aibrixctl mock-fail status -o json", "the same for a script"),
    ),
)
def status() -> Result:
    """Show the mocks of this user and of the node: what they do, and until when."""
    from mockfail import preload
    from mockfail.environment import standing

    rows = [_row(folder, found) for folder, found in standing()]
    warnings: tuple[Problem, ...] = ()
    if preload.in_force() and not any(row["name"] == _NODE_WIDE for row in rows):
        problem = "the preload file still names a mock that has ended"
        undo = "`aibrixctl mock-fail stop node-wide` restores it"
        warnings = (Problem("mock.preload", problem, str(preload.MACHINE.preload), undo),)

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        if not rows:
            console.print("no mocks")
            return
        console.print(table_of([_shown(row, wide=wide) for row in rows]))

    return Result({"mocks": rows}, rows=rows, record="mock", view=view, warnings=warnings)


def _row(folder: "Path", found: Any) -> dict[str, Any]:
    from mockfail import machine
    from mockfail.errors import MockError

    if isinstance(found, MockError):
        empty = dict.fromkeys(("node", "mode", "created", "expires_in_s", "command", "pid"))
        return {"name": folder.name, "status": "damaged", "faults": [], **empty}
    now_s = machine.now_s()
    left_s = None if found.expires_s is None else max(0.0, found.expires_s - now_s)
    return options.summary(found) | {
        "status": "over" if found.over(now_s) else "running",
        "expires_in_s": None if left_s is None else round(left_s, 1),
        "command": list(found.command.words) if found.command else None,
        "pid": found.command.pid if found.command else None,
    }


def _shown(row: dict[str, Any], *, wide: bool) -> dict[str, Any]:
    from accelerators.units import format_duration

    left_s = row["expires_in_s"]
    shown = {
        "name": row["name"],
        "status": row["status"],
        "node": row["node"],
        "mode": row["mode"],
        "faults": ", ".join(row["faults"]) or None,
        "ends in": None if left_s is None else format_duration(left_s),
    }
    command = " ".join(row["command"] or ()) or None
    return shown | ({"pid": row["pid"], "command": command} if wide else {})


@command(
    "mock-fail set",
    examples=(
        ("aibrixctl mock-fail set lab gpus.0.temperature_c=97", "heat one GPU"),
        ("aibrixctl mock-fail set lab --scenario gpu-lost-xid79", "lose a GPU"),
    ),
)
def set_(
    name: options.Name,
    readings: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH=VALUE", help="Readings, as `mock-fail run --set` has them."),
    ] = None,
    scenario: options.Scenarios = None,
    device: options.OnDevice = None,
    dry_run: options.DryRun = False,
) -> Result:
    """Add faults to a mock that runs; its programs see them within a second.

    The time of timed faults counts from now.
    """
    from accelerators.errors import UsageError
    from mockfail import environment, machine
    from mockfail.plan import asked, bound

    if not readings and not scenario:
        raise UsageError(
            "option.missing", "nothing to set", hint="give PATH=VALUE, or --scenario NAME"
        )
    wanted = asked(scenario or (), readings or (), device)

    def edit(record: "Record") -> "Record":
        layers = bound(wanted, record.healthy(), record.mode)
        return record.with_layers(list(layers), machine.now_s())

    return _changed(environment.folder_of(name), edit, dry_run=dry_run)


@command(
    "mock-fail clear",
    examples=(
        ("aibrixctl mock-fail clear lab", "healthy again"),
        ("aibrixctl mock-fail clear lab gpus.0.temperature_c", "one fault less"),
    ),
)
def clear(
    name: options.Name,
    faults: Annotated[
        list[str] | None,
        typer.Argument(metavar="FAULT", help="Scenarios or paths, as `status` names them."),
    ] = None,
    dry_run: options.DryRun = False,
) -> Result:
    """Take faults out of a mock that runs: those that are named, or all."""
    from mockfail import environment

    def edit(record: "Record") -> "Record":
        return record.without(faults or None)

    return _changed(environment.folder_of(name), edit, dry_run=dry_run)


def _changed(folder: "Path", edit: Any, *, dry_run: bool) -> Result:
    from mockfail import environment

    record = edit(environment.read(folder)) if dry_run else environment.change(folder, edit)
    data = options.summary(record) | {"dry_run": dry_run}

    def view(console: "Console", wide: bool) -> None:
        would = "would be: " if dry_run else ""
        faults = ", ".join(data["faults"]) or "healthy"
        console.print(f"{record.name}: {would}{faults}", highlight=False)

    return Result(data, view=view)


@command(
    "mock-fail stop",
    examples=(
        ("aibrixctl mock-fail stop lab", "end a mock"),
        ("aibrixctl mock-fail stop --all", "end all of them"),
    ),
)
def stop(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of the mock; node-wide for the node's."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every mock of this user.")] = False,
    dry_run: options.DryRun = False,
) -> Result:
    """End a mock; programs still under it see real devices again, or none.

    Nothing happens where it has ended already. `stop node-wide` also restores the preload file.
    """
    from accelerators.errors import UsageError
    from mockfail.environment import folder_of, standing

    if (name is None) != every:
        raise UsageError("option.missing", "name one mock, or give --all")
    folders = [folder for folder, _ in standing()] if name is None else [folder_of(name)]
    rows = [_stopped(folder, dry_run=dry_run) for folder in folders]
    warnings = tuple(
        Problem(
            "preload.edited",
            "someone else changed the preload file meanwhile: only the mock's entries were removed",
        )
        for row in rows
        if row["preload"] == "edited"
    )

    def view(console: "Console", wide: bool) -> None:
        if not rows:
            console.print("no mocks")
        for row in rows:
            done = "would stop" if dry_run else "stopped" if row["was_there"] else "was not running"
            undone = f"; the preload file is {row['preload']}" if row["preload"] else ""
            console.print(f"{row['name']}: {done}{undone}", highlight=False)

    data = {"stopped": rows, "dry_run": dry_run}
    return Result(data, rows=rows, record="mock", view=view, warnings=warnings)


def _stopped(folder: "Path", *, dry_run: bool) -> dict[str, Any]:
    from mockfail import environment, preload

    there = folder.is_dir()
    state = None
    if folder.name == _NODE_WIDE:
        there = there or preload.in_force()
        if not dry_run:
            outcome = preload.restore()
            state = "edited" if outcome.edited else "restored" if outcome.restored else None
    if there and not dry_run:
        environment.remove(folder)
    return {"name": folder.name, "was_there": there, "preload": state}
