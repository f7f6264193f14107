"""Pushing profiles to a real Redis."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from accelerators.errors import UnreachableError
from profiler.errors import ProfilerError, ProfilerUsageError
from profiler.interop import aibrix_redis
from profiler.interop.aibrix import from_profile, to_profile
from profiler.interop.aibrix_redis import PushPlan
from profiler.table import ThroughputTable
from tests.redis_server import Server, redis_server, requires_redis

pytestmark = requires_redis
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with aibrix_redis.connected(server.url) as connection:
        connection.flushdb()
        yield connection


def profile(table: ThroughputTable, created: str = NOW, **options: Any) -> dict[str, Any]:
    return to_profile(table, created=created, **options).document


def plan_push(client: "redis.Redis", document: dict[str, Any], model: str) -> PushPlan:
    table = from_profile(document, "profile", model=model).table
    return aibrix_redis.plan_pushes(client, [(document, model, table)])[0]


def push(client: "redis.Redis", document: dict[str, Any], model: str = "m") -> None:
    aibrix_redis.push(client, plan_push(client, document, model))


def test_a_push_is_what_aibrix_reads(client: "redis.Redis", table: ThroughputTable) -> None:
    document = profile(table, deployment="default/a10-vllm")
    plan = plan_push(client, document, "deepseek")
    assert plan.key == "aibrix:profile_deepseek_a10-vllm"
    assert plan.raw_before is None
    assert client.keys("*") == []
    aibrix_redis.push(client, plan)
    stored: Any = client.get("aibrix:profile_deepseek_a10-vllm")
    assert json.loads(stored) == document
    assert client.ttl(plan.key) == -1


def test_the_plan_shows_what_changes(client: "redis.Redis", table: ThroughputTable) -> None:
    push(client, profile(table))
    faster = replace(table.cells[0], max_request_rate=12.0)
    dearer = replace(table, cells=(faster, *table.cells[1:]), cost_usd_per_hour=1.1)
    plan = plan_push(client, profile(dearer, LATER), "m")
    assert plan.to_json()["action"] == "replace"
    assert plan.changes == ("cost: 0.9 -> 1.1", "tputs: 1 of 6 cells, most 10 -> 12")
    assert plan.refusals == ()


def test_a_newer_profile_is_not_replaced(client: "redis.Redis", table: ThroughputTable) -> None:
    push(client, profile(table, LATER))
    plan = plan_push(client, profile(table, NOW), "m")
    assert "was created at" in plan.refusals[0]


def test_buckets_unlike_the_models_others_are_refused(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    push(client, profile(table))
    small = replace(
        table, target="l20", output_tokens=(32,), cells=tuple(table.cells[i] for i in (0, 2, 4))
    )
    plan = plan_push(client, profile(small), "m")
    assert "AIBrix skips" in plan.refusals[0]
    assert plan_push(client, profile(small), "other").refusals == ()


def test_profiles_pushed_together_are_held_against_each_other(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    small = replace(
        table, target="l20", output_tokens=(32,), cells=tuple(table.cells[i] for i in (0, 2, 4))
    )
    unlike = aibrix_redis.plan_pushes(client, [(profile(one), "m", one) for one in (table, small)])
    assert ["AIBrix skips" in plan.refusals[0] for plan in unlike] == [True, True]


def test_new_buckets_for_all_profiles_of_a_model_are_no_contradiction(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    cells = tuple(table.cells[i] for i in (0, 2, 4))
    both = [table, replace(table, target="l20")]
    small = [replace(one, output_tokens=(32,), cells=cells) for one in both]
    for one in both:
        push(client, profile(one))
    plans = aibrix_redis.plan_pushes(client, [(profile(one, LATER), "m", one) for one in small])
    assert [plan.refusals for plan in plans] == [(), ()]


def test_two_profiles_for_one_key_are_refused_before_anything_is_written(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    twice = [(profile(table, at), "m", table) for at in (NOW, LATER)]
    with pytest.raises(ProfilerUsageError, match="two of the tables") as caught:
        aibrix_redis.plan_pushes(client, twice)
    assert caught.value.target == "aibrix:profile_m_a10"


def test_keys_of_another_type_are_no_profiles(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    client.lpush("aibrix:profile_m_list", "x")
    assert plan_push(client, profile(table), "m").refusals == ()


@pytest.mark.parametrize(("there", "ours"), [("m", "m_x"), ("m_x", "m")])
def test_models_that_aibrixs_scan_mixes_up_are_told(
    there: str, ours: str, client: "redis.Redis", table: ThroughputTable
) -> None:
    push(client, profile(table), there)
    plan = plan_push(client, profile(replace(table, target="l20")), ours)
    assert plan.refusals == ()
    assert "AIBrix scans aibrix:profile_m_*" in plan.warnings[0]


def test_unrelated_models_are_not_warned_about(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    push(client, profile(table), "mm")
    assert plan_push(client, profile(table), "m").warnings == ()


@pytest.mark.parametrize("junk", [b"not json", b"[1]", b"\xff\xfe", b"null"])
def test_junk_under_the_key_is_told_and_replaced(
    junk: bytes, client: "redis.Redis", table: ThroughputTable
) -> None:
    client.set("aibrix:profile_m_a10", junk)
    client.set("aibrix:profile_m_other", junk)
    plan = plan_push(client, profile(table), "m")
    assert "no JSON object" in plan.warnings[0]
    aibrix_redis.push(client, plan)
    stored: Any = client.get("aibrix:profile_m_a10")
    assert json.loads(stored)["gpu"] == "a10"


def test_a_profile_that_changed_since_the_plan_is_left_alone(
    client: "redis.Redis", table: ThroughputTable
) -> None:
    plan = plan_push(client, profile(table), "m")
    client.set(plan.key, "another writer")
    with pytest.raises(ProfilerError, match="changed in the meantime"):
        aibrix_redis.push(client, plan)
    assert client.get(plan.key) == b"another writer"


def test_a_password_is_needed_and_never_shown(tmp_path: Path, table: ThroughputTable) -> None:
    with redis_server(tmp_path, password="hunter2") as guarded:
        with aibrix_redis.connected(guarded.url, "hunter2") as connection:
            push(connection, profile(table))
        for wrong in (None, "guess"):
            with (
                pytest.raises(UnreachableError, match="refuses access") as caught,
                aibrix_redis.connected(guarded.url, wrong),
            ):
                pass
            assert "guess" not in caught.value.message


def test_no_server_is_unreachable(tmp_path: Path) -> None:
    with redis_server(tmp_path) as stopped:
        pass
    with (
        pytest.raises(UnreachableError, match="no Redis answers"),
        aibrix_redis.connected(stopped.url),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:secret@127.0.0.1:1/0", "holds a password"),
        ("http://127.0.0.1:1", "no Redis URL"),
        ("redis://127.0.0.1:1/zero", "no Redis URL"),
        ("redis://127.0.0.1:port/0", "no Redis URL"),
        ("redis://", "no Redis URL"),
    ],
)
def test_bad_urls_are_refused(url: str, message: str) -> None:
    with (
        pytest.raises(ProfilerUsageError, match=message) as caught,
        aibrix_redis.connected(url),
    ):
        pass
    assert "secret" not in caught.value.message + str(caught.value.target)
