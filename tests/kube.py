"""A real Kubernetes API server of one's own: etcd and kube-apiserver on free ports.

No controllers and no kubelets run there: tests write the statuses that those would. Any other
cluster takes its place when AIBRIXCTL_TEST_KUBECONFIG names its kubeconfig.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.access import Access, connect
from cluster.api import Api
from cluster.errors import ClusterError
from cluster.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CRD,
    NAMESPACE,
    SERVICE_ACCOUNT,
    Kind,
)
from cluster.transport import Deed, Limits

OTHER = "AIBRIXCTL_TEST_KUBECONFIG"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aibrixctl/kube/bin"
CRDS = Path(__file__).parents[2] / "shared/data/aibrix-crds"
PATIENT = Limits(first_s=60.0)


def binaries() -> Path | None:
    """Return the folder with etcd and kube-apiserver; None when there is none."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    on_path = shutil.which("kube-apiserver")
    folders = [*([Path(named)] if named else []), CACHE]
    folders += [Path(on_path).parent] if on_path else []
    wanted = ("etcd", "kube-apiserver")
    return next((f for f in folders if all((f / name).exists() for name in wanted)), None)


@dataclass
class Server:
    """An API server, and the ways into it.

    Attributes:
        kubeconfig: of its administrator.
        own: whether it is ours to stop and start.
        data: folder of etcd.
    """

    kubeconfig: Path
    folder: Path
    own: bool = True
    commands: list[list[str]] = field(default_factory=list)
    running: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    data: str = ""

    @property
    def access(self) -> Access:
        return Access(str(self.kubeconfig))

    def start(self) -> None:
        """Start what is not running, and wait until it answers."""
        for command in self.commands[len(self.running) :]:
            with (self.folder / f"{Path(command[0]).name}.log").open("ab") as log:
                self.running.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )
        while self.commands and not (self.folder / "certs/apiserver.crt").exists():
            assert all(process.poll() is None for process in self.running), self.logs()
            time.sleep(0.05)
        deadline_s = time.monotonic() + 180
        with connect(self.access, PATIENT) as api:
            while True:
                assert time.monotonic() < deadline_s, self.logs()
                assert all(process.poll() is None for process in self.running), self.logs()
                try:
                    api.transport.request(Deed("get", "readyz"), "GET", "/apis/apps/v1")
                    api.get(NAMESPACE, "default")
                    return
                except ClusterError:
                    time.sleep(0.1)

    def stop(self, *, only_api: bool = False) -> None:
        """End the API server, as a crash would, and, unless told otherwise, its etcd."""
        while len(self.running) > (1 if only_api else 0):
            process = self.running.pop()
            process.kill()
            process.wait(timeout=30)

    def restart(self) -> None:
        """Stop the API server and start it again, on the same etcd."""
        self.stop(only_api=True)
        self.start()

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))

    def account(
        self, api: Api, name: str, rules: Sequence[Mapping[str, Any]], namespace: str
    ) -> Path:
        """Return a kubeconfig of a service account with just these rules, in every namespace."""
        role = f"{namespace}-{name}"
        head = {"apiVersion": "rbac.authorization.k8s.io/v1"}
        api.apply(
            {
                "apiVersion": "v1",
                "kind": SERVICE_ACCOUNT.kind,
                "metadata": {"name": name, "namespace": namespace},
            },
            force=True,
        )
        api.apply(
            {**head, "kind": CLUSTER_ROLE.kind, "metadata": {"name": role}, "rules": list(rules)},
            force=True,
        )
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        api.apply(
            {
                **head,
                "kind": CLUSTER_ROLE_BINDING.kind,
                "metadata": {"name": role},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
                "subjects": [subject],
            },
            force=True,
        )
        return self.login(api, name, namespace)

    def login(self, api: Api, name: str, namespace: str) -> Path:
        """Return a kubeconfig of a service account that there is."""
        path = SERVICE_ACCOUNT.path(namespace, name) + "/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        deed = Deed("create", "serviceaccounts/token", namespace, name)
        answer = api.transport.request(deed, "POST", path, body=request)
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"] = [{"name": "u", "user": {"token": answer["status"]["token"]}}]
        context = config["contexts"][0]["context"]
        context |= {"user": "u", "namespace": namespace}
        file = self.folder / f"{namespace}-{name}.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return file


@contextmanager
def api_server(folder: Path, *, crds: bool = True) -> Iterator[Server]:
    """Run a server for the block, with AIBrix's resource types where they are at hand."""
    found = binaries()
    if found is None:
        pytest.skip(
            "NO KUBERNETES API SERVER: kube-apiserver and etcd are neither in KUBEBUILDER_ASSETS, "
            f"{CACHE} nor on PATH, and {OTHER} names no cluster"
        )
    server = _prepared(found, folder)
    try:
        server.start()
        if crds:
            with connect(server.access) as api:
                install_crds(api)
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.data)


def _prepared(found: Path, folder: Path) -> Server:
    """Return a server with its keys, tokens and command lines."""
    etcd, peers, port = _free_ports(3)
    shm = Path("/dev/shm")  # Waits for a disk, of which a test needs none, are most of the start.
    data = tempfile.mkdtemp(prefix="etcd-", dir=shm if os.access(shm, os.W_OK) else folder)
    key = folder / "account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    commands = [
        [
            str(found / "etcd"),
            f"--data-dir={data}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
        ],
        [
            str(found / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder}/certs",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://127.0.0.1",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            # It waits for tokens of service accounts, which a controller would write.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
        ],
    ]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(folder, port, token)))
    return Server(kubeconfig, folder, commands=commands, data=data)


def _kubeconfig(folder: Path, port: int, token: str) -> dict[str, Any]:
    # The server signs a certificate of its own when it starts.
    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority": str(folder / "certs/apiserver.crt"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "t", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "admin"}}],
        "current-context": "t",
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


def install_crds(api: Api) -> None:
    """Create AIBrix's resource types, and wait until the server serves them."""
    bodies = [
        yaml.load(path.read_text(), Loader=yaml.CSafeLoader) for path in sorted(CRDS.glob("*.yaml"))
    ]
    # All before any is waited for: each costs the server seconds, whether it is alone or not.
    for body in bodies:
        if api.find(CRD, body["metadata"]["name"]) is None:
            api.create(body)
    deadline = time.monotonic() + 60
    for spec in (body["spec"] for body in bodies):
        version = spec["versions"][0]["name"]
        kind = Kind(spec["group"], version, spec["names"]["plural"], spec["names"]["kind"])
        while time.monotonic() < deadline:
            try:
                api.page(kind)
                break
            except ClusterError:
                time.sleep(0.05)


@contextmanager
def fresh_namespace(server: Server) -> Iterator[str]:
    """Give the name of a new namespace for the block."""
    name = f"t-{secrets.token_hex(4)}"
    with connect(server.access) as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        yield name
        api.delete(NAMESPACE, name)
