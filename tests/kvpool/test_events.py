"""KV events: both encodings, the live cache, and a stream with gaps, replays and restarts."""

import contextlib
import socket
import sys
import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvpool.errors import KvPoolError, KvPoolUsageError, PoolUnreachableError
from kvpool.events import codec
from kvpool.events.cache import LiveCache
from kvpool.events.codec import Cleared, Removed, Stored, Unknown, decode, hash_text
from kvpool.events.stream import EventStream, Gap, Received, check_endpoint
from tests.kvpool.event_publisher import BATCHES, numbered, publisher

ALL = dict(numbered(*range(8)))


def block(name: str) -> bytes:
    return name.encode().ljust(32, b".")


def encoded(*events: Any) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def stored(blocks: Sequence[Any], parent: Any = None, **more: Any) -> Stored:
    return Stored(blocks, parent, list(range(4 * len(blocks))), 4, **more)


def test_real_batches_of_vllm() -> None:
    first, second, *_, cleared, last = map(decode, BATCHES)
    assert (first.time_s, first.rank) == (1_700_000_000.5, 0)
    (event,) = first.events
    assert isinstance(event, Stored)
    assert list(event.hashes) == [block(f"a{n}") for n in range(1, 5)]
    assert (event.parent, event.block_tokens, event.medium) == (None, 16, "GPU")
    assert list(event.token_ids) == list(range(64))
    assert [e.parent for e in second.events if isinstance(e, Stored)] == [block("a2")] * 2
    assert cleared.events == (Cleared(),)
    assert isinstance(last.events[0], Stored)
    assert last.events[0].lora == "sql"


def test_the_array_encoding_of_older_versions() -> None:
    payload = encoded(
        ["BlockStored", [1, -2], 7, [5, 6], 1, None, "CPU", "sql"],
        ["BlockStored", [3], None, [8], 1, None],
        ["BlockRemoved", [1], "CPU"],
        ["BlockRemoved", [3]],
        ["AllBlocksCleared"],
        ["SomethingNew", 1, 2],
    )
    assert decode(payload).events == (
        Stored([1, -2], 7, [5, 6], 1, "CPU", None, "sql"),
        Stored([3], None, [8], 1),
        Removed([1], "CPU"),
        Removed([3]),
        Cleared(),
        Unknown("SomethingNew"),
    )
    assert hash_text(-2) == "fffffffffffffffe"
    assert decode(msgspec.msgpack.encode([1, []])).rank is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"HTTP/1.1 400 Bad Request",
        msgspec.msgpack.encode({"ts": 1}),
        msgspec.msgpack.encode(["now", []]),
        msgspec.msgpack.encode([1.0, 5]),
        encoded({"block_hashes": []}),
        encoded([]),
        encoded(["BlockStored", ["text"], None, [], 16]),
        encoded(["BlockStored", [b"x"], None, [], 0]),
        encoded(["BlockStored", [b"x"], "parent", [], 16]),
        encoded(["BlockStored", [b"x"], None, None, 16]),
        encoded(["BlockRemoved", [b"x"], 3]),
        encoded({"type": "BlockRemoved", "block_hashes": [b"x"], "group_idx": "a"}),
    ],
)
def test_what_is_no_batch(payload: bytes) -> None:
    with pytest.raises(KvPoolError) as caught:
        decode(payload)
    assert caught.value.code == "kv.events.malformed"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    try:
        codec.decode(payload)
    except KvPoolError as error:
        assert error.code == "kv.events.malformed"


def test_the_cache_after_each_real_batch() -> None:
    cache = LiveCache()
    seen = []
    for payload in BATCHES:
        for event in decode(payload).events:
            cache.apply(event)
        seen.append((cache.blocks, {t[0]: s.blocks for t, s in cache.sizes().items()}))
    assert seen == [
        (4, {"GPU": 4}),
        (7, {"GPU": 7}),
        (7, {"GPU": 7, "CPU": 2}),
        (6, {"GPU": 6, "CPU": 2}),
        (7, {"GPU": 7, "CPU": 2}),
        (7, {"GPU": 5, "CPU": 2}),
        (0, {"GPU": 0, "CPU": 0}),
        (1, {"GPU": 1, "CPU": 0}),
    ]
    counts = cache.counts
    assert (counts.stored_blocks, counts.removed_blocks, counts.clears) == (11, 3, 1)
    assert (counts.stored_again, counts.removed_unseen, cache.peak_blocks) == (1, 0, 7)


