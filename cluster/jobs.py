"""Run the tool's own commands in the cluster, as Jobs whose results come back as documents."""

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from accelerators.errors import ToolError
from cluster import documents
from cluster.api import Api, Object
from cluster.errors import (
    ClusterError,
    ClusterUnreachableError,
    ConflictError,
    ForbiddenError,
    LeftBehindError,
)
from cluster.kinds import CONFIG_MAP, EVENT, JOB, POD
from cluster.objects import conditions
from cluster.pods import trouble
from cluster.rights import WORKER
from cluster.watch import follow

MANAGED_BY = "app.kubernetes.io/managed-by"
CONTAINER = "aibrixctl"
_KEPT_S = 3600
"""How long a finished Job stays when its caller did not live to remove it."""
_LOOK_S = 2.0
_RECALL_S = 20.0
"""For pods that are recalled to end and deliver; past the grace that Kubernetes gives them."""
_RECALL_LOOK_S = 0.25


@dataclass(frozen=True)
class JobSpec:
    """One Job of one pod that runs one command of ours.

    Attributes:
        name: of the Job, and of the document that it delivers.
        run: what all Jobs of one run have in common; a label.
        words: the command, without the program's name.
        image: of the container.
        deadline_s: after which Kubernetes ends it.
        environment: more variables.
        pod: more fields of the pod's spec, such as ``nodeName`` and ``tolerations``.
        container: more fields of the container, such as ``securityContext``.
        service_account: that may create ConfigMaps there.
    """

    name: str
    run: str
    words: Sequence[str]
    image: str
    deadline_s: int
    environment: Mapping[str, str] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    service_account: str = WORKER


@dataclass(frozen=True)
class Outcome:
    """How a Job ended.

    Attributes:
        name: of the Job.
        document: what it delivered; None when it delivered nothing.
        failure: why, in words; None when there is a document.
    """

    name: str
    document: bytes | None
    failure: str | None = None


def manifest(spec: JobSpec, namespace: str) -> Object:
    """Return the Job: one try, no restart, ended at its deadline, removed some time later."""
    labels = {documents.RUN_LABEL: spec.run, MANAGED_BY: "aibrixctl"}
    values = {
        "AIBRIXCTL_OUTPUT": "json",
        "AIBRIXCTL_OUTPUT_FILE": f"{documents.URL}{namespace}/{spec.name}",
        "AIBRIXCTL_EXIT_ZERO": "1",
        documents.RUN: spec.run,
        documents.JOB_NAME: spec.name,
        **spec.environment,
    }
    environment: list[Object] = [{"name": k, "value": v} for k, v in sorted(values.items())]
    # The label that the Job controller gives every pod of a Job.
    uid = {"fieldRef": {"fieldPath": "metadata.labels['controller-uid']"}}
    environment.append({"name": documents.JOB_UID, "valueFrom": uid})
    container = {
        "name": CONTAINER,
        "image": spec.image,
        "command": ["aibrixctl", *spec.words],
        "env": environment,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **spec.container,
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": spec.service_account,
        "containers": [container],
        **spec.pod,
    }
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {"name": spec.name, "namespace": namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": spec.deadline_s,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def run_all(
    api: Api,
    specs: Sequence[JobSpec],
    *,
    namespace: str | None = None,
    parallel: int,
    stop: threading.Event | None = None,
    recall: Callable[[], None] | None = None,
    grace_s: float = 30.0,
    waiting: Callable[[Mapping[str, str]], None] = lambda _: None,
) -> Generator[Outcome, None, None]:
    """Run Jobs of one run, at most ``parallel`` at a time, and yield how each ended.

    All that was made is removed in the end, however it comes: close what is not read to its end.
    An error on the way has in its hint what could not be removed.

    Args:
        api: the cluster.
        specs: the Jobs, all of one ``run``.
        namespace: where they run.
        parallel: most Jobs at a time.
        stop: when set, no more is started or awaited.
        recall: called then, where given; the pods that run are told to end, and what they still
            deliver is yielded.
        grace_s: past a Job's deadline, after which it is given up.
        waiting: told by Job what its pod waits for (no node, no image), when that changes.

    Raises:
        LeftBehindError: all is yielded, and the Jobs can't be removed.
        ClusterError: Jobs can't be created or followed.
    """
    if stop is not None:
        api.transport.heed(stop)
    within = namespace or api.namespace
    queue, running = list(reversed(specs)), dict[str, float]()
    made: list[JobSpec] = []
    selector = f"{documents.RUN_LABEL}={specs[0].run}"
    troubles = _Troubles(api, within, selector, waiting)
    try:
        follower = follow(api, JOB, within, labels=selector, stop=stop)
        for event in follower:
            while queue and len(running) < parallel:
                spec = queue.pop()
                made.append(spec)
                _create(api, manifest(spec, within))
                running[spec.name] = time.monotonic() + spec.deadline_s + grace_s
            if event is not None and event.object["metadata"]["name"] in running:
                outcome = _outcome(api, within, event.object, event.change, troubles)
            else:
                troubles.look(running)
                outcome = _overdue(running, troubles)
            if outcome is not None:
                del running[outcome.name]
                yield outcome
            if not queue and not running:
                return
        if recall is not None:
            recall()
            yield from _recalled(api, within, selector, list(running))
    finally:
        _clean_up(api, made, within)


