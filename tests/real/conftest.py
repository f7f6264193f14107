"""The one real engine that these tests share."""

from collections.abc import Iterator

import pytest

from .vllm_server import Vllm, command, vllm_server


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    path = command()
    assert path is not None
    with vllm_server(path, tmp_path_factory.mktemp("vllm")) as server:
        yield server
