"""Documents in ConfigMaps: whole or not there, of any size."""

import json
import random

import pytest

from cluster import documents
from cluster.api import Api
from cluster.errors import ClusterError
from cluster.kinds import CONFIG_MAP
from tests.kube import Server


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_a_document_comes_back_as_it_was(api: Api, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert documents.fetch(api, "doc") is None
    documents.store(api, "doc", data, labels={documents.RUN_LABEL: "r"})
    assert documents.fetch(api, "doc") == data
    stored = list(api.list(CONFIG_MAP, labels="aibrixctl/run=r"))
    assert len(stored) == (2 if size < 700_000 else 1 + 5)


def test_a_document_is_replaced(api: Api) -> None:
    documents.store(api, "doc", b"one" * 1000)
    documents.store(api, "doc", b"two")
    assert documents.fetch(api, "doc") == b"two"


def test_a_damaged_document_is_refused(api: Api) -> None:
    documents.store(api, "doc", b"one")
    part = next(c for c in api.list(CONFIG_MAP) if "binaryData" in c)
    api.patch(CONFIG_MAP, part["metadata"]["name"], {"binaryData": {"part": "AAAA"}})
    with pytest.raises(ClusterError, match="is damaged"):
        documents.fetch(api, "doc")


def test_a_command_delivers_its_result_to_the_cluster(
    kube: Server, api: Api, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from aibrixctl.app import run

    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    url = f"k8s:configmap/{api.namespace}/result"
    assert run(["accelerators", "show", "a10", "-o", "json", "--output-file", url]) == 0
    assert capfd.readouterr().out == ""
    found = documents.fetch(api, "result")
    assert found is not None
    assert json.loads(found)["data"]["name"] == "a10"
