"""Hazards in AIBrix's placement metadata, and nodes that do or don't answer."""

import json
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from kvpool.doctor.examine import examine
from kvpool.doctor.finding import Report
from kvpool.doctor.placement_checks import Snapshot, node_findings, owner_findings, slot_findings
from kvpool.doctor.probe import Probe, blind_reason, probe_nodes
from kvpool.doctor.survey import Options
from kvpool.entry import Node
from kvpool.placement import TOTAL_SLOTS
from kvpool.pool import open_pool
from tests.kvpool.test_placement import TWO
from tests.redis_server import redis_server, requires_redis

NODES = (Node("kv-0", "10.0.0.1:1", ((0, 2047),)), Node("kv-1", "10.0.0.2:1", ((2048, 4095),)))


def codes(nodes: Sequence[Node]) -> dict[str, int]:
    return {f.hazard.code: f.count for f in slot_findings(nodes, TOTAL_SLOTS)}


@given(st.lists(st.integers(1, TOTAL_SLOTS - 1), unique=True, max_size=40), st.integers(0, 99))
def test_any_split_of_all_slots_is_sound_and_any_hole_is_found(cuts: list[int], seed: int) -> None:
    edges = [0, *sorted(cuts), TOTAL_SLOTS]
    ranges = [(a, b - 1) for a, b in pairwise(edges)]
    draw = random.Random(seed)
    draw.shuffle(ranges)
    nodes = [Node(f"kv-{i}", f"10.0.0.{i}:1", tuple(ranges[i::3])) for i in range(3)]
    assert codes(nodes) == {}
    start, end = ranges[0]
    without = [Node(n.name, n.address, tuple(r for r in n.slots if r[0] != start)) for n in nodes]
    assert codes(without) == {"KV-SLOTS-MISSING": end - start + 1}
    assert codes([*nodes, Node("kv-9", "x:1", ((start, end),))]) == {
        "KV-SLOTS-TWICE": end - start + 1
    }


def test_a_wrapped_range_and_what_is_lost_with_it() -> None:
    nodes = [Node("a", "h:1", ((1, 4094),)), Node("b", "h:2", ((4095, 0),))]
    findings = {f.hazard.code: f for f in slot_findings(nodes, TOTAL_SLOTS)}
    assert findings["KV-SLOTS-WRAPPED"].evidence == ("b has 4095-0",)
    assert findings["KV-SLOTS-MISSING"].evidence == ("0", "4095")


def test_slots_that_do_not_exist_cost_nothing() -> None:
    nodes = [Node("a", "h:1", ((-5, 10**15),))]
    assert codes(nodes) == {"KV-SLOTS-OUTSIDE": 1}


def test_owners_of_shared_slots_are_named() -> None:
    nodes = [*NODES, Node("kv-2", "10.0.0.3:1", ((2000, 2100),))]
    (finding,) = slot_findings(nodes, TOTAL_SLOTS)
    assert finding.evidence == ("2000-2047: kv-0 and kv-2", "2048-2100: kv-1 and kv-2")


def test_nodes_that_are_idle_missing_or_one() -> None:
    assert [f.hazard.code for f in node_findings(())] == ["KV-NO-NODES"]
    assert list(node_findings(NODES)) == []
    same = [*NODES, Node("kv-2", "10.0.0.1:1"), Node("kv-1", "10.0.0.9:1", ((0, 1),))]
    idle, twice = node_findings(same)
    assert idle.evidence == ("kv-2 at 10.0.0.1:1",)
    assert twice.evidence == (
        "address 10.0.0.1:1: kv-0 at 10.0.0.1:1, kv-2 at 10.0.0.1:1",
        "name kv-1: kv-1 at 10.0.0.2:1, kv-1 at 10.0.0.9:1",
    )


def test_signs_of_a_second_cluster() -> None:
    others = (Node("other-0", "10.1.0.1:1", ((0, 4095),)),)
    assert list(owner_findings([Snapshot(1, NODES), Snapshot(2, NODES[:1])])) == []
    (finding,) = owner_findings([Snapshot(5, NODES), Snapshot(2, others)])
    assert finding.evidence == (
        "while watched, kv-0, kv-1 were replaced by other-0",
        "while watched, version 5 was followed by 2",
    )
    (finding,) = owner_findings([Snapshot(1, (*NODES, *others))])
    assert finding.evidence == ("pods of kv and other stand in one document",)


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as place:
        yield place.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


