"""`kv drain`, and the other commands on a Mooncake store."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import pytest

from tests.kvpool.mooncake_servers import SEGMENTS, replay, scenes

SOURCE, TARGET = SEGMENTS


def test_a_dry_run_changes_nothing(cli: Callable[..., Any], cli_json: Callable[..., Any]) -> None:
    with replay("hanging") as server:
        words = ("kv", "drain", server.url, "--segment", SOURCE, "--dry-run")
        body = cli_json(*words)
        assert body["data"]["drain"] is None
        assert body["data"]["plan"]["objects"] == 12
        text = cli(*words).out
        assert f"{SOURCE}: 12 objects" in text
        assert "1 will block it, for every target has a copy: copied" in text
        assert {method for method, _ in server.seen} == {"GET"}


def test_what_lies_on_a_client_s_disk_alone_is_warned_of(cli: Callable[..., Any]) -> None:
    def offloaded(keys: dict[str, Any], segments: list[dict[str, Any]]) -> None:
        client = next(one["client_id"] for one in segments if one["segment_name"] == SOURCE)
        copy = {"client_id": client, "object_size": 7000, "transport_endpoint": "h:1"}
        keys["cold"] = {"ok": True, "error": None, "values": [], "local_disk_values": [copy]}

    with replay("hanging", objects=offloaded) as server:
        outcome = cli("kv", "drain", server.url, "--segment", SOURCE, "--dry-run")
    assert outcome.code == 0
    assert "1 lie on the own disk of a segment's client" in outcome.out
    assert "warning: 1 objects (6.836 KiB) lie only on the own disk" in outcome.err


def test_a_drain_that_ends_is_a_success(cli: Callable[..., Any]) -> None:
    with replay("sound") as server:
        outcome = cli("kv", "drain", server.url, "--segment", SOURCE)
    assert outcome.code == 0
    assert "drained: 10 objects, 10.05 KiB moved" in outcome.out
    assert f"drain job {scenes()['sound']['job']} runs" in outcome.err


def test_a_drain_that_hangs_is_partial_and_its_blockers_are_rows(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    words = ("--segment", SOURCE, "--stall-after", "300ms")
    with replay("hanging") as server:
        outcome = cli("kv", "drain", server.url, *words)
        job = scenes()["hanging"]["job"]
        assert outcome.code == 3
        assert "every target has a copy" in outcome.out
        assert "leased to readers, or pinned" in outcome.out
        assert f"aibrixctl kv drain {server.url} --cancel {job}" in outcome.err
        again = cli("kv", "drain", server.url, "--job", job, "--stall-after", "300ms", "-o", "csv")
        assert again.code == 3
        assert again.out.splitlines()[0] == "key,bytes,why,node"
        assert len(again.out.splitlines()) == 3
        assert cli_json("kv", "drain", server.url, "--cancel", job)["status"] == "success"
    with replay("hanging") as server:
        body = cli_json("kv", "drain", server.url, *words, "--cancel-stalled")
        assert (body["exit_code"], body["data"]["drain"]["was_canceled"]) == (3, True)
        assert body["data"]["drain"]["job"]["status"] == "CANCELED"


def test_a_drain_that_hangs_and_can_not_be_canceled_is_still_reported(
    cli_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client stands still, and the master cancels nothing while objects are on their way."""
    monkeypatch.setattr("kvpool.drain.job.cancel_drain.__kwdefaults__", {"patience_s": 0.2})
    with replay("abandoned", states=2) as server:
        words = ("kv", "drain", server.url, "--segment", SOURCE, "--stall-after", "200ms")
        body = cli_json(*words, "--cancel-stalled")
    assert (body["exit_code"], body["status"]) == (3, "partial")
    assert [error["code"] for error in body["errors"]] == ["kv.drain.stalled", "kv.drain.moving"]
    assert f"{SOURCE} left the store" in body["errors"][0]["message"]
    drain = body["data"]["drain"]
    assert (drain["end"], drain["was_canceled"], drain["job"]["active"]) == ("stalled", False, 10)


