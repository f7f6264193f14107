import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelerators.errors import ToolError
from profiler.errors import ProfilerError, ProfilerUsageError
from profiler.journal import NAME, Journal, differences, digest

CONFIG = {"model": "m", "targets": {"a10": {"where": "sim:a10"}}, "slos": ["ttft_p99<=1s"]}


def test_what_was_written_is_there_on_resume(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIG) as journal:
        journal.append({"type": "probe", "index": 0})
    with Journal(tmp_path, CONFIG, resume=True) as journal:
        assert journal.records == [{"type": "probe", "index": 0}]
        journal.append({"type": "probe", "index": 1})
    lines = (tmp_path / NAME).read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["config", "probe", "probe"]


def test_an_earlier_run_is_never_picked_up_unasked(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIG) as journal:
        journal.append({"type": "probe"})
    with pytest.raises(ProfilerUsageError, match="holds an earlier run") as caught:
        Journal(tmp_path, CONFIG)
    assert "--resume" in caught.value.hint


def test_another_configuration_is_refused_saying_what_differs(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIG) as journal:
        journal.append({"type": "probe"})
    other: dict[str, Any] = {**CONFIG, "targets": {"a10": {"where": "sim:l20"}}}
    with pytest.raises(ProfilerUsageError, match="another configuration") as caught:
        Journal(tmp_path, other, resume=True)
    assert 'targets.a10.where: "sim:a10" then, "sim:l20" now' in caught.value.message


def test_a_run_that_measured_nothing_is_no_earlier_run(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIG):
        pass
    with Journal(tmp_path, {"model": "other"}) as journal:
        assert journal.records == []
    (header,) = (tmp_path / NAME).read_text().splitlines()
    assert json.loads(header)["config"] == {"model": "other"}


def test_resuming_nothing_starts_afresh(tmp_path: Path) -> None:
    with Journal(tmp_path / "new", CONFIG, resume=True) as journal:
        assert journal.records == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), texts=st.lists(st.text(max_size=20), max_size=4))
def test_a_torn_tail_costs_one_line_at_most(tmp_path: Path, cut: int, texts: list[str]) -> None:
    path = tmp_path / NAME
    path.unlink(missing_ok=True)
    with Journal(tmp_path, CONFIG) as journal:
        for text in texts:
            journal.append({"type": "probe", "text": text})
    whole = path.read_bytes()
    kept = whole[: max(len(whole) - cut, 0)]
    path.write_bytes(kept)
    with Journal(tmp_path, CONFIG, resume=True) as journal:
        assert len(journal.records) == max(kept.count(b"\n") - 1, 0)
        journal.append({"type": "probe", "text": "next"})
    for line in path.read_text().split("\n")[:-1]:
        json.loads(line)


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIG) as journal:
        journal.append({"type": "probe"})
        journal.append({"type": "probe"})
    path = tmp_path / NAME
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:5], lines[2]]) + "\n")
    with pytest.raises(ProfilerUsageError, match="line 2"):
        Journal(tmp_path, CONFIG, resume=True)


def test_two_runs_never_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, CONFIG), pytest.raises(ProfilerError, match="another run"):
        Journal(tmp_path, CONFIG, resume=True)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to("/dev/full")
    with pytest.raises(ToolError) as caught:
        Journal(tmp_path, CONFIG)
    assert caught.value.code == "file.disk_full"
    assert NAME in caught.value.message


_FILL = """
import signal, sys
from accelerators.errors import ToolError
from profiler.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal(sys.argv[1], {"a": 1}) as journal:
    try:
        for index in range(1000):
            journal.append({"type": "probe", "index": index, "text": "x" * 100})
    except ToolError as error:
        print(error.code, index)
"""


def test_a_write_that_fails_halfway_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the file's size cuts a write short, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    code, count = done.stdout.split()
    assert code == "file.unwritable"
    text = (tmp_path / NAME).read_text()
    assert text.endswith("\n")
    with Journal(tmp_path, {"a": 1}, resume=True) as journal:
        assert len(journal.records) == int(count) > 10


def test_the_digest_depends_on_values_and_not_on_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert differences(CONFIG, CONFIG) == []
