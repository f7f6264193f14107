"""LMCache's own server, through answers that it really gave."""

import socket

import pytest

from kvpool.errors import KvPoolUsageError, PoolUnreachableError, UnsupportedError
from kvpool.pool import open_pool, require
from tests.kvpool.pools import MANIFEST, keys, lm_server, load_redis
from tests.redis_server import redis_server, requires_redis


@requires_redis
def test_an_entry_is_read_as_the_other_connectors_store_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    written = MANIFEST["parts"]["lmcache-redis"][0]
    with redis_server(tmp_path_factory.mktemp("redis")) as redis, lm_server() as port:
        load_redis(redis.port).close()
        with (
            open_pool(f"lmcache+redis://127.0.0.1:{redis.port}") as other,
            open_pool(f"lm://127.0.0.1:{port}") as pool,
        ):
            assert pool.read(written["key"]) == other.read(written["key"])
            entry = pool.stat(written["key"])
            assert entry is not None
            assert (entry.state, entry.value_bytes) == ("whole", written["value_bytes"])
            assert entry.tokens == 16


def test_what_the_server_cannot_do_is_said() -> None:
    with lm_server() as port, open_pool(f"lm://127.0.0.1:{port}") as pool:
        assert not pool.describe().writable
        assert pool.stat("absent@1@0@0@half") is None
        assert pool.read("absent@1@0@0@half") is None
        for verb in ("scan", "write", "delete", "expiry"):
            with pytest.raises(UnsupportedError):
                require(pool, verb)
        with pytest.raises(UnsupportedError, match="does not answer its LIST command"):
            pool.scan()
        for key in ("nonsense", keys("lmcache-redis")[0] + "@t%" + "x" * 150):
            with pytest.raises(KvPoolUsageError):
                pool.stat(key)


def test_another_server_or_none_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PoolUnreachableError, match="no server of LMCache"):
            open_pool(f"lm://127.0.0.1:{port}", timeout_s=0.2)
    with pytest.raises(PoolUnreachableError):
        open_pool(f"lm://127.0.0.1:{port}")