def _clean_up(api: Api, made: Sequence[JobSpec], namespace: str) -> None:
    """Remove the Jobs of a run; what ended it, if an error did, counts more than what is left."""
    before = sys.exception()
    if isinstance(before, ClusterUnreachableError):
        api.transport.hurry()
    try:
        remove(api, made, namespace)
    except ClusterError as error:
        selector = f"{documents.RUN_LABEL}={made[0].run}"
        way = f"`kubectl -n {namespace} delete jobs,configmaps -l {selector}` removes what is left"
        if before is None:
            raise LeftBehindError(
                "cluster.left_behind",
                f"Jobs and ConfigMaps of this run may be left: {error.message}",
                hint=way,
                target=namespace,
            ) from error
        # Who may not create or follow Jobs may not be able to remove them either.
        if isinstance(before, ToolError) and not isinstance(before, ForbiddenError):
            before.hint = f"{before.hint}; {way}" if before.hint else way


def _create(api: Api, job: Object) -> None:
    """Create a Job, also where the server goes away with the answer."""
    try:
        api.create(job)
    except ForbiddenError:
        raise
    except ClusterUnreachableError:
        metadata = job["metadata"]
        if api.find(JOB, metadata["name"], metadata["namespace"]) is None:
            with suppress(ConflictError):  # it arrived in between
                api.create(job)


def remove(api: Api, specs: Sequence[JobSpec], namespace: str) -> None:
    """Remove the Jobs of a run, and the documents that no Job owned."""
    if not specs:
        return
    for spec in specs:
        api.delete(JOB, spec.name, namespace)
    selector = f"{documents.RUN_LABEL}={specs[0].run}"
    for left in list(api.list(CONFIG_MAP, namespace, labels=selector)):
        api.delete(CONFIG_MAP, left["metadata"]["name"], namespace)


def _recalled(
    api: Api, namespace: str, selector: str, names: Sequence[str]
) -> Generator[Outcome, None, None]:
    """End Jobs by their deadline, which tells their pods; a Job deleted takes its documents along.

    A pod that does not run yet has nothing to deliver.
    """
    left = set(names)
    until_s = time.monotonic() + _RECALL_S
    try:
        for name in names:
            api.patch(JOB, name, {"spec": {"activeDeadlineSeconds": 1}}, namespace)
        while left:
            in_time = time.monotonic() < until_s
            alive = _running(api, namespace, selector) if in_time else set()
            for name in sorted(left):
                document = documents.fetch(api, name, namespace)
                if document is None and name in alive:
                    continue
                left.remove(name)
                why = None if document else "it was stopped before it had anything to deliver"
                yield Outcome(name, document, why)
            if left:
                time.sleep(_RECALL_LOOK_S)
    except ClusterError as error:
        for name in sorted(left):
            yield Outcome(name, None, f"what it had measured is lost: {error.message}")


def _running(api: Api, namespace: str, selector: str) -> set[str]:
    """Return the Jobs whose pods run."""
    return {
        pod["metadata"].get("labels", {}).get("job-name", "")
        for pod in api.list(POD, namespace, labels=selector)
        if pod.get("status", {}).get("phase") == "Running"
    }


class _Troubles:
    """What the pods of a run wait for or died of, looked up now and then.

    Attributes:
        last: the last trouble of each Job; a deadline takes its pod away, and with it the reason.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        selector: str,
        tell: Callable[[Mapping[str, str]], None],
    ):
        self._api, self._namespace, self._selector = api, namespace, selector
        self._tell = tell
        self._next_s = time.monotonic() + _LOOK_S
        self._told: dict[str, str] = {}
        self._reads_events = True
        self.last: dict[str, str] = {}

    def look(self, jobs: Iterable[str], *, now: bool = False) -> None:
        """Read the pods of the Jobs, unless that was a moment ago."""
        if not now and time.monotonic() < self._next_s:
            return
        found, seen = {}, set()
        for pod in self._api.list(POD, self._namespace, labels=self._selector):
            job = pod["metadata"].get("labels", {}).get("job-name", "")
            seen.add(job)
            if said := trouble(pod):
                found[job] = said
        if missing := set(jobs) - seen:
            found |= self._refusals(missing)
        self.last |= found
        if found != self._told:
            self._told = found
            self._tell(found)
        self._next_s = time.monotonic() + _LOOK_S

    def _refusals(self, jobs: set[str]) -> dict[str, str]:
        """Return why there is no pod of a Job: admission says so only in an Event."""
        if not self._reads_events:
            return {}
        fields = "involvedObject.kind=Job,reason=FailedCreate"
        try:
            return {
                event["involvedObject"]["name"]: f"FailedCreate: {event.get('message', '')}"
                for event in self._api.list(EVENT, self._namespace, fields=fields)
                if event["involvedObject"].get("name") in jobs
            }
        except ForbiddenError:
            self._reads_events = False
            return {}


def _outcome(
    api: Api, namespace: str, job: Object, change: str, troubles: _Troubles
) -> Outcome | None:
    """Return how a Job ended; None while it has not."""
    name = job["metadata"]["name"]
    if change == "DELETED":
        return Outcome(name, None, "the Job was deleted")
    ended = {kind: c for kind, c in conditions(job).items() if c.get("status") == "True"}
    if not ended.keys() & {"Complete", "Failed"}:
        return None
    document = documents.fetch(api, name, namespace)
    if document is not None:
        return Outcome(name, document)
    troubles.look([name], now=True)
    failed = ended.get("Failed", {})
    why = troubles.last.get(name) or f"{failed.get('reason', '')}: {failed.get('message', '')}"
    return Outcome(name, None, why if failed else "it completed, but delivered no document")


def _overdue(running: Mapping[str, float], troubles: _Troubles) -> Outcome | None:
    for name, until_s in running.items():
        if time.monotonic() > until_s:
            why = troubles.last.get(name, "no pod of it reported")
            return Outcome(name, None, f"no answer by the deadline ({why})")
    return None
