"""Documents of any size in ConfigMaps: how the result of a Job comes back.

A document is packed with gzip and split; the parts are written first, and last the head, which
states their number and the digest of the whole. So a document is there whole, or not at all.
"""

import base64
import gzip
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.api import Api, Object
from cluster.errors import ClusterError, ClusterUsageError
from cluster.kinds import CONFIG_MAP
from cluster.objects import split_name

URL = "k8s:configmap/"
"""``k8s:configmap/NAME`` or ``k8s:configmap/NAMESPACE/NAME`` in place of a file's name."""
JOB_NAME, JOB_UID = "AIBRIXCTL_JOB_NAME", "AIBRIXCTL_JOB_UID"
RUN_LABEL, RUN = "aibrixctl/run", "AIBRIXCTL_RUN"
"""Label of all that belongs to one run, and the variable that tells a pod of it."""
_PART_BYTES = 700 * 1024
"""Of packed data; as base64 it stays below the 1 MiB that an object may have."""


def store(
    api: Api,
    name: str,
    data: bytes,
    *,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    owners: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a document, replacing one of that name.

    Raises:
        ClusterError: the server refuses or fails; no document is there then, or the old one.
    """
    packed = gzip.compress(data, mtime=0)
    parts = [packed[at : at + _PART_BYTES] for at in range(0, len(packed), _PART_BYTES)]
    digest = hashlib.sha256(data).hexdigest()
    metadata: Object = {"namespace": namespace or api.namespace, "labels": dict(labels or {})}
    if owners:
        metadata["ownerReferences"] = [dict(owner) for owner in owners]
    for number, part in enumerate(parts):
        body = {"binaryData": {"part": base64.b64encode(part).decode()}}
        api.apply(_config_map(metadata, _part_name(name, digest, number), body), force=True)
    head = {"parts": str(len(parts)), "sha256": digest}
    api.apply(_config_map(metadata, name, {"data": head}), force=True)


def fetch(api: Api, name: str, namespace: str | None = None) -> bytes | None:
    """Return a document; None while it is not there.

    Raises:
        ClusterError: the server refuses or fails, or the document is damaged.
    """
    head = api.find(CONFIG_MAP, name, namespace)
    if head is None:
        return None
    try:
        digest, count = head["data"]["sha256"], int(head["data"]["parts"])
        names = [_part_name(name, digest, number) for number in range(count)]
        parts = [api.get(CONFIG_MAP, part, namespace)["binaryData"]["part"] for part in names]
        data = gzip.decompress(b"".join(base64.b64decode(part) for part in parts))
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise _damaged(name, "its digest is another")
    return data


def parse_url(url: str, option: str) -> tuple[str | None, str]:
    """Return the namespace, where one is given, and the name of the document that a URL means.

    Raises:
        ClusterUsageError: it is no ``k8s:configmap/[NAMESPACE/]NAME``; names the option.
    """
    named = split_name(url.removeprefix(URL)) if url.startswith(URL) else None
    if named is None:
        raise ClusterUsageError(
            "cluster.document_url",
            f"{option} is {url!r}; expected {URL}[NAMESPACE/]NAME",
            target=option,
        )
    return named


def deliver(url: str, data: bytes, environment: Mapping[str, str] = os.environ) -> None:
    """Write a document where a ``k8s:configmap/`` URL says, in the cluster that we reach.

    In the pod of a Job it belongs to that Job, and goes with it.

    Raises:
        ClusterError: the server refuses or fails.
    """
    from cluster.access import connect
    from cluster.transport import PATIENT

    namespace, name = parse_url(url, "--output-file")
    run = environment.get(RUN)
    with connect(limits=PATIENT) as api:
        store(
            api,
            name,
            data,
            namespace=namespace,
            labels={RUN_LABEL: run} if run else {},
            owners=owners(environment),
        )


def owners(environment: Mapping[str, str] = os.environ) -> list[Object]:
    """Return the Job that we run in, as the owner of what we make; nothing outside of one."""
    job, uid = environment.get(JOB_NAME), environment.get(JOB_UID)
    known = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid}
    return [known] if job and uid else []


def _config_map(metadata: Object, name: str, body: Object) -> Object:
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {**metadata, "name": name},
        **body,
    }


def _part_name(name: str, digest: str, number: int) -> str:
    """Return a part's name; that of another content is another, so a head has its own parts."""
    return f"{name}.{digest[:10]}.{number}"


def _damaged(name: str, why: str) -> ClusterError:
    return ClusterError(
        "cluster.document",
        f"the document in ConfigMap {name} is damaged: {why}",
        hint="run the command again",
        target=name,
    )
