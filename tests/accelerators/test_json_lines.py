"""Journals that are cut short, contended, and on a disk that is full."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelerators.errors import ToolError
from accelerators.json_lines import JsonLines

_FILL = """
import signal, sys
from accelerators.errors import ToolError
from accelerators.json_lines import JsonLines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with JsonLines(sys.argv[1]) as lines:
    try:
        for index in range(1000):
            lines.append({"index": index, "text": "x" * 100})
    except ToolError as error:
        print(error.code, index)
"""


def read(path: Path) -> list[object]:
    with JsonLines(path) as lines:
        return list(lines.read())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), texts=st.lists(st.text(max_size=20), max_size=4))
def test_a_torn_tail_costs_what_was_cut(tmp_path: Path, cut: int, texts: list[str]) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    with JsonLines(path) as lines:
        for text in texts:
            lines.append({"text": text})
    whole = path.read_bytes()
    kept = whole[: max(len(whole) - cut, 0)]
    path.write_bytes(kept)
    records = [{"text": text} for text in texts[: kept.count(b"\n")]]
    with JsonLines(path) as lines:
        assert list(lines.read()) == records
        lines.append({"text": "next"})
    assert read(path) == [*records, {"text": "next"}]


@pytest.mark.parametrize("line", ["{", "[]", "\udcff"])
def test_damage_in_the_middle_is_named_by_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(f"{{}}\n{line}\n{{}}\n".encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match="line 2"):
        read(path)
    assert path.read_bytes().count(b"\n") == 3


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the file's size cuts a write short, as a full disk does."""
    path = tmp_path / "j"
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(path)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    code, count = done.stdout.split()
    assert code == "file.unwritable"
    assert path.read_text().endswith("\n")
    assert len(read(path)) == int(count) > 10


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with JsonLines(path) as first:
        with pytest.raises(BlockingIOError):
            JsonLines(path)
        first.append({"a": 1})
    assert read(path) == [{"a": 1}]


def test_a_file_that_its_owner_takes_away_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opened it before, and locks it after, holds a file that no one will find."""
    path = tmp_path / "j"
    first = JsonLines(path)
    lock = JsonLines._lock

    def late(self: JsonLines) -> None:
        first.remove()
        first.close()
        lock(self)

    monkeypatch.setattr(JsonLines, "_lock", late)
    with pytest.raises(BlockingIOError):
        JsonLines(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_a_device_is_shared_and_may_be_full() -> None:
    with JsonLines("/dev/full") as lines, JsonLines("/dev/full"):
        assert list(lines.read()) == []
        with pytest.raises(ToolError) as caught:
            lines.append({})
    assert caught.value.code == "file.disk_full"


def test_a_pipe_is_never_taken_away(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "j")
    with JsonLines(tmp_path / "j") as lines:
        assert list(lines.read()) == []
        lines.remove()
    assert (tmp_path / "j").is_fifo()


def test_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with JsonLines(path) as lines:

        def add(number: int) -> None:
            for _ in range(20):
                lines.append({"text": str(number) * 1000})

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read(path)) == 80
    assert all(json.loads(line) for line in path.read_text().splitlines())
