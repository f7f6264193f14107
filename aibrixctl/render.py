"""Turn a Result into text on stdout, or in a file that appears whole or not at all."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from accelerators import documents
from aibrixctl import terminal
from aibrixctl.result import Result, Row, envelope
from aibrixctl.secret import redact

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["table", "wide", "json", "yaml", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("table", "wide", "json", "yaml", "csv", "jsonl")
MACHINE: tuple[Format, ...] = ("json", "yaml", "jsonl")


def emit(
    result: Result, command: str, form: Format, path: str | None, meta: Mapping[str, Any]
) -> None:
    """Print a result in a format, to stdout or atomically to ``path``, a file or a ConfigMap.

    An error that the format has no words for leaves the file as it was.
    """
    if result.data is None and form not in MACHINE:
        return
    if path is not None and path.startswith("k8s:"):
        _deliver(result, command, form, path, meta)
        return
    if path is None or path == "-":
        with documents.write_errors("stdout"):
            _write(result, command, form, sys.stdout, meta)
            sys.stdout.flush()
        return
    with documents.atomic_writer(path) as file:
        _write(result, command, form, file, meta)


def _deliver(result: Result, command: str, form: Format, url: str, meta: Mapping[str, Any]) -> None:
    from cluster.documents import deliver

    text = io.StringIO()
    _write(result, command, form, text, meta)
    deliver(url, text.getvalue().encode())


def _write(
    result: Result, command: str, form: Format, out: IO[str], meta: Mapping[str, Any]
) -> None:
    if form in ("table", "wide"):
        _write_view(result, out, wide=form == "wide")
        return
    whole = clean(envelope(result, command, meta))
    writers: dict[str, Callable[[], str]] = {
        "json": lambda: documents.dump_json(whole),
        "yaml": lambda: _yaml(whole),
        "csv": lambda: _csv(_rows(result)),
        "jsonl": lambda: _jsonl(result, whole),
    }
    out.write(redact(writers[form]()))


def clean(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity become null, tuples lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def _rows(result: Result) -> Sequence[Row]:
    if result.rows is not None:
        return result.rows
    return [result.data] if isinstance(result.data, Mapping) else []


def _yaml(whole: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(whole, sort_keys=True, allow_unicode=True)
    return text


def _jsonl(result: Result, whole: dict[str, Any]) -> str:
    """One record a line; the last is the envelope without its data, as the summary or error."""
    records = [{"type": result.record, **clean(row)} for row in result.rows or ()]
    last = dict(whole, type="error" if result.status == "error" else "summary")
    if result.rows is not None:
        del last["data"]
    lines = [json.dumps(r, sort_keys=True, ensure_ascii=False) for r in (*records, last)]
    return "\n".join(lines) + "\n"


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return one level of keys, joined by dots; lists stay as JSON text."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat[prefix + key] = json.dumps(clean(value), ensure_ascii=False)
        else:
            flat[prefix + key] = clean(value)
    return flat


def _as_json(value: Any) -> Any:
    """Return true and false as JSON spells them; other values as they are."""
    return str(value).lower() if isinstance(value, bool) else value


def _csv(rows: Sequence[Row]) -> str:
    flat = [{name: _as_json(value) for name, value in flatten(row).items()} for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    if names:
        writer.writeheader()
        writer.writerows(flat)
    return out.getvalue()


def _write_view(result: Result, out: IO[str], *, wide: bool) -> None:
    """Draw for a person; in a buffer first, so that no line ends in padding."""
    buffer = io.StringIO()
    console = terminal.console(out, into=buffer, unlimited=wide)
    if result.view is not None:
        result.view(console, wide)
    else:
        console.print(table_of(_rows(result)))
    lines = buffer.getvalue().splitlines()
    out.write(redact("".join(line.rstrip() + "\n" for line in lines)))


def table_of(rows: Sequence[Row]) -> "Table":
    """Return a plain Rich table of rows, one column per key, numbers to the right."""
    from rich.table import Table

    flat = [flatten(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in flat)
        table.add_column(name.upper().replace("_", " "), justify="right" if numeric else "left")
    for row in flat:
        table.add_row(*(show(row.get(name)) for name in names))
    return table


def show(value: Any) -> str:
    """Return a value as a person reads it in a cell; a dash for what is absent."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)
