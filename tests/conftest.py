"""Settings and servers that every test shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cluster.access import Access, connect
from cluster.api import Api
from tests import kube as kube_server

settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube_server.Server]:
    """A Kubernetes API server with AIBrix's resource types, for the whole session."""
    folder = tmp_path_factory.mktemp("kube")
    if other := os.environ.get(kube_server.OTHER):
        yield kube_server.Server(Path(other), folder, own=False)
        return
    with kube_server.api_server(folder) as server:
        yield server


@pytest.fixture
def namespace(kube: kube_server.Server) -> Iterator[str]:
    """A namespace of the test's own."""
    with kube_server.fresh_namespace(kube) as name:
        yield name


@pytest.fixture
def api(kube: kube_server.Server, namespace: str) -> Iterator[Api]:
    """The cluster, seen by its administrator from that namespace."""
    with connect(Access(str(kube.kubeconfig), namespace=namespace)) as connected:
        yield connected
