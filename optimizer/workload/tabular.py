"""Traces in CSV: Azure's (2023 and 2024) and BurstGPT's, read in chunks.

Sources: Azure Public Dataset, ``AzureLLMInferenceTrace``; BurstGPT (arXiv:2401.17644).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.workload.collect import Collector, opened, refuse
from optimizer.workload.model import Floats

CHUNK_ROWS = 200_000


@dataclass(frozen=True)
class Layout:
    """Column names of a CSV trace; ``dates`` when its time is a date, else seconds."""

    time: str
    input: str
    output: str
    dates: bool


LAYOUTS = {
    "azure": Layout("TIMESTAMP", "ContextTokens", "GeneratedTokens", dates=True),
    "burstgpt": Layout("Timestamp", "Request tokens", "Response tokens", dates=False),
}


def collect_csv(path: str, format_name: str) -> Collector:
    """Return the requests of a CSV trace, gathered.

    Raises:
        OptimizerUsageError: a column is missing, or a line is damaged; names line and column.
    """
    import pandas as pd

    layout = LAYOUTS[format_name]
    collector = Collector(path, (layout.input, layout.output, layout.time))
    try:
        with (
            opened(path) as file,
            pd.read_csv(
                file, chunksize=CHUNK_ROWS, skip_blank_lines=False, low_memory=False
            ) as chunks,
        ):
            for chunk in chunks:
                _require_columns(path, layout, list(chunk.columns))
                _add(collector, layout, chunk)
    except pd.errors.EmptyDataError as error:
        raise refuse("empty", f"{path} is empty", path) from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        detail = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise refuse("damaged", f"{path}: {detail}", path, "mend or delete the line") from error
    return collector


def _require_columns(path: str, layout: Layout, found: list[str]) -> None:
    missing = [c for c in (layout.time, layout.input, layout.output) if c not in found]
    if missing:
        raise refuse(
            "columns",
            f"{path} line 1 lacks column {', '.join(missing)}; found {', '.join(found)[:200]}",
            path,
        )


def _add(collector: Collector, layout: Layout, chunk: Any) -> None:
    import pandas as pd

    if not isinstance(chunk.index, pd.RangeIndex):
        source = collector.source
        raise refuse("damaged", f"{source} line 2 has more fields than the header", source)
    chunk = chunk[~chunk.isna().all(axis=1)]
    rows = chunk.index.to_numpy()
    columns = {name: chunk[name] for name in (layout.input, layout.output)}
    numbers = {name: pd.to_numeric(values, errors="coerce") for name, values in columns.items()}
    for name, values in columns.items():
        unreadable = (numbers[name].isna() & values.notna()).to_numpy()
        if unreadable.any():
            at = int(np.argmax(unreadable))
            raise refuse(
                "bad_number",
                f"{collector.source} line {rows[at] + 2}, {name}: found {values.iloc[at]!r}; "
                "expected a whole number of tokens",
                collector.source,
                "mend or delete the line",
            )
    inputs, outputs = (numbers[name].to_numpy(dtype=np.float64) for name in columns)
    collector.add(inputs, outputs, _times_s(chunk[layout.time], layout), lambda i: int(rows[i]) + 2)


def _times_s(column: Any, layout: Layout) -> Floats:
    import pandas as pd

    if not layout.dates:
        seconds: Floats = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        return seconds
    dates = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
    microseconds = dates.dt.as_unit("us").to_numpy(dtype="datetime64[us]").astype(np.int64)
    result: Floats = np.where(dates.isna(), np.nan, microseconds / 1e6)
    return result
