import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from profiler.errors import ProfilerError, ProfilerUsageError
from profiler.interop.aibrix import to_profile
from profiler.interop.aibrix_redis import plan_pushes, profile_key, push
from profiler.interop.aibrix_stored import accelerator_in, read_profiles
from profiler.table import ThroughputTable
from tests.redis_server import redis_server, requires_redis

CREATED = "2026-01-01T00:00:00Z"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis.Redis]:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        yield client


@requires_redis
def test_what_was_pushed_is_read_back_and_no_other_model(
    client: redis.Redis, table: ThroughputTable
) -> None:
    for model, deployment in (("m", "default/m-a10"), ("m", "m-l20"), ("m_x", "m-v100")):
        document = to_profile(table, created=CREATED, deployment=deployment).document
        client.set(profile_key(model, deployment), json.dumps(document))
    client.set("aibrix:profile_m", "no deployment")
    stored = read_profiles(client, "here", model="m")
    assert [one.table.target for one in stored] == ["m-a10", "m-l20"]
    assert [one.namespace for one in stored] == ["default", None]
    assert [one.table.accelerator for one in stored] == ["a10", "l20"]
    assert {one.table.model for one in stored} == {"m"}
    assert stored[0].warnings == ()
    for one in stored:
        assert one.table.cost_usd_per_hour == table.cost_usd_per_hour
        rates = [cell.max_request_rate for cell in one.table.cells]
        assert rates == [cell.max_request_rate for cell in table.cells]
    assert len(read_profiles(client, "here", model="m_x")) == 1
    with pytest.raises(ProfilerUsageError, match="of 2 models: m, m_x"):
        read_profiles(client, "here")
    with pytest.raises(ProfilerUsageError, match="no profiles of 'y'"):
        read_profiles(client, "here", model="y")


@requires_redis
def test_a_pushed_table_comes_back_whole_while_its_profile_is_the_same(
    client: redis.Redis, table: ThroughputTable
) -> None:
    """A profile can't say these: accelerators, GPUs per replica, percentiles, the simulator."""
    made = replace(
        table,
        accelerator="h100-sxm",
        gpus_per_replica=4,
        provenance=replace(table.provenance, source="simulated"),
    )
    document = to_profile(made, created=CREATED, deployment="big").document
    (plan,) = plan_pushes(client, [(document, "served", made)])
    push(client, plan)
    key, beside = "aibrix:profile_served_big", "aibrixctl:table_served_big"
    assert sorted(client.keys("*")) == [key.encode(), beside.encode()]
    (stored,) = read_profiles(client, "here")
    assert stored.table == replace(made, target="big", model="served")
    damaged = json.loads(client.get(beside) or b"")
    damaged["table"]["cells"] = []
    client.set(beside, json.dumps(damaged))
    (stored,) = read_profiles(client, "here")
    assert "the table beside here aibrix:profile_served_big is not used" in stored.warnings[0]
    assert stored.table.provenance.source == "imported"
    push(client, plan_pushes(client, [(document | {"created": 2e9}, "served", made)])[0])
    client.set(key, json.dumps(document | {"cost": 9.0}))
    (stored,) = read_profiles(client, "here")
    assert (stored.table.cost_usd_per_hour, stored.table.gpus_per_replica) == (9.0, 1)
    assert (stored.table.provenance.source, stored.warnings) == ("imported", ())


@requires_redis
def test_a_profile_that_cannot_be_used_is_named(
    client: redis.Redis, table: ThroughputTable
) -> None:
    with pytest.raises(ProfilerError, match="holds no GPU profiles"):
        read_profiles(client, "here")
    client.set("aibrix:profile_m_a10", "{")
    with pytest.raises(ProfilerUsageError, match="aibrix:profile_m_a10 is not JSON"):
        read_profiles(client, "here", model="m")
    client.set("aibrix:profile_m_a10", "{}")
    with pytest.raises(ProfilerUsageError, match="lacks gpu"):
        read_profiles(client, "here", model="m")
    document = to_profile(replace(table, target="other"), created=CREATED).document
    client.set("aibrix:profile_m_a10", json.dumps(document))
    (stored,) = read_profiles(client, "here", model="m")
    assert stored.table.target == "a10"
    assert "says gpu 'other'" in stored.warnings[0]


@pytest.mark.parametrize(
    ("deployment", "accelerator"),
    [
        ("deepseek-coder-7b-l20", "l20"),
        ("llama-70b-a100-80gb", "a100-80g-sxm"),
        ("h100-sxm-qwen", "h100-sxm"),
        ("a10", "a10"),
        ("llama2-7b-a100", None),  # of 40 or of 80 GB
        ("llama-3-8b", None),
        ("web", None),
    ],
)
def test_a_deployment_may_name_its_accelerator(deployment: str, accelerator: str | None) -> None:
    assert accelerator_in(deployment) == accelerator