def test_top_prefixes_spare_what_others_share() -> None:
    cache = LiveCache()
    for payload in BATCHES[:2]:
        for event in decode(payload).events:
            cache.apply(event)
    (prefix,) = cache.top_prefixes(5)
    assert (prefix.block, prefix.tokens, prefix.sequences) == (block("a2"), 32, 3)
    assert (prefix.blocks_below, prefix.spared_tokens, prefix.whole) == (5, 64, True)
    cache.apply(Removed([block("a1")], "GPU"))
    (cut,) = cache.top_prefixes(5)
    assert (cut.block, cut.tokens, cut.whole) == (block("a2"), 16, False)
    assert cache.top_prefixes(0) == []


def test_a_deep_tree_and_a_loop_of_parents() -> None:
    cache = LiveCache()
    cache.apply(stored(range(5000)))
    cache.apply(stored([5001], 4998))
    cache.apply(stored([-1], -2))
    cache.apply(stored([-2], -1))
    (prefix,) = cache.top_prefixes(3)
    assert (prefix.block, prefix.tokens, prefix.sequences) == (4998, 4999 * 4, 2)


Action = tuple[str, int]


@given(st.lists(st.tuples(st.sampled_from(["GPU", "CPU", "-GPU", "-CPU"]), st.integers(0, 6))))
def test_sizes_are_those_of_plain_sets(actions: list[Action]) -> None:
    cache, kept = LiveCache(), {"GPU": set[int](), "CPU": set[int]()}
    unseen = 0
    for medium, number in actions:
        if medium.startswith("-"):
            unseen += number not in kept[medium[1:]]
            kept[medium[1:]].discard(number)
            cache.apply(Removed([number], medium[1:]))
        else:
            kept[medium].add(number)
            cache.apply(stored([number], medium=medium))
    assert cache.blocks == len(kept["GPU"] | kept["CPU"])
    assert {t[0]: s.tokens for t, s in cache.sizes().items() if s.blocks} == {
        medium: 4 * len(blocks) for medium, blocks in kept.items() if blocks
    }
    assert cache.counts.removed_unseen == unseen


def received(stream: EventStream, count: int) -> list[Received]:
    return list(islice(stream.batches(for_s=20), count))


def numbers(found: Sequence[Received]) -> list[int]:
    return [one.sequence for one in found]


def test_batches_come_in_order() -> None:
    with publisher(numbered(*range(8))) as at, EventStream(at.events) as stream:
        found = received(stream, 8)
    assert numbers(found) == list(range(8))
    assert found[0].batch == decode(BATCHES[0])
    assert (stream.health.batches, stream.health.gaps) == (8, [])


def test_a_replay_may_be_left_in_the_middle() -> None:
    with publisher([], [ALL]) as at, EventStream(at.events, replay=at.replay) as stream:
        batches = stream.batches(for_s=20)
        assert next(batches).replayed
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("old_replies", [False, True])
def test_what_was_before_comes_by_replay_and_nothing_twice(old_replies: bool) -> None:
    live = numbered(4, 5, 6, 7)
    kept = {number: ALL[number] for number in range(6)}
    with (
        publisher(live, [kept], old_replies=old_replies) as at,
        EventStream(at.events, replay=at.replay) as stream,
    ):
        found = received(stream, 8)
    assert numbers(found) == list(range(8))
    assert [one.replayed for one in found] == [True] * 6 + [False] * 2
    assert (stream.health.joined_at, stream.health.replayed, stream.health.lost) == (0, 6, 0)


