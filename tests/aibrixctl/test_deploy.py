"""What ``deploy/`` holds is what the tool prints and what an API server takes."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aibrixctl import __version__
from aibrixctl.tree import command_of, function_of, leaves
from cluster.api import Api
from cluster.kinds import NAMESPACE, Kind
from cluster.transport import Deed
from tests.kube import binaries

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PLURALS = {"NetworkPolicy": "networkpolicies"}


def objects(folder: str) -> list[dict[str, Any]]:
    """Return the objects of a kustomization, as ``kubectl kustomize`` builds them."""
    found = binaries()
    kubectl = found / "kubectl" if found else Path("kubectl")
    if not kubectl.exists():
        pytest.skip("no kubectl beside the API server of the tests")
    built = subprocess.run(
        [str(kubectl), "kustomize", str(DEPLOY / folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [one for one in yaml.safe_load_all(built.stdout) if one]


def test_rights_are_those_that_the_tool_prints(cli: Callable[..., Any]) -> None:
    printed = cli("rbac", "print", "--for", "diagnose cluster --apply", "-n", "aibrixctl")
    assert (DEPLOY / "diagnose-cluster/rights.yaml").read_text() == printed.out


@pytest.mark.parametrize("folder", ["diagnose-cluster", "optimize-serve"])
def test_an_api_server_takes_it(folder: str, api: Api) -> None:
    for obj in objects(folder):
        version, kind = obj["apiVersion"], obj["kind"]
        if kind == "CronJob":  # The server of the tests is older than its version 1.
            version = obj["apiVersion"] = "batch/v1beta1"
        group, _, number = version.rpartition("/")
        metadata = obj["metadata"]
        namespaced = "namespace" in metadata
        if namespaced and api.find(NAMESPACE, metadata["namespace"]) is None:
            head = {"apiVersion": "v1", "kind": "Namespace"}
            api.create({**head, "metadata": {"name": metadata["namespace"]}})
        resource = Kind(group, number, PLURALS.get(kind, f"{kind.lower()}s"), kind, namespaced)
        made = api.transport.request(
            Deed("create", resource.resource),
            "POST",
            resource.path(metadata.get("namespace")),
            query={"dryRun": "All"},
            body=obj,
        )
        assert made["metadata"]["name"] == metadata["name"]


@pytest.mark.parametrize("folder", ["diagnose-cluster", "optimize-serve"])
def test_pods_run_commands_that_there_are(folder: str) -> None:
    known = dict(leaves())
    for obj in objects(folder):
        spec = obj.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        for container in template["spec"]["containers"] if template else ():
            assert container["image"] == f"aibrixctl:{__version__}"
            words = container["args"]
            path = " ".join(words[:2])
            made = command_of(path, function_of(known[path]))
            made.make_context(path, list(words[2:]), resilient_parsing=False)
            assert not [word for word in words if word != shlex.quote(word)]


def test_the_image_runs_the_tool_as_nobody() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 65534:65534" in lines
    assert 'ENTRYPOINT ["aibrixctl"]' in lines
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = {path.name for path in ROOT.iterdir()} - set(ignored)
    assert {"pyproject.toml", "setup.py", "man", "README.md", "LICENSE", "cluster"} <= copied
