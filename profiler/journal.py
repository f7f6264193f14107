"""The append-only record of a profiling run: one JSON line per event, on disk before the next.

The first line holds the configuration and its hash. A run that was cut short is continued by
replaying its probes; the last line may be torn and is then dropped. A run under another
configuration never picks up these lines.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from accelerators.documents import timestamp, write_errors
from accelerators.json_lines import JsonLines
from profiler.errors import ProfilerError, ProfilerUsageError

NAME = "probes.jsonl"
Config = dict[str, Any]


def digest(config: Config) -> str:
    """Return the hash by which a journal knows its configuration."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        flat: dict[str, Any] = {}
        for key, item in value.items():
            flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
        return flat
    return {prefix: value}


def differences(before: Config, now: Config) -> list[str]:
    """Return what differs between two configurations, one readable line each."""
    left, right = _flat(before), _flat(now)
    return [
        f"{key}: {json.dumps(left.get(key))} then, {json.dumps(right.get(key))} now"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


class Journal:
    """A journal that is open for appending; use as a context manager.

    Attributes:
        path: of the file.
        records: the events of the earlier part of a resumed run, without the first line.
    """

    def __init__(self, folder: str | os.PathLike[str], config: Config, *, resume: bool = False):
        """Open the journal of a folder, making both where there is none.

        Raises:
            ProfilerUsageError: there is a journal and ``resume`` is False, or its configuration
                is another; says what differs.
            ProfilerError: another run is writing to it.
            ToolError: the folder can't be written.
        """
        self.path = Path(folder) / NAME
        self.records: list[dict[str, Any]] = []
        with write_errors(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            self._lines = JsonLines(self.path)
        except BlockingIOError as error:
            raise ProfilerError(
                "journal.busy",
                f"another run is writing {self.path}",
                hint="wait for it, or give this run another --out",
                target=str(self.path),
            ) from error
        try:
            self._start(config, resume)
        except BaseException:
            self._lines.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def append(self, record: dict[str, Any]) -> None:
        """Write one event as one line and wait until it is on the disk.

        Raises:
            ToolError: it can't be written; the journal is left as it was before.
        """
        self._lines.append(record)

    def _start(self, config: Config, resume: bool) -> None:
        lines = self._read()
        if len(lines) == 1:
            # A run that measured nothing holds nothing to lose.
            self._lines.clear()
            lines = []
        if lines and not resume:
            raise ProfilerUsageError(
                "journal.exists",
                f"{self.path} holds an earlier run",
                hint="--resume continues it; or give this run another --out",
                target=str(self.path),
            )
        if not lines:
            header = {"type": "config", "digest": digest(config), "config": config}
            self.append(header | {"created": timestamp()})
            return
        self._check(lines[0], config)
        self.records = lines[1:]

    def _check(self, header: dict[str, Any], config: Config) -> None:
        if header.get("digest") == digest(config):
            return
        before = header.get("config")
        found = differences(before, config) if isinstance(before, dict) else ["no configuration"]
        raise ProfilerUsageError(
            "journal.config",
            f"{self.path} was written under another configuration: {'; '.join(found)}",
            hint="resume with the same options, or give this run another --out",
            target=str(self.path),
        )

    def _read(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        try:
            for record in self._lines.read():
                if "type" not in record:
                    raise ValueError(f"line {len(records) + 1}: not an event")
                records.append(record)
        except ValueError as error:
            raise ProfilerUsageError(
                "journal.malformed",
                f"{self.path} is damaged: {error}",
                hint="give this run another --out, or remove the lines from there on",
                target=str(self.path),
            ) from error
        return records
