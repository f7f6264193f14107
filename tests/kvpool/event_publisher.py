"""A publisher of KV events as vLLM's, whose messages and gaps a test decides."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq

BODY = json.loads((Path(__file__).parent / "fixtures" / "kv-events.json").read_text())
BATCHES = [bytes.fromhex(text) for text in BODY["batches"]]
"""What vLLM's own encoder made of the batches in ``fixtures/make_kv_events.py``."""

Messages = Sequence[tuple[int, bytes]]


@dataclass(frozen=True)
class Addresses:
    events: str
    replay: str


def numbered(*numbers: int) -> list[tuple[int, bytes]]:
    """The real batches of these numbers."""
    return [(number, BATCHES[number % len(BATCHES)]) for number in numbers]


@contextmanager
def publisher(
    live: Messages,
    replays: Sequence[Mapping[int, bytes]] = ({},),
    *,
    topic: bytes = b"kv-events",
    old_replies: bool = False,
) -> Iterator[Addresses]:
    """Send messages as soon as somebody listens, and answer requests for what was before.

    Args:
        live: sequence numbers and payloads, sent once.
        replays: what is still there at each request; the last for all further ones.
        topic: of the messages.
        old_replies: leave the topic out of replies, as older versions did.
    """
    context = zmq.Context()
    events, replay = context.socket(zmq.XPUB), context.socket(zmq.ROUTER)
    ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    for socket in (events, replay, ours, theirs):
        socket.setsockopt(zmq.LINGER, 0)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (events, replay)]
    ours.bind("inproc://end")
    theirs.connect("inproc://end")

    def serve() -> None:
        poller = zmq.Poller()
        for socket in (events, replay, theirs):
            poller.register(socket, zmq.POLLIN)
        waiting, left = list(live), list(replays)
        while True:
            ready = dict(poller.poll())
            if theirs in ready:
                return
            if events in ready and events.recv()[:1] == b"\x01":
                for number, payload in waiting:
                    events.send_multipart([topic, number.to_bytes(8, "big"), payload])
                waiting.clear()
            if replay in ready:
                who, empty, first = replay.recv_multipart()
                assert empty == b""
                kept = left.pop(0) if len(left) > 1 else left[0]
                name = [] if old_replies else [topic]
                for number, payload in kept.items():
                    if number >= int.from_bytes(first, "big"):
                        frames = [who, b"", *name, number.to_bytes(8, "big"), payload]
                        replay.send_multipart(frames)
                end = (-1).to_bytes(8, "big", signed=True)
                replay.send_multipart([who, b"", *([b""] if name else []), end, b""])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Addresses(*(f"tcp://127.0.0.1:{port}" for port in ports))
    finally:
        ours.send(b"")
        thread.join()
        for socket in (events, replay, ours, theirs):
            socket.close()
        context.term()
