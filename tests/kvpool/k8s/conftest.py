"""A pool of the test's own, in a real API server and a real Redis."""

from collections.abc import Iterator

import pytest

from cluster.api import Api
from tests.kvpool.k8s.cluster_pools import World, world_of
from tests.redis_server import Server, redis_server


@pytest.fixture(scope="session")
def placement_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("placement")) as server:
        yield server


@pytest.fixture
def world(api: Api, placement_redis: Server) -> Iterator[World]:
    with world_of(api, placement_redis.port) as made:
        yield made
