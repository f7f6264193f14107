"""Versioned documents: refused clearly, written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from accelerators import documents
from accelerators.errors import ToolError, UsageError


def test_a_document_of_the_version_is_returned_as_it_is() -> None:
    body = {"schema": "aibrixctl/plan/v1", "x": 1}
    assert documents.check_schema(body, "plan", 1, "f") == body


def test_the_envelope_of_a_command_is_opened() -> None:
    body = {"schema": "aibrixctl/plan/v1", "x": 1}
    envelope = {"schema": "aibrixctl/optimize-plan/v1", "data": body}
    assert documents.check_schema(envelope, "plan", 1, "f") == body


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"schema": "aibrixctl/plan/v2"}, "document.version"),
        ({"schema": "aibrixctl/throughput-table/v1"}, "document.kind"),
        ({"schema": 7}, "document.kind"),
        ({}, "document.kind"),
        ([], "document.kind"),
        (None, "document.kind"),
    ],
)
def test_another_document_is_refused_by_name(document: object, code: str) -> None:
    with pytest.raises(UsageError) as error:
        documents.check_schema(document, "plan", 1, "file.json")
    assert error.value.code == code
    assert "file.json" in error.value.message
    assert "aibrixctl/plan/v1" in error.value.message


@pytest.mark.parametrize(
    ("content", "code"),
    [(b'{"a": 1', "file.not_json"), (b"\xff\xfe", "file.not_text"), (None, "file.unreadable")],
)
def test_unreadable_files_name_the_path(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        documents.read_json(path)
    assert error.value.code == code
    assert str(path) in error.value.message


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    documents.write_json(path, {"old": True})
    with pytest.raises(ValueError, match="JSON"):
        documents.write_json(path, {"new": float("nan")})
    with pytest.raises(RuntimeError), documents.atomic_writer(path) as file:
        file.write("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    goal, link = tmp_path / "goal.json", tmp_path / "link.json"
    goal.write_text("old")
    link.symlink_to(goal)
    documents.write_text(link, "new")
    assert link.is_symlink()
    assert goal.read_text() == "new"


def test_a_target_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for good in (tmp_path / "new", tmp_path / "file", tmp_path / "pipe", Path("/dev/stdout")):
        documents.check_target(good)
    for bad in (tmp_path, tmp_path / "missing" / "new", tmp_path / "file" / "new"):
        with pytest.raises(ToolError) as before:
            documents.check_target(bad)
        with pytest.raises(ToolError) as then:
            documents.write_text(bad, "")
        assert (before.value.code, before.value.message) == (then.value.code, then.value.message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        documents.write_text(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_a_full_disk_is_named() -> None:
    with (
        pytest.raises(ToolError) as error,
        documents.write_errors("/dev/full"),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x" * 100)
    assert error.value.code == "file.disk_full"
    assert "free some space" in error.value.hint


def test_the_time_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert documents.timestamp() == "1970-01-02T00:00:00Z"
    assert documents.timestamp(precise=True) == "1970-01-02T00:00:00.000000Z"
