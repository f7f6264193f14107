"""The pod that diagnoses one node, and what it may do there."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.jobs import JobSpec
from cluster.rights import WORKER
from diagnose.nodes.node import Node

_ASCEND = ("/usr/local/Ascend/driver", "/usr/local/dcmi")
_ASCEND_LIBRARIES = ":".join(f"{_ASCEND[0]}/lib64{part}" for part in ("", "/driver", "/common"))


@dataclass(frozen=True)
class PodOptions:
    """How the pods are made.

    Attributes:
        image: with the tool in it.
        deadline_s: for each, its wait for the image included.
        service_account: that may write ConfigMaps in the namespace.
        runtime_class: of a runtime that gives containers the driver; the default one else.
        privileged: whether they may read the kernel log and every device file.
        skip: checks to leave out.
        words: more options of ``diagnose``.
    """

    image: str
    deadline_s: int = 180
    service_account: str = WORKER
    runtime_class: str | None = None
    privileged: bool = True
    skip: Sequence[str] = ()
    words: Sequence[str] = ()


def job_for(node: Node, run: str, options: PodOptions) -> JobSpec:
    """Return the Job that diagnoses a node."""
    words = ["diagnose"]
    if len(node.families) == 1:  # so that a driver which is not there is a finding
        words += ["--accelerator", node.families[0]]
    words += options.words
    # All devices, without taking one from the scheduler; the runtime adds the driver's libraries,
    # and `diagnose` knows that the whole PCI bus is meant.
    environment = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"}
    if "ascend" in node.families:
        environment["LD_LIBRARY_PATH"] = f"{_ASCEND_LIBRARIES}:{_ASCEND[1]}"
    return JobSpec(
        name=_name(node.name, run),
        run=run,
        words=_with_skips(words, options),
        image=options.image,
        deadline_s=options.deadline_s,
        environment=environment,
        pod=_pod(node, options),
        container=_container(node, options),
        service_account=options.service_account,
    )


def _with_skips(words: Sequence[str], options: PodOptions) -> tuple[str, ...]:
    """Return the words, without the checks that need what the pod does not get."""
    skipped = [*options.skip, *([] if options.privileged else ["kernel-log"])]
    return (*words, "--skip", ",".join(skipped)) if skipped else tuple(words)


def _name(node: str, run: str) -> str:
    """Return a name that people recognise and that no two nodes share."""
    readable = re.sub("[^a-z0-9]+", "-", node.partition(".")[0])[:24].strip("-")
    return f"diagnose-{run}-{readable}-{hashlib.sha256(node.encode()).hexdigest()[:6]}"


def _pod(node: Node, options: PodOptions) -> dict[str, Any]:
    """Return the fields of the pod.

    ``nodeName`` passes the scheduler by: a node that is cordoned, full or that no scheduler
    would choose is the one to look at, and the pod takes none of its devices. The kubelet still
    evicts what does not tolerate NoExecute. ``hostPID`` is not asked for: it would serve one
    check (processes that are gone and hold memory), which is skipped with its reason instead.
    """
    spec: dict[str, Any] = {
        "nodeName": node.name,
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
    }
    if options.runtime_class:
        spec["runtimeClassName"] = options.runtime_class
    if "ascend" in node.families:
        spec["volumes"] += [
            {"name": f"ascend-{number}", "hostPath": {"path": path, "type": "Directory"}}
            for number, path in enumerate(_ASCEND)
        ]
    return spec


def _container(node: Node, options: PodOptions) -> dict[str, Any]:
    """Return the fields of the container.

    Privileged gives two things and no more is asked: the device files (/dev/nvidia*, /dev/davinci*)
    without taking a device from the scheduler, and /dev/kmsg with the right to read it. The PCI
    tree is in every container's own /sys. Nothing of the host is mounted but Ascend's libraries,
    read-only; the root file system is read-only too.
    """
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    security: dict[str, Any] = {"readOnlyRootFilesystem": True}
    if options.privileged:
        security |= {"privileged": True, "runAsUser": 0}
    else:
        security |= {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    made: dict[str, Any] = {
        "securityContext": security,
        # No requests: a full node is diagnosed as well.
        "resources": {"requests": {"cpu": "0", "memory": "0"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": mounts,
    }
    if "ascend" in node.families:
        mounts += [
            {"name": f"ascend-{number}", "mountPath": path, "readOnly": True}
            for number, path in enumerate(_ASCEND)
        ]
    return made
