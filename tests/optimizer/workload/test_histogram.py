"""The histogram document: what it holds survives, what makes no sense is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelerators.errors import UsageError
from optimizer.workload import detect, read
from optimizer.workload.histogram import write_histogram

DOCUMENT: dict[str, Any] = {
    "schema": "aibrixctl/workload-histogram/v1",
    "request_rate": 12.5,
    "buckets": [
        {"input_tokens": 2048, "output_tokens": 64, "share": 0.25},
        {"input_tokens": 512, "output_tokens": 128, "share": 0.75},
    ],
}


def written(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "h.json"
    path.write_text(json.dumps(document, indent=1))
    return path


def test_shares_are_read_and_written_again(tmp_path: Path) -> None:
    path = written(tmp_path, DOCUMENT)
    assert detect(path) == "histogram"
    first = read(path)
    assert first.input_tokens.tolist() == [512, 2048]
    assert first.request_rate == 12.5
    write_histogram(first, tmp_path / "again.json")
    again = read(tmp_path / "again.json")
    np.testing.assert_array_equal(first.count, again.count)
    assert again.request_rate == 12.5


def test_rates_give_the_rate(tmp_path: Path) -> None:
    buckets = [
        {"input_tokens": 1, "output_tokens": 1, "requests_per_s": 2},
        {"input_tokens": 2, "output_tokens": 1, "requests_per_s": 6},
    ]
    path = written(tmp_path, {"schema": DOCUMENT["schema"], "buckets": buckets})
    assert (read(path).request_rate, read(path).count.tolist()) == (8, [0.25, 0.75])


def test_shares_off_by_rounding_are_scaled_and_noted(tmp_path: Path) -> None:
    buckets = [dict(b, share=1 / 3 if i else 0.6666) for i, b in enumerate(DOCUMENT["buckets"])]
    workload = read(written(tmp_path, DOCUMENT | {"buckets": buckets}))
    assert workload.total == pytest.approx(1)
    assert "scaled to 1" in workload.notes[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"buckets": []}, "no buckets"),
        ({"schema": "aibrixctl/workload-histogram/v2"}, "this version reads"),
        ({"request_rate": 0}, "request_rate is 0"),
        ({"request_rate": None}, "request_rate is None"),
        ({"buckets": [{"input_tokens": 1, "output_tokens": 1, "share": 0.5}]}, "sum to 0.5"),
        ({"buckets": [{"input_tokens": 1, "output_tokens": 1, "share": -1}]}, "share is -1"),
        ({"buckets": [{"input_tokens": 0, "output_tokens": 1, "share": 1}]}, "input_tokens is 0"),
        ({"buckets": [{"input_tokens": 1, "share": 1}]}, "output_tokens is None"),
        ({"buckets": [3]}, "input_tokens is None"),
    ],
)
def test_senseless_documents_are_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(written(tmp_path, DOCUMENT | change))
    assert words in caught.value.message
