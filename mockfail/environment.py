"""A mock on disk: its folder, the record of what is in force, and how both change together.

The record is what people asked for; state file, kernel log and PCI tree are made from it. Whoever
changes a record holds its lock, and everything is replaced whole, so that a program under the mock
sees the old or the new.
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerators.documents import check_schema, dump_json, timestamp, write_errors
from accelerators.errors import ToolError, UsageError
from accelerators.mocked import NODE_WIDE, Mock
from mockfail import kernel_log, machine, pcitree, state_file
from mockfail.errors import MockError, MockUsageError
from mockfail.layer import Layer, log_lines, merge
from mockfail.state import Mode, Node
from mockfail.values import did_you_mean

RECORD = "mock.json"
_LOCK = "lock"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


@dataclass(frozen=True)
class Command:
    """The process that a mock was made for, known by its start as well as its number."""

    pid: int
    started_ticks: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What a mock does, and until when.

    Attributes:
        node: the simulated node; in an overlay, what real devices are taken for.
        mode: as it was resolved on this machine: ``standalone``, or ``auto`` over real devices.
        created: UTC.
        started_s, expires_s: CLOCK_BOOTTIME; None never expires.
        boot: of the machine; a mock of an earlier one is over.
        command: for which alone it is; None for one that programs join.
        kmsg: XIDs go to the machine's own kernel log too.
        layers: what is in force, later ones last.
    """

    name: str
    node: str
    mode: Mode
    created: str
    started_s: float
    expires_s: float | None
    boot: str
    command: Command | None = None
    kmsg: bool = False
    layers: tuple[Layer, ...] = ()

    def healthy(self) -> Node:
        """Return the node without faults."""
        return machine.node(self.node, self.mode)

    def over(self, now_s: float) -> bool:
        """Tell whether its time, its boot or its command has ended."""
        if self.boot != machine.boot_id() or (
            self.expires_s is not None and now_s >= self.expires_s
        ):
            return True
        return self.command is not None and not machine.lives(
            self.command.pid, self.command.started_ticks
        )

    def with_layers(self, layers: list[Layer], now_s: float) -> "Record":
        """Return the record with layers that begin now; one of the same name is replaced."""
        names = {layer.name for layer in layers}
        kept = tuple(layer for layer in self.layers if layer.name not in names)
        return replace(
            self, layers=kept + tuple(layer.later(now_s - self.started_s) for layer in layers)
        )

    def without(self, names: list[str] | None) -> "Record":
        """Return the record without the layers of these names; None is all.

        Raises:
            MockUsageError: there is no such layer.
        """
        known = [layer.name for layer in self.layers]
        for name in names or ():
            if name not in known:
                raise MockUsageError(
                    "mock.fault",
                    f"the mock {self.name!r} has no fault {name!r}{did_you_mean(name, known)}",
                    hint=f"it has {', '.join(known) or 'none'}",
                    target=name,
                )
        gone = set(known if names is None else names)
        return replace(self, layers=tuple(x for x in self.layers if x.name not in gone))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema": "aibrixctl/mock/v1", **asdict(self)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Record":
        """Read the JSON form."""
        rest = {key: value for key, value in body.items() if key != "schema"}
        command = rest.pop("command")
        layers = tuple(Layer.from_json(layer) for layer in rest.pop("layers"))
        made = command and Command(**{**command, "words": tuple(command["words"])})
        return cls(**rest, command=made, layers=layers)


def root(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's mocks."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "aibrixctl" / "mock"
    try:
        state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home
        state = Path(tempfile.gettempdir()) / f"aibrixctl-{os.getuid()}"
    return Path(state) / "aibrixctl" / "mock"


def folder_of(name: str) -> Path:
    """Return the folder of a mock by its name; raises MockUsageError for a name that can't be."""
    import re

    if not re.fullmatch(_NAME, name):
        raise MockUsageError(
            "mock.name",
            f"{name!r} is no name for a mock; expected letters, digits, dots and dashes",
            target=name,
        )
    return NODE_WIDE if name == NODE_WIDE.name else (root() / name).absolute()


def unused(name: str) -> str:
    """Return a name that no running mock has: the name itself, or with a number.

    A command that runs under a mock may start one of its own, in the very same process.
    """
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    names = itertools.chain([name], numbered)
    return next(each for each in names if not _runs(folder_of(each)))


def new(
    name: str,
    node: str,
    mode: Mode,
    *,
    layers: tuple[Layer, ...] = (),
    for_s: float | None = None,
    command: Command | None = None,
    kmsg: bool = False,
) -> Record:
    """Return the record of a mock that starts now."""
    now_s = machine.now_s()
    return Record(
        name,
        node,
        mode,
        timestamp(),
        now_s,
        None if for_s is None else now_s + for_s,
        machine.boot_id(),
        command,
        kmsg,
        layers,
    )


def create(folder: Path, record: Record, *, shared: bool = False) -> Mock:
    """Make a mock's folder; one that is over, or was left half made, gives way.

    Args:
        folder: must not hold a mock that lives.
        record: what it does.
        shared: others may read it.

    Raises:
        MockUsageError: there is one of this name.
        ToolError: it can't be written.
    """
    own = "set XDG_RUNTIME_DIR to a folder of your own"
    with write_errors(folder, "" if shared else own):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o755 if shared else 0o700)
        if folder.parent.stat().st_uid != os.geteuid():
            raise MockError(
                "mock.foreign",
                f"{folder.parent} belongs to someone else",
                hint=own,
                target=str(folder.parent),
            )
        if _runs(folder):
            raise MockUsageError(
                "mock.exists",
                f"a mock {record.name!r} is running",
                hint=f"`aibrixctl mock-fail stop {record.name}` ends it; `set` changes it",
                target=record.name,
            )
        remove(folder)
        folder.mkdir(mode=0o755 if shared else 0o700)
        (folder / _LOCK).touch(mode=0o600)
    try:
        with locked(folder):
            _save(folder, record)
    except BaseException:
        remove(folder)
        raise
    return Mock(folder)