def test_a_gap_is_filled_by_replay_as_far_as_it_goes() -> None:
    replays = [{}, {3: ALL[3], 4: ALL[4], 5: ALL[5]}]
    with (
        publisher(numbered(0, 1, 5, 6), replays) as at,
        EventStream(at.events, replay=at.replay) as stream,
    ):
        found = received(stream, 6)
    assert numbers(found) == [0, 1, 3, 4, 5, 6]
    assert stream.health.gaps == [Gap(2, 4, 2)]
    assert stream.health.lost == 1


def test_a_gap_without_replay_is_lost() -> None:
    with publisher(numbered(2, 5)) as at, EventStream(at.events) as stream:
        assert numbers(received(stream, 2)) == [2, 5]
    assert (stream.health.joined_at, stream.health.lost) == (2, 2)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(3, 12), min_size=1), st.integers(0, 3), st.integers(0, 12))
def test_whatever_arrives_comes_in_order_once_and_the_rest_is_counted(
    live: set[int], first_kept: int, last_kept: int
) -> None:
    kept = dict(numbered(*range(first_kept, last_kept + 1)))
    expected = sorted(live | kept.keys())
    with (
        publisher(numbered(*sorted(live)), [kept]) as at,
        EventStream(at.events, replay=at.replay) as stream,
    ):
        found = received(stream, len(expected))
    assert numbers(found) == expected
    missing = set(range(expected[0], expected[-1])) - set(expected)
    assert stream.health.lost == len(missing)


def test_an_engine_that_starts_anew() -> None:
    with (
        publisher(numbered(5, 6, 1, 2), [{}, {0: ALL[0]}]) as at,
        EventStream(at.events, replay=at.replay) as stream,
    ):
        found = received(stream, 5)
    assert [(one.sequence, one.fresh) for one in found] == [
        (5, False), (6, False), (0, True), (1, False), (2, False),
    ]  # fmt: skip
    assert (stream.health.restarts, stream.health.lost) == (1, 0)


def test_malformed_messages_are_counted_and_passed_over() -> None:
    live = [(0, BATCHES[0]), (1, b"garbage"), (2, BATCHES[2])]
    with publisher(live) as at, EventStream(at.events) as stream:
        assert numbers(received(stream, 2)) == [0, 2]
    assert (stream.health.malformed, stream.health.gaps) == (1, [])
    assert "no batch of KV events" in stream.health.notes[0]


def test_other_topics_are_not_heard() -> None:
    with publisher(numbered(0)) as at, EventStream(at.events, topic="other") as stream:
        assert list(stream.batches(for_s=0.3)) == []


def test_a_stop_and_a_time_end_the_stream() -> None:
    asked = iter([False] * 3 + [True] * 99)
    with publisher([]) as at, EventStream(at.events, stop=lambda: next(asked)) as stream:
        assert list(stream.batches()) == []


def test_where_nobody_publishes() -> None:
    with (
        EventStream("tcp://127.0.0.1:1", connect_timeout_s=0.2) as stream,
        pytest.raises(PoolUnreachableError) as caught,
    ):
        list(stream.batches())
    assert "--kv-events-config" in caught.value.hint


def test_a_server_that_does_not_speak_zmq() -> None:
    """It takes the connection and answers as a web server does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            EventStream(address, connect_timeout_s=0.5) as stream,
            pytest.raises(PoolUnreachableError),
        ):
            list(stream.batches())
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("text", ["tcp://host", "host:5557", "tcp://*:5557", "tcp://h:99999", ""])
def test_malformed_addresses(text: str) -> None:
    with pytest.raises(KvPoolUsageError) as caught:
        check_endpoint(text)
    assert ("in place of *" in caught.value.hint) == ("*" in text)


@pytest.mark.parametrize("text", ["tcp://[::1]:5557", "tcp://vllm-0.ns:5557", "ipc:///tmp/events"])
def test_addresses(text: str) -> None:
    assert check_endpoint(text) == text


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(KvPoolError) as caught:
        EventStream("tcp://127.0.0.1:5557")
    assert caught.value.hint == "pip install 'aibrixctl[events]'"
