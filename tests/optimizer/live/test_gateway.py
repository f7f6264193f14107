from collections.abc import Iterator

import pytest
import redis

from optimizer.errors import OptimizerError, OptimizerUsageError
from optimizer.live import gateway
from tests.gateway import GatewayTrace, recent
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as server,
        redis.Redis(port=server.port) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _empty(client: redis.Redis) -> None:
    client.flushall()


def test_a_model_is_not_taken_for_another_that_begins_like_it(client: redis.Redis) -> None:
    names = ["m", "m_x", "m_request_trace_7", "org/Model-7B [v1]*"]
    for n, name in enumerate(names, start=1):
        recent(name, client, 3).slot([(512, 128)] * n).write(client)
    client.set("aibrix:m_request_trace_", "{}")
    client.set("aibrix:m_request_trace_x9", "{}")
    client.set("aibrix:_request_trace_10", "{}")
    assert sorted(gateway.list_slots(client)) == sorted(names)
    for n, name in enumerate(names, start=1):
        traffic = gateway.read_traffic(client, "here", model=name)
        assert [slot.total for slot in traffic.slots] == [n]
        again = gateway.read_recent(client, "here", name, 60)
        assert again.slots == traffic.slots


def test_one_model_needs_no_name_several_do(client: redis.Redis) -> None:
    with pytest.raises(OptimizerError, match="no request traces") as raised:
        gateway.read_traffic(client, "here")
    assert "AIBRIX_GPU_OPTIMIZER_TRACING_FLAG" in raised.value.hint
    recent("a", client, 1).slot([(512, 128)]).write(client)
    assert gateway.read_traffic(client, "here").model == "a"
    recent("b", client, 1).slot([(512, 128)]).write(client)
    with pytest.raises(OptimizerUsageError, match="of 2 models: a, b"):
        gateway.read_traffic(client, "here")
    with pytest.raises(OptimizerUsageError, match="no request traces of 'c'"):
        gateway.read_traffic(client, "here", model="c")


def test_keys_of_another_kind_are_damage_not_failure(client: redis.Redis) -> None:
    trace = recent("m", client, 4)
    for _ in range(3):
        trace.slot([(512, 128)])
    trace.write(client)
    middle = sorted(trace.values)[1]
    client.delete(trace.key(middle))
    client.lpush(trace.key(middle), "not a string")
    traffic = gateway.read_traffic(client, "here", model="m")
    assert (len(traffic.slots), traffic.missing) == (2, (middle,))


def test_among_a_hundred_thousand_keys_redis_is_asked_in_small_steps(
    client: redis.Redis,
) -> None:
    for start in range(0, 100_000, 10_000):
        client.mset({f"other:{n}": b"" for n in range(start, start + 10_000)})
    trace = GatewayTrace("m", 1_700_000_000)
    for _ in range(60):
        trace.slot([(512, 128)])
    trace.write(client)
    client.config_set("slowlog-log-slower-than", 0)
    client.slowlog_reset()
    client.config_resetstat()
    assert len(gateway.read_traffic(client, "here", model="m").slots) == 60
    stats = client.info("commandstats")
    assert "cmdstat_keys" not in stats
    assert stats["cmdstat_scan"]["calls"] >= 50
    assert stats["cmdstat_mget"]["calls"] == 1


def test_recent_slots_are_read_without_a_scan(client: redis.Redis) -> None:
    trace = recent("m", client, 30)
    for n in range(30):
        trace.slot([(512, 128)] * (n + 1))
    trace.write(client, expire=True)
    client.config_resetstat()
    traffic = gateway.read_recent(client, "here", "m", 60)
    assert [slot.total for slot in traffic.slots] == [25, 26, 27, 28, 29, 30]
    assert traffic.age_s is not None
    assert 0 <= traffic.age_s <= 25
    assert "cmdstat_scan" not in client.info("commandstats")
    assert gateway.read_recent(client, "here", "nobody", 60).slots == ()