def _runs(folder: Path) -> bool:
    try:
        return not read(folder).over(machine.now_s())
    except MockError:
        return False


def read(folder: Path) -> Record:
    """Return a mock's record.

    Raises:
        MockError: there is no mock, or its record is damaged.
    """
    path = folder / RECORD
    try:
        text = path.read_text(encoding="utf-8")
        return Record.from_json(check_schema(json.loads(text), "mock", 1, str(path)))
    except OSError as error:
        raise MockError(
            "mock.none",
            f"there is no mock {folder.name!r}",
            hint="`aibrixctl mock-fail status` shows those that run",
            target=str(folder),
        ) from error
    except (UsageError, ValueError, KeyError, TypeError) as error:
        raise MockError(
            "mock.damaged",
            f"{path} is damaged: {error}",
            hint=f"`aibrixctl mock-fail stop {folder.name}` removes it",
            target=str(path),
        ) from error


def change(folder: Path, edit: Callable[[Record], Record]) -> Record:
    """Change a mock while programs run under it; they see it within a second.

    Raises:
        MockError: there is none, or it is over.
        ToolError: it can't be written.
    """
    with locked(folder):
        record = read(folder)
        if record.over(machine.now_s()):
            raise MockError(
                "mock.over",
                f"the mock {record.name!r} has ended",
                hint=f"`aibrixctl mock-fail start {record.name}` starts it anew",
                target=record.name,
            )
        after = edit(record)
        try:
            _save(folder, after)
        except MockUsageError:  # refused before anything was written
            raise
        except BaseException:
            # A full disk stops halfway: programs must not see a fault that no record knows.
            with contextlib.suppress(ToolError):
                _lay_out(folder, record)
            raise
    return after


def refresh(folder: Path) -> Record:
    """Make the files of a mock once more, for what began or ended with time."""
    with locked(folder):
        record = read(folder)
        _lay_out(folder, record)
    return record


def _save(folder: Path, record: Record) -> None:
    """Write the record last: with it, the mock is whole."""
    _lay_out(folder, record)
    path = folder / RECORD
    with write_errors(path):
        fresh = path.with_name(f".{RECORD}.new")
        fresh.write_text(dump_json(record.to_json()), encoding="utf-8")
        fresh.replace(path)


def _lay_out(folder: Path, record: Record) -> None:
    mock = Mock(folder)
    moment_s = max(0.0, machine.now_s() - record.started_s)
    lay_out(mock, record, moment_s)


def lay_out(mock: Mock, record: Record, moment_s: float) -> None:
    """Write what programs under a mock see, so long after its start.

    Raises:
        MockUsageError: the layers ask for what the state file can't hold.
        ToolError: a file can't be written.
    """
    healthy = record.healthy()
    state = merge(
        healthy,
        record.layers,
        moment_s,
        mode=record.mode,
        started_s=record.started_s,
        expires_s=record.expires_s,
    )
    # First what may be refused: then nothing has changed.
    state_file.write(state, mock.state)
    if record.mode == "standalone":
        pcitree.lay_out(healthy, mock.sysfs, state.overrides, moment_s)
    lines = kernel_log.once_per_gpu(log_lines(record.layers, moment_s))
    kernel_log.update(mock.kernel_log, kernel_log.render(lines, record.started_s))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a mock's lock; raises MockError where there is no mock."""
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MockError(
            "mock.none",
            f"there is no mock {folder.name!r}",
            hint="`aibrixctl mock-fail status` shows those that run",
            target=str(folder),
        ) from error
    try:
        _wait_for(handle, folder)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int, folder: Path) -> None:
    deadline_s = time.monotonic() + 5
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise MockError(
                    "mock.busy", f"another process keeps changing the mock {folder.name!r}"
                ) from error
            time.sleep(0.02)


def remove(folder: Path) -> None:
    """Remove a mock's folder; nothing happens where there is none.

    Raises:
        ToolError: it can't be removed.
    """
    with write_errors(folder):
        # Without its state, programs under the mock see that it is gone, whatever comes next.
        (folder / "state").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def standing() -> Iterator[tuple[Path, Record | MockError]]:
    """Yield this user's mocks and the node's, with what is wrong with those that can't be read."""
    mine = root().absolute()
    folders = sorted(mine.iterdir()) if mine.is_dir() else []
    for folder in [*folders, NODE_WIDE]:
        if folder.is_dir():
            try:
                yield folder, read(folder)
            except MockError as error:
                yield folder, error
