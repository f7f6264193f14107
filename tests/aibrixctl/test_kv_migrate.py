"""kv migrate as operators run it: exit codes, messages, formats, signals."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kvpool.migrations import FilePool, RedisPool, Stored, key_of, stored
from tests.redis_server import redis_server, requires_redis

Cli = Callable[..., Any]
PASSWORD = "correct-horse-battery-staple"
PROGRAM = [sys.executable, "-m", "aibrixctl", "kv", "migrate"]


@pytest.fixture(autouse=True)
def _own_journals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def source(tmp_path: Path) -> FilePool:
    return FilePool(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> FilePool:
    return FilePool(tmp_path / "target")


def fill(pool: FilePool | RedisPool, count: int = 6, size: int = 2000) -> dict[str, Stored]:
    numbers = random.Random(3)
    expected = {key_of(number): stored(numbers, size) for number in range(count)}
    for key, value in expected.items():
        pool.put(key, value)
    return expected


def test_result_in_every_format(
    cli: Cli, cli_json: Cli, source: FilePool, target: FilePool
) -> None:
    expected = fill(source)
    source.put_foreign()
    body = cli_json("kv", "migrate", source.url, target.url)
    assert body["status"] == "success"
    assert body["data"]["entries"] == {"copied": 6}
    assert body["data"]["plan"]["foreign"] == 1
    assert target.entries() == expected
    table = cli("kv", "migrate", source.url, target.url)
    assert "already there, the same  6" in table.out
    assert "left where they are: 1 foreign" in table.out
    assert max(map(len, table.out.splitlines()[2:])) <= 80
    rows = cli("kv", "migrate", source.url, target.url, "-o", "jsonl").out.splitlines()
    assert json.loads(rows[0])["type"] == "fate"
    csv = cli("kv", "migrate", source.url, target.url, "-o", "csv").out
    assert csv.splitlines()[0] == "fate,entries,bytes"


def test_dry_run_tells_what_would_be_refused(
    cli_json: Cli, cli: Cli, source: FilePool, target: FilePool
) -> None:
    fill(source)
    target.put(key_of(2), stored(random.Random(9), 40))
    body = cli_json("kv", "migrate", source.url, target.url, "--dry-run")
    assert body["exit_code"] == 0
    assert body["data"]["plan"]["conflicts"] == 1
    assert body["data"]["journal"] is None
    (warning,) = body["warnings"]
    assert warning["code"] == "kv.migrate.conflict"
    assert warning["message"].endswith("under 1 of 6 keys; this would be refused")
    assert set(target.entries()) == {key_of(2)}
    shown = cli("kv", "migrate", source.url, target.url, "-n")
    assert "would copy 6 entries" in shown.out
    assert "nothing was written" in shown.out


def test_conflict_ends_it_before_anything_is_written(
    cli: Cli, source: FilePool, target: FilePool
) -> None:
    fill(source)
    target.put(key_of(2), stored(random.Random(9), 40))
    outcome = cli("kv", "migrate", source.url, target.url)
    assert outcome.code == 1
    assert "--on-conflict skip leaves them" in outcome.err
    assert set(target.entries()) == {key_of(2)}
    assert cli("kv", "migrate", source.url, target.url, "--on-conflict", "skip").code == 0
    assert len(target.entries()) == 6


def test_partial_result(cli_json: Cli, source: FilePool, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        pool = RedisPool(server.port)
        fill(pool)
        pool.put(key_of(1, "a-SEP-b"), stored(random.Random(9), 40))
        body = cli_json("kv", "migrate", pool.url, source.url)
    assert (body["status"], body["exit_code"]) == ("partial", 3)
    assert body["data"]["entries"] == {"copied": 6, "unfit": 1}
    assert body["errors"][0]["code"] == "kv.migrate.unfit"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--verify", "some"), "--verify is 'some'; expected full, sample or none"),
        (("--on-conflict", "merge"), "expected fail, skip or overwrite"),
        (("--max-rate", "200"), "--max-rate"),
        (("--max-rate", "200MiB"), "write --max-rate 200MiB/s"),
        (("--delete-source", "--verify", "none"), "only after its copy was compared"),
        (("--resume",), "there is nothing to resume"),
    ],
)
def test_bad_options(
    words: tuple[str, ...], message: str, cli: Cli, source: FilePool, target: FilePool
) -> None:
    fill(source)
    outcome = cli("kv", "migrate", source.url, target.url, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert target.entries() == {}


@requires_redis
def test_passwords(
    cli: Cli, source: FilePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fill(source)
    (tmp_path / "right").write_text(PASSWORD)
    (tmp_path / "wrong").write_text("not this one at all")
    with redis_server(tmp_path, password=PASSWORD) as server:
        url = f"lmcache+redis://127.0.0.1:{server.port}/0"
        for words in ((), ("--password-file", str(tmp_path / "wrong"))):
            outcome = cli("kv", "migrate", source.url, url, *words)
            assert outcome.code == 13
            assert "refuses access" in outcome.err
            assert "not this one" not in outcome.err
        outcome = cli(
            "kv", "migrate", source.url, url, "--target-password-file", str(tmp_path / "right")
        )
        assert outcome.code == 0, outcome.err
        assert PASSWORD not in outcome.out + outcome.err
        monkeypatch.setenv("AIBRIXCTL_REDIS_PASSWORD", PASSWORD)
        copy = FilePool(tmp_path / "copy")
        assert cli("kv", "migrate", url, copy.url).code == 0
    assert copy.entries() == expected
    assert PASSWORD not in "".join(
        path.read_bytes().decode("latin-1") for path in tmp_path.glob("state/**/*.journal")
    )


@requires_redis
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls(cli: Cli, source: FilePool, tmp_path: Path) -> None:
    expected = fill(source, size=200_000)
    folder = tmp_path / "tls"
    folder.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    with redis_server(tmp_path, tls=folder) as server:
        place = f"127.0.0.1:{server.port}/0"
        outcome = cli("kv", "migrate", source.url, f"lmcache+redis://{place}")
        assert outcome.code == 13
        assert "rediss" in outcome.err
        authority = ("--ca-file", str(folder / "cert.pem"))
        url = f"lmcache+rediss://{place}"
        assert cli("kv", "migrate", source.url, url, "--verify", "full", *authority).code == 0
        copy = FilePool(tmp_path / "copy")
        assert cli("kv", "migrate", url, copy.url, *authority).code == 0
    assert copy.entries() == expected


@requires_redis
def test_server_that_goes_away(source: FilePool, tmp_path: Path) -> None:
    expected = fill(source, count=150, size=100_000)
    with redis_server(tmp_path) as server:
        url = f"lmcache+redis://127.0.0.1:{server.port}/0"
        child = started(source.url, url, "--max-rate", "2MiB/s", "-v", "-o", "json")
        line = next(line for line in child.stderr if "left" in line)
        RedisPool(server.port).client.connection_pool.disconnect()
    out, err = child.communicate(timeout=60)
    assert "MiB/s" in line or "KiB/s" in line or " B/s" in line
    assert child.returncode == 13, err
    body = json.loads(out)
    assert body["status"] == "partial"
    assert "--resume continues" in err
    assert source.entries() == expected


@requires_redis
def test_interrupt_finishes_the_batch_and_says_how_to_go_on(
    cli: Cli, source: FilePool, tmp_path: Path
) -> None:
    expected = fill(source, count=150, size=100_000)
    with redis_server(tmp_path) as server:
        pool = RedisPool(server.port)
        child = started(source.url, pool.url, "--max-rate", "2MiB/s", "-v", "-o", "json")
        next(line for line in child.stderr if "left" in line)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        body = json.loads(out)
        assert body["data"]["entries"].keys() == {"copied", "pending"}, body
        assert len(pool.entries()) == body["data"]["entries"]["copied"]
        assert "the same command with --resume continues" in err
        again = cli("kv", "migrate", source.url, pool.url)
        assert again.code == 2
        assert "was cut short" in again.err
        outcome = cli("kv", "migrate", source.url, pool.url, "--resume", "--delete-source")
        assert outcome.code == 0, outcome.err
        assert pool.entries() == expected
    assert source.entries() == {}


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a mount namespace of its own",
)
def test_full_disk(source: FilePool, tmp_path: Path) -> None:
    """A real file system without room: refused before, and survived when it fills meanwhile."""
    fill(source, count=8, size=200_000)
    script = f"""
