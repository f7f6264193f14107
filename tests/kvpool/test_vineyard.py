"""Vineyard: what needs no daemon, and with a real one what it holds."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kvpool.errors import KvPoolUsageError, PoolUnreachableError, UnsupportedError
from kvpool.pool import open_pool, require
from kvpool.stats import collect
from kvpool.url import parse_pool_url
from kvpool.vineyard import VineyardPool
from tests.kvpool.mooncake_servers import until
from tests.kvpool.pools import entries

LIMIT_S = 60.0
"""For two calls of a second each, on a machine that is busy; without one they take minutes."""
needs_vineyard = pytest.mark.skipif(
    find_spec("vineyard") is None,
    reason="vineyard is not installed; pip install 'aibrixctl[vineyard]'",
)


def test_a_path_that_is_no_socket_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(KvPoolUsageError, match="is no socket"):
            open_pool(f"vineyard://{path}")


@dataclass
class Daemon:
    """A real one."""

    socket: Path
    process: "subprocess.Popen[bytes]"

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it stand still for the block, as on a machine that swaps."""
        self.process.send_signal(signal.SIGSTOP)
        yield
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    spec = find_spec("vineyard")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "bdist" / "vineyardd"
    folder = tmp_path_factory.mktemp("v")
    path = folder / "v.sock"
    words = ["--meta", "local", "--socket", str(path), "--size", "64Mi", "--rpc=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, cwd=folder)
        try:
            until(path.is_socket)
            yield Daemon(path, process)
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture
def socket(daemon: Daemon) -> Path:
    """The socket of a real daemon."""
    return daemon.socket


@pytest.fixture
def client(socket: Path) -> Iterator[Any]:
    import vineyard

    connected = vineyard.connect(str(socket))
    yield connected
    connected.close()


@pytest.mark.real
@needs_vineyard
@pytest.mark.filterwarnings("ignore")
def test_all_objects_are_found_without_their_parts(socket: Path, client: Any) -> None:
    import numpy as np

    ids = [repr(client.put(np.zeros(1000 * (number + 1)))) for number in range(20)]
    with open_pool(f"vineyard://{socket}") as pool:
        found = entries(pool)
        assert set(found) == set(ids)
        assert [found[key].bytes for key in ids] == [8000 * (n + 1) for n in range(20)]
        assert {entry.namespace for entry in found.values()} == {"vineyard::Tensor<double>"}
        assert pool.stat(ids[3]) == found[ids[3]]
        assert collect(pool).stored.without == 0
        facts = pool.describe()
        assert facts.capacity_bytes == 64 << 20
        assert (facts.used_bytes or 0) >= sum(entry.bytes for entry in found.values())


@pytest.mark.real
@needs_vineyard
@pytest.mark.filterwarnings("ignore")
def test_objects_are_removed_with_their_blobs(socket: Path, client: Any) -> None:
    import numpy as np

    one, two = (repr(client.put(np.full(5000, number))) for number in range(2))
    with open_pool(f"vineyard://{socket}") as pool:
        assert pool.delete([one, "o0000000000000001"]) == 1
        assert list(entries(pool)) == [two]
        assert pool.stat(one) is None
        for verb in ("read", "write"):
            with pytest.raises(UnsupportedError, match="vineyard's own migrate"):
                require(pool, verb)
        with pytest.raises(KvPoolUsageError, match="is no id"):
            pool.stat("nonsense")


@pytest.mark.real
@needs_vineyard
@pytest.mark.filterwarnings("ignore")
def test_a_socket_without_a_daemon_is_unreachable_at_once(
    tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    import socket as sockets

    path = tmp_path_factory.mktemp("v") / "s"
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(PoolUnreachableError, match="no vineyard daemon answers"):
        open_pool(f"vineyard://{path}")
    assert "retrying" not in "".join(capfd.readouterr())


@pytest.mark.real
@needs_vineyard
def test_a_daemon_that_stands_still_is_given_up(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package would wait for minutes, and let no signal through."""
    monkeypatch.setattr("kvpool.vineyard.LIST_S", 1.0)
    url = parse_pool_url(f"vineyard://{daemon.socket}")
    with VineyardPool(url, timeout_s=1.0) as pool:
        assert list(pool.scan()) == []
        with daemon.stopped():
            started_s = time.monotonic()
            with pytest.raises(PoolUnreachableError, match="silent for 1 s"):
                list(pool.scan())
            with pytest.raises(PoolUnreachableError, match="silent before"):
                pool.describe()
            with pytest.raises(PoolUnreachableError, match="silent for 1 s"):
                VineyardPool(url, timeout_s=1.0)
            assert time.monotonic() - started_s < LIMIT_S


@pytest.mark.real
@needs_vineyard
def test_a_daemon_that_dies_is_unreachable(daemon: Daemon) -> None:
    with open_pool(f"vineyard://{daemon.socket}") as pool:
        daemon.process.kill()
        daemon.process.wait(10)
        with pytest.raises(PoolUnreachableError, match="no vineyard daemon answers"):
            list(pool.scan())
