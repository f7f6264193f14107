"""A pool of the test's own, in a real API server and a real Redis."""

from collections.abc import Iterator

import pytest
import redis

from cluster.api import Api
from cluster.kinds import KV_CACHE, NODE
from tests.kvpool.k8s.cluster_pools import World
from tests.redis_server import Server, redis_server


@pytest.fixture(scope="session")
def placement_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("placement")) as server:
        yield server


@pytest.fixture
def world(api: Api, placement_redis: Server) -> Iterator[World]:
    """A pool that is not built yet."""
    with redis.Redis(port=placement_redis.port) as client:
        client.flushall()
        made = World(api, client, placement_redis.port)
        made.node(("Ready", "True", "KubeletReady"), name="a-node")
        yield made
        for resource in list(api.list(KV_CACHE)):  # Other tests look at every namespace.
            api.delete(KV_CACHE, resource["metadata"]["name"])
        for node in made.nodes:
            api.delete(NODE, node)