import json, os, sys, threading
from pathlib import Path
from accelerators.errors import ToolError
from tests.kvpool.migrations import FilePool, migrate
from kvpool.migrate.report import Options
disk = Path({str(tmp_path / "disk")!r})
target = FilePool(disk / "pool")
journal = Path({str(tmp_path / "full.journal")!r})
found = {{}}
(disk / "ballast").write_bytes(bytes(2_000_000))
try:
    migrate({source.url!r}, target.url, journal)
except ToolError as error:
    found["before"] = error.code
(disk / "ballast").unlink()
def fill(step):
    if step == "settled":
        room = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize - 100_000))
options = Options(batch_entries=1, lanes=1)
report = migrate({source.url!r}, target.url, journal, options, at=fill)
found["during"] = report.error.code
found["whole"] = len(target.entries())
found["files"] = len(list(target.root.iterdir()))
(disk / "ballast").unlink()
found["resumed"] = migrate({source.url!r}, target.url, journal, options, resume=True).complete
found["all"] = len(target.entries())
print(json.dumps(found))
"""
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(script)
    mount = f"mount -t tmpfs -o size=3m none {tmp_path / 'disk'}"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && exec {sys.executable} {tmp_path}/script.py"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "before": "kv.target.too_small",
        "during": "file.disk_full",
        "whole": 1,
        "files": 1,
        "resumed": True,
        "all": 8,
    }


def started(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