def test_a_success_that_lost_objects_is_partial(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    with replay("abandoned") as server:
        body = cli_json("kv", "drain", server.url, "--segment", SOURCE)
    assert (body["exit_code"], body["data"]["drain"]["missing"]) == (3, 10)
    assert body["errors"][0]["code"] == "kv.drain.objects_lost"
    with replay("abandoned") as server:
        outcome = cli("kv", "drain", server.url, "--segment", SOURCE)
    assert "10 objects did not arrive" in outcome.out
    assert f"10 objects have not arrived: {SOURCE} left the store meanwhile" in outcome.err


def test_a_master_that_starts_anew_leaves_what_was_seen(cli_json: Callable[..., Any]) -> None:
    with replay("hanging", forgets=True) as server:
        body = cli_json("kv", "drain", server.url, "--segment", SOURCE)
    assert (body["exit_code"], body["status"]) == (1, "partial")
    assert [error["code"] for error in body["errors"]] == ["kv.drain.lost", "kv.drain.job"]
    drain = body["data"]["drain"]
    assert (drain["end"], drain["job"]["id"]) == ("lost", scenes()["hanging"]["job"])


def test_canceling_can_be_tried_dry(cli_json: Callable[..., Any]) -> None:
    with replay("hanging") as server:
        job = cli_json("kv", "drain", server.url, "--segment", SOURCE, "--no-follow")["data"][
            "drain"
        ]["job"]["id"]
        body = cli_json("kv", "drain", server.url, "--cancel", job, "--dry-run")
        assert (body["exit_code"], body["data"]["drain"]["end"]) == (0, "running")
        assert not any("cancel" in path for _, path in server.seen)
        body = cli_json("kv", "drain", server.url, "--cancel", job)
        assert (body["data"]["drain"]["end"], body["data"]["drain"]["was_canceled"]) == (
            "canceled",
            True,
        )
        again = cli_json("kv", "drain", server.url, "--cancel", job, "--dry-run")
        assert again["errors"][0]["code"] == "kv.drain.ended"
        ended = cli_json("kv", "drain", server.url, "--job", job, "--no-follow")
        assert ended["data"]["drain"]["end"] == "canceled"


def test_too_little_room_is_infeasible_dry_or_not(cli_json: Callable[..., Any]) -> None:
    def full(segments: list[dict[str, Any]]) -> None:
        for segment in segments:
            segment["allocator_used_bytes"] = segment["size_bytes"] - 10

    with replay("hanging", segments=full) as server:
        for dry in ((), ("--dry-run",)):
            body = cli_json("kv", "drain", server.url, "--segment", SOURCE, *dry)
            assert (body["exit_code"], body["errors"][0]["code"]) == (11, "kv.drain.room")
            assert (body["data"]["plan"]["fits"], body["data"]["drain"]) == (False, None)
        assert {method for method, _ in server.seen} == {"GET"}


def test_what_a_hint_says_can_be_pasted_into_a_shell(cli: Callable[..., Any]) -> None:
    with replay("hanging") as server:
        url = f"{server.url}?rpc=1&protocol=tcp"
        outcome = cli("kv", "drain", url, "--segment", SOURCE, "--stall-after", "200ms")
    assert f"aibrixctl kv drain '{url}' --cancel" in outcome.err


def test_it_can_be_started_and_left(cli_json: Callable[..., Any]) -> None:
    with replay("sound") as server:
        body = cli_json("kv", "drain", server.url, "--segment", SOURCE, "--no-follow")
        assert body["data"]["drain"]["end"] == "running"
        assert body["data"]["drain"]["job"]["id"] == scenes()["sound"]["job"]
        assert not any("query" in path for _, path in server.seen if "drain" in path)


def test_a_signal_ends_the_waiting_and_says_how_to_go_on() -> None:
    with replay("hanging") as server:
        words = ["kv", "drain", server.url, "--segment", SOURCE, "-o", "json"]
        child = subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stderr is not None
        assert "runs" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
    assert child.returncode == 130
    assert '"end": "stopped"' in out
    assert f"--job {scenes()['hanging']['job']}" in out


@dataclass(frozen=True)
class Seen:
    """What came of a drain that hung before a person."""

    code: int
    drain: dict[str, Any]
    screen: str


def at_a_terminal(url: str, *words: str, answer: str | signal.Signals) -> Seen:
    """Follow a drain that hangs; type an answer to the question, or send a signal instead."""
    command = [sys.executable, "-m", "aibrixctl", "kv", "drain", url, "--segment", SOURCE]
    command += ["--stall-after", "300ms", "-o", "json", *words]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    with child, os.fdopen(ours, "rb", buffering=0) as terminal:
        screen = screen_until(terminal, b"[y/N] ")
        if screen.endswith(b"[y/N] "):
            if isinstance(answer, str):
                os.write(ours, answer.encode())
            else:
                child.send_signal(answer)
            screen += screen_until(terminal, None)
        assert child.stdout is not None
        body = json.loads(child.stdout.read())
    return Seen(child.returncode, body["data"]["drain"], screen.decode())


def screen_until(terminal: BinaryIO, what: bytes | None) -> bytes:
    """Return what is shown, to some words or to the end."""
    screen = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while (piece := terminal.read(4096)) and not (what and (screen + piece).endswith(what)):
            screen += piece
        screen += piece
    return screen


@pytest.mark.parametrize(("answer", "canceled"), [("y\n", True), ("\n", False), ("\x04", False)])
def test_a_person_is_asked_whether_to_cancel(answer: str, canceled: bool) -> None:
    with replay("hanging") as server:
        seen = at_a_terminal(server.url, answer=answer)
    assert (seen.code, seen.drain["end"]) == (3, "stalled")
    assert "  pinned: leased to readers, or pinned" in seen.screen
    assert seen.screen.count("Cancel the drain, so that the segment serves again? [y/N]") == 1
    assert seen.drain["was_canceled"] == canceled
    assert ("give it up: aibrixctl kv drain" in seen.screen) != canceled


def test_a_signal_leaves_the_drain_that_was_asked_about() -> None:
    with replay("hanging") as server:
        seen = at_a_terminal(server.url, answer=signal.SIGINT)
    assert (seen.code, seen.drain["was_canceled"]) == (130, False)


def test_nobody_is_asked_with_no_input() -> None:
    with replay("hanging") as server:
        seen = at_a_terminal(server.url, "--no-input", answer="y\n")
    assert (seen.code, seen.drain["was_canceled"]) == (3, False)
    assert "[y/N]" not in seen.screen
    assert "give it up: aibrixctl kv drain" in seen.screen


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "nothing says what to do"),
        (("--segment", SOURCE, "--job", "1-2"), 2, "exclude each other"),
        (("--job", "1-2", "--dry-run"), 2, "--dry-run is for --segment and --cancel"),
        (("--segment", SOURCE, "--stall-after", "0s"), 2, "must be more than 0s"),
        (("--segment", SOURCE, "--no-follow", "--cancel-stalled"), 2, "that is followed"),
        (("--cancel", "1-2", "--to", TARGET), 2, "--to has no meaning"),
        (("--segment", "nosuch"), 2, "there is no segment 'nosuch'"),
        (("--job", "1-2"), 1, "knows no drain job"),
    ],
)
def test_bad_input_is_told(
    words: tuple[str, ...], code: int, message: str, cli: Callable[..., Any]
) -> None:
    with replay("sound") as server:
        outcome = cli("kv", "drain", server.url, *words)
    assert (outcome.code, message in outcome.err) == (code, True), outcome.err


