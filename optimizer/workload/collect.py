"""Gather requests read from a trace, check them, and turn them into a workload."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from optimizer.errors import OptimizerUsageError
from optimizer.workload.model import Floats, Ints, Workload

MAX_TOKENS = 10_000_000
SLICES = 120


def digest(path: str | os.PathLike[str]) -> str:
    """Return ``sha256:…`` of a file's bytes."""
    with Path(path).open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BufferedIOBase]:
    """Open a file for reading bytes, unpacking gzip by its content, past a byte order mark.

    Raises:
        OptimizerUsageError: unreadable, or a packed file that is damaged or cut short.
    """
    source = str(path)
    if Path(path).exists() and not Path(path).is_file():
        hint = "a trace is read more than once: save it to a file first"
        raise refuse("not_a_file", f"{source} is not a regular file", source, hint)
    try:
        with Path(path).open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: BufferedIOBase = gzip.GzipFile(fileobj=raw) if packed else raw
            if file.read(3) != b"\xef\xbb\xbf":
                file.seek(0)
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refuse("damaged", f"{source}: {error}", source, "get the file again") from error
    except OSError as error:
        raise refuse("unreadable", f"cannot read {source}: {error.strerror}", source) from error


def refuse(code: str, message: str, source: str, hint: str = "") -> OptimizerUsageError:
    """Return the error for a workload file that cannot be used."""
    return OptimizerUsageError(f"workload.{code}", message, hint=hint, target=source)


@dataclass(frozen=True)
class Requests:
    """Requests of a trace in order of arrival: [n] seconds, and [n] tokens each side.

    ``notes`` say what was left out. Seconds are unix time where the trace has dates.
    """

    times_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    notes: tuple[str, ...] = ()


@dataclass
class Collector:
    """Requests of one trace as compact arrays (20 bytes a request), checked as they come.

    Attributes:
        source: the file, for messages.
        columns: how the file names its input, output and time.
        output_may_miss: whether a request without an output is one that failed, not a fault of
            the file.
    """

    source: str
    columns: tuple[str, str, str]
    output_may_miss: bool = False
    notes: list[str] = field(default_factory=list)
    _inputs: list[Ints] = field(default_factory=list)
    _outputs: list[Ints] = field(default_factory=list)
    _times: list[Floats] = field(default_factory=list)
    _last_s: float = -np.inf
    _failed: int = 0

    def add(
        self, inputs: Floats, outputs: Floats, times_s: Floats, line: Callable[[int], int]
    ) -> None:
        """Take a batch of requests.

        Args:
            inputs: [n] tokens.
            outputs: [n] tokens; NaN where the trace has none.
            times_s: [n] arrival.
            line: gives the line in the file of the i-th request of the batch.

        Raises:
            OptimizerUsageError: a negative, fractional or absurd size, or time running backwards.
        """
        name_in, name_out, name_time = self.columns
        self._check(inputs, name_in, line, missing_ok=False)
        self._check(outputs, name_out, line, missing_ok=self.output_may_miss)
        self._check_times(times_s, name_time, line)
        if len(times_s):
            self._last_s = float(times_s[-1])
        served = (inputs > 0) & (outputs > 0)
        self._failed += int((~served).sum())
        self._inputs.append(inputs[served].astype(np.int32))
        self._outputs.append(outputs[served].astype(np.int32))
        self._times.append(times_s[served])

    def _check(
        self, values: Floats, name: str, line: Callable[[int], int], *, missing_ok: bool
    ) -> None:
        with np.errstate(invalid="ignore"):
            bad = (values < 0) | (values > MAX_TOKENS) | (values != np.floor(values))
        if missing_ok:
            bad &= ~np.isnan(values)
        if not bad.any():
            return
        index = int(np.argmax(bad))
        value = values[index]
        found = "nothing" if np.isnan(value) else f"{value:.15g}"
        raise refuse(
            "bad_number",
            f"{self.source} line {line(index)}, {name}: found {found}; expected a whole number "
            f"of tokens from 0 to {MAX_TOKENS:,}",
            self.source,
            "the file may be cut short or damaged there; mend or delete the line",
        )

    def _check_times(self, times_s: Floats, name: str, line: Callable[[int], int]) -> None:
        if not np.isfinite(times_s).all():
            index = int(np.argmax(~np.isfinite(times_s)))
            raise refuse(
                "bad_time",
                f"{self.source} line {line(index)}, {name}: no readable time",
                self.source,
                "the file may be cut short or damaged there; mend or delete the line",
            )
        backwards = np.diff(times_s, prepend=self._last_s) < 0
        if backwards.any():
            raise refuse(
                "time_order",
                f"{self.source} line {line(int(np.argmax(backwards)))}, {name}: earlier than the "
                "line before it",
                self.source,
                "sort the file by its time",
            )

    def requests(self) -> Requests:
        """Return all that was added; raises OptimizerUsageError when nothing is usable."""
        inputs = _joined(self._inputs)
        if not len(inputs):
            what = f"{self._failed:,} requests, none with an answer" if self._failed else "no rows"
            raise refuse("empty", f"{self.source} holds {what}", self.source)
        notes = list(self.notes)
        if self._failed:
            share = self._failed / (self._failed + len(inputs))
            notes.append(
                f"{self._failed:,} requests ({share:.2%}) without input or output tokens left out"
            )
        return Requests(np.concatenate(self._times), inputs, _joined(self._outputs), tuple(notes))

    def workload(self, format_name: str, request_rate: float | None) -> Workload:
        """Return the workload of all that was added.

        Raises:
            OptimizerUsageError: nothing usable, or all requests at one moment and no rate given.
        """
        requests = self.requests()
        inputs, outputs, times = requests.input_tokens, requests.output_tokens, requests.times_s
        duration = float(times[-1] - times[0])
        if duration <= 0 and request_rate is None:
            raise refuse(
                "no_duration",
                f"{self.source}: all {len(inputs):,} requests have the same time, so no rate "
                "follows",
                self.source,
                "give the rate with --rate",
            )
        keys = inputs.astype(np.int64) << 32 | outputs
        sizes, count = np.unique(keys, return_counts=True)
        arrivals = np.histogram(times, bins=SLICES)[0] if duration > 0 else np.empty(0)
        return Workload(
            source=self.source,
            format=format_name,
            digest=digest(self.source),
            input_tokens=sizes >> 32,
            output_tokens=sizes & 0xFFFFFFFF,
            count=count.astype(np.float64),
            request_rate=len(inputs) / duration if request_rate is None else request_rate,
            duration_s=duration,
            arrivals=arrivals.astype(np.float64),
            notes=requests.notes,
        )


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