def test_nodes_answer_refuse_or_are_malformed() -> None:
    with listening() as port:
        nodes = [
            Node("up", f"127.0.0.1:{port}"),
            Node("down", f"127.0.0.1:{closed_port()}"),
            Node("odd", "127.0.0.1:99999999"),
            Node("odder", "nowhere"),
        ]
        up, down, odd, odder = probe_nodes(nodes, 2.0)
    assert up == Probe(nodes[0])
    assert (down.error, down.refused) == ("Connection refused", True)
    assert odd == Probe(nodes[2], "'99999999' is no port", refused=True)
    assert odder == Probe(nodes[3], "'nowhere' is no port", refused=True)
    assert blind_reason([up, down]) == blind_reason([down]) == blind_reason([]) == ""
    far = Probe(nodes[0], "no answer within 2 s")
    assert "run it inside the cluster" in blind_reason([far, far])
    assert blind_reason([far, down]) == ""


@requires_redis
def test_a_placement_is_examined_and_its_nodes_probed(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        url = f"aibrix+redis://127.0.0.1:{server.port}"

        def look(document: Any, options: Options) -> Report:
            client.set("kvcache_nodes", json.dumps(document))
            with open_pool(url) as pool:
                return examine(pool, options)

        seen = look(TWO, Options(probe_timeout_s=None))
        assert {f.hazard.code for f in seen.findings} == {"KV-SLOTS-WRAPPED", "KV-SLOTS-MISSING"}
        assert seen.scanned is None
        assert seen.undecided == ()
        with listening() as port:
            slots = [{"start": 0, "end": 2047}]
            up = {"name": "kv-0", "addr": "127.0.0.1", "port": port, "slots": slots}
            rest = [{"start": 2048, "end": 4095}]
            down = {"name": "kv-1", "addr": "127.0.0.1", "port": closed_port(), "slots": rest}
            seen = look({"nodes": [up, down], "version": 1}, Options())
            (finding,) = seen.findings
            assert finding.hazard.code == "KV-ADDRESS-STALE"
            assert finding.evidence[0].startswith("kv-1 at 127.0.0.1:")
            down["port"] = port
            down["addr"] = "localhost"
            assert look({"nodes": [up, down], "version": 1}, Options()).findings == ()


def _node(number: int, *slots: tuple[int, int], at: int | None = None) -> dict[str, Any]:
    ranges = [{"start": start, "end": end} for start, end in slots]
    address = f"10.0.0.{number if at is None else at}"
    return {"name": f"kv-{number}", "addr": address, "port": 1, "slots": ranges}


@requires_redis
@pytest.mark.parametrize(
    ("nodes", "codes"),
    [
        ([], ["KV-NO-NODES"]),
        ([_node(0, (4095, 0))], ["KV-SLOTS-WRAPPED", "KV-SLOTS-MISSING"]),
        ([_node(0, (0, 4094))], ["KV-SLOTS-MISSING"]),
        ([_node(0, (0, 4096))], ["KV-SLOTS-OUTSIDE"]),
        ([_node(0, (0, 2000)), _node(1, (1000, 4095))], ["KV-SLOTS-TWICE"]),
        ([_node(0, (0, 4095)), _node(1)], ["KV-NODE-IDLE"]),
        ([_node(0, (0, 2000)), _node(1, (2001, 4095), at=0)], ["KV-ADDRESS-TWICE"]),
    ],
    ids=lambda value: "+".join(value) if value and isinstance(value[0], str) else "",
)
def test_every_fault_of_the_metadata_is_found_on_a_server(
    nodes: list[dict[str, Any]], codes: list[str], tmp_path: Path
) -> None:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        client.set("kvcache_nodes", json.dumps({"nodes": nodes, "version": 1}))
        with open_pool(f"aibrix+redis://127.0.0.1:{server.port}") as pool:
            seen = examine(pool, Options(probe_timeout_s=None))
    assert [finding.hazard.code for finding in seen.findings] == codes
    assert all(finding.evidence and finding.hazard.remedy for finding in seen.findings)


@requires_redis
def test_a_watch_sees_two_clusters_overwrite_each_other(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        client.set("kvcache_nodes", _document("east", 1000))
        done = Event()

        def write() -> None:
            with redis.Redis(port=server.port) as other:
                turn = 0
                while not done.wait(0.05):
                    turn += 1
                    name = "east" if turn % 2 else "west"
                    other.set("kvcache_nodes", _document(name, 1000 - turn))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            with open_pool(f"aibrix+redis://127.0.0.1:{server.port}") as pool:
                seen = examine(pool, Options(probe_timeout_s=None, watch_s=1.0))
        finally:
            done.set()
            writer.join()
    (finding,) = seen.findings
    assert finding.hazard.code == "KV-TWO-POOLS"
    assert "while watched" in finding.evidence[0]


def _document(name: str, version: int) -> str:
    slots = [{"start": 0, "end": 4095}]
    node = {"name": f"{name}-0", "addr": "10.0.0.1", "port": 1, "slots": slots}
    return json.dumps({"nodes": [node], "version": version})
