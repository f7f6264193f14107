import json
from pathlib import Path
from typing import Any

import pytest

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


def test_the_digest_depends_on_values_and_not_on_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert differences(CONFIG, CONFIG) == []
