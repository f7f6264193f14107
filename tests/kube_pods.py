"""Plays the Job controller and a kubelet: runs the container of every Job as a local process.

The API server of ``tests.kube`` has neither. Here a Job gets its pod, the pod's own command runs
on this machine with the pod's environment and a kubeconfig in place of the account's token, and
how it ends is written into the statuses of pod and Job, as a cluster would.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.access import Access, connect
from cluster.api import Api, Object
from cluster.errors import ClusterError
from cluster.kinds import JOB, POD
from cluster.watch import follow
from tests.kube import Server

Status = Mapping[str, Any]
Rule = Callable[[Object], Status | None]
"""From a Job to the status that its pod stays in instead of running; None to run it."""
Environment = Callable[[Object], Mapping[str, str]]
"""From a Job to more variables of its pod, such as those that simulate its node's GPUs."""
_GRACE_S = 10.0


def unschedulable(message: str = "0/3 nodes are available") -> Status:
    """Return the status of a pod that no node takes."""
    trouble = {"reason": "Unschedulable", "message": message}
    condition = {"type": "PodScheduled", "status": "False", **trouble}
    return {"phase": "Pending", "conditions": [condition]}


def no_image(message: str = "image not found") -> Status:
    """Return the status of a pod whose image can't be pulled."""
    waiting = {"reason": "ImagePullBackOff", "message": message}
    container = _container({"waiting": waiting}, ready=False)
    return {"phase": "Pending", "containerStatuses": [container]}


def _container(state: Status, *, ready: bool) -> Object:
    return {
        "name": "aibrixctl",
        "image": "i",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }


@dataclass
class Pod:
    """One pod that runs.

    Attributes:
        name: of the pod; job: of its Job.
        process: its container.
        output: file with what it wrote.
        deadline_s: of the Job, from its start; infinite without one.
        began_s: ``time.monotonic`` of its start.
        told_s: ``time.monotonic`` of when it was told to end; None while it is not.
        reason: why it was ended from outside; None when it wasn't.
    """

    name: str
    job: str
    process: "subprocess.Popen[bytes]"
    output: Path
    deadline_s: float
    began_s: float = field(default_factory=time.monotonic)
    told_s: float | None = None
    reason: str | None = None