def test_other_commands_work_on_the_store(
    cli: Callable[..., Any], cli_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is replayed has no RPC, so that values are left alone whether the client is there or not.
    monkeypatch.setattr("kvpool.mooncake.is_installed", lambda: False)
    with replay("sound") as server:
        stats = cli_json("kv", "stats", server.url)["data"]
        assert stats["states"]["whole"]["entries"] == 12
        assert [node["status"] for node in stats["pool"]["nodes"]] == ["OK", "OK"]
        counted = cli("kv", "stats", server.url).out
        assert f"{SOURCE}  " in counted
        assert "all when evicted" in counted
        listed = cli_json("kv", "ls", server.url, "--model", "demo/chat")["data"]["entries"]
        assert len(listed) == 8
        shown = cli_json("kv", "show", server.url, listed[0]["key"])["data"]
        assert shown["entry"]["node"] in SEGMENTS
        assert shown["entry"]["expires_s"] is None
        text = cli("kv", "show", server.url, listed[0]["key"]).out
        assert "expires    at no set time; evicted by the store" in text
        planned = cli_json("kv", "evict", server.url, "--model", "demo/*", "--dry-run")["data"]
        assert planned["planned"] == 9
        old = cli("kv", "evict", server.url, "--older-than", "1h", "--dry-run")
        assert old.code == 2
        assert "does not publish when an object was stored" in old.err


def test_a_dead_port_is_unreachable(cli: Callable[..., Any]) -> None:
    with replay("sound") as server:
        pass
    assert cli("kv", "drain", server.url, "--segment", SOURCE).code == 13