@dataclass
class Kubelet:
    """All pods of one namespace; use :func:`kubelet`.

    Attributes:
        jobs: every Job seen, by name, as it was created.
        pods: those that run, by Job.
    """

    server: Server
    namespace: str
    folder: Path
    account: Path
    rule: Rule
    environment: Environment
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    outputs: dict[str, Path] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def run(self) -> None:
        """Follow the Jobs until stopped; the API server may go away and come back meanwhile."""
        while not self.stop.is_set():
            try:
                with connect(Access(str(self.server.kubeconfig), namespace=self.namespace)) as api:
                    for event in follow(api, JOB, stop=self.stop):
                        if event is not None:
                            self._take(api, event.change, event.object)
                        self._look(api)
            except ClusterError:
                time.sleep(0.1)
            except Exception as error:  # the test that leaves the block raises it
                self.failure = error
                return

    def _take(self, api: Api, change: str, job: Object) -> None:
        name = job["metadata"]["name"]
        if change == "DELETED":
            pod = self.pods.pop(name, None)
            if pod is not None:
                pod.process.terminate()
                pod.process.wait(30)
            for left in list(api.list(POD, labels=f"job-name={name}")):
                api.delete(POD, left["metadata"]["name"])
        elif name not in self.jobs:
            self.jobs[name] = job
            self._start(api, job)
        elif name in self.pods:
            self.pods[name].deadline_s = _deadline_s(job)

    def _start(self, api: Api, job: Object) -> None:
        metadata, template = job["metadata"], job["spec"]["template"]
        pod = f"{metadata['name']}-{metadata['uid'][:5]}"
        labels = {
            **template["metadata"].get("labels", {}),
            "job-name": metadata["name"],
            "controller-uid": metadata["uid"],
        }
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
        owner |= {"name": metadata["name"], "uid": metadata["uid"]}
        body: Object = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
        body["metadata"] = {"name": pod, "namespace": self.namespace, "labels": labels}
        body["metadata"]["ownerReferences"] = [owner]
        if api.find(POD, pod) is None:
            api.create(body)
        status = self.rule(job)
        if status is not None:
            self._write(api, POD, pod, status)
            return
        self._write(
            api,
            POD,
            pod,
            {"phase": "Running", "containerStatuses": [_container({"running": {}}, ready=True)]},
        )
        self.pods[metadata["name"]] = self._launch(pod, job, body)

    def _launch(self, name: str, job: Object, pod: Object) -> Pod:
        container = pod["spec"]["containers"][0]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.account),
            **self.environment(job),
        }
        for variable in container.get("env", []):
            value = variable.get("value", "")
            if "valueFrom" in variable:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                value = _field(pod, path)
            environment[variable["name"]] = value
        program, *words = [*container["command"], *container.get("args", [])]
        start = [sys.executable, "-P", "-m", "aibrixctl"] if program == "aibrixctl" else [program]
        output = self.outputs[job["metadata"]["name"]] = self.folder / f"{name}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*start, *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        return Pod(name, job["metadata"]["name"], process, output, _deadline_s(job))

    def _look(self, api: Api) -> None:
        """Write down which pods have ended; end those that are past their deadline."""
        for job, pod in list(self.pods.items()):
            if pod.process.poll() is None:
                now_s = time.monotonic()
                if pod.told_s is None and now_s > pod.began_s + pod.deadline_s:
                    self.end(job, "DeadlineExceeded", signum=signal.SIGTERM)
                elif pod.told_s is not None and now_s > pod.told_s + _GRACE_S:
                    pod.process.kill()
                continue
            code = pod.process.returncode
            self._write_end(api, pod, 128 - code if code < 0 else code)
            del self.pods[job]

    def end(self, job: str, reason: str = "Evicted", *, signum: int = signal.SIGKILL) -> None:
        """End a pod as a node would that evicts it."""
        pod = self.pods[job]
        pod.reason, pod.told_s = reason, time.monotonic()
        pod.process.send_signal(signum)

    def _write_end(self, api: Api, pod: Pod, code: int) -> None:
        said = pod.output.read_text(errors="replace")[-2000:] if code else ""
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": said}
        status: Object = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [_container({"terminated": ended}, ready=False)],
        }
        if pod.reason:
            status |= {"reason": pod.reason, "message": "the node was low on resource: memory"}
        with suppress(ClusterError):  # deleted meanwhile
            self._write(api, POD, pod.name, status)
        reason = pod.reason if pod.reason == "DeadlineExceeded" else "BackoffLimitExceeded"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition: Object = {"type": "Failed" if code else "Complete", "status": "True"}
        condition |= {"lastTransitionTime": now, "lastProbeTime": now}
        condition |= {"reason": reason, "message": "Job has failed"} if code else {}
        finished = {"failed": 1} if code else {"succeeded": 1, "completionTime": now}
        with suppress(ClusterError):
            self._write(
                api, JOB, pod.job, {"conditions": [condition], "startTime": now, **finished}
            )

    def _write(self, api: Api, kind: Any, name: str, status: Status) -> None:
        api.patch(kind, name, {"status": dict(status)}, subresource="status")


def _deadline_s(job: Object) -> float:
    return float(job["spec"].get("activeDeadlineSeconds", "inf"))


def _field(pod: Object, path: str) -> str:
    """Return what the downward API gives for ``metadata.labels['x']`` or ``metadata.name``."""
    head, _, key = path.partition("['")
    found: Any = pod
    for name in head.split("."):
        found = found[name]
    return str(found[key.removesuffix("']")] if key else found)


@contextmanager
def kubelet(
    server: Server,
    namespace: str,
    folder: Path,
    *,
    account: Path | None = None,
    rule: Rule = lambda job: None,
    environment: Environment = lambda job: {},
) -> Iterator[Kubelet]:
    """Run the Jobs of a namespace for the block; all processes are gone at its end.

    Args:
        server: the API server.
        namespace: whose Jobs.
        folder: for the output of the pods.
        account: kubeconfig that the pods use; the administrator's by default.
        rule: which pods do not run, and why.
        environment: more variables for a pod, such as those that simulate its node's GPUs.
    """
    one = Kubelet(server, namespace, folder, account or server.kubeconfig, rule, environment)
    thread = threading.Thread(target=one.run, name="kubelet")
    thread.start()
    try:
        yield one
    finally:
        one.stop.set()
        thread.join(60)
        for pod in one.pods.values():
            pod.process.kill()
            pod.process.wait()
    if one.failure is not None:
        raise one.failure
