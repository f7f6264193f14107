"""One load from Jobs: a pod a part, each sends its share of one schedule from inside the cluster.

The load travels to the pods in their command, and what they recorded comes back in ConfigMaps that
belong to the Jobs, so no log is parsed. All that was made is removed in the end, also when the
caller is interrupted; where the caller is killed, it goes with the Jobs.
"""

import contextlib
import json
import math
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster import documents
from cluster.api import Api
from cluster.errors import LeftBehindError
from cluster.jobs import JobSpec, Outcome, manifest, run_all
from cluster.rights import WORKER
from profiler.errors import (
    EngineUnreachableError,
    ProfilerError,
    ProfilerUsageError,
    ShardLostError,
)
from profiler.in_cluster.gate import Gate, WaitingFor
from profiler.load.config import LoadConfig, LoadRun, LostShard, check
from profiler.load.load_document import load_to_json
from profiler.load.part import Part, parts
from profiler.load.recording import Recording
from profiler.load.shard_document import from_json
from profiler.load.shards import reduce_shards
from profiler.probes import InterruptedProbeError

_MOST_S = 86_400
_LONGEST_LOAD_BYTES = 100_000
"""Below what Linux takes as one word of a command, 128 KiB."""
_BESIDE_S = 120
_TOKEN_FOLDER = "/var/run/aibrixctl/token"
# A client of 3,000 requests/s takes about a core; memory grows with what is in flight.
_RESOURCES = {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}


@dataclass(frozen=True)
class JobOptions:
    """What the pods of a load are like.

    Attributes:
        image: with this tool in it.
        service_account: that may read and write ConfigMaps of its namespace.
        start_timeout_s: within which all pods must run and be ready.
        token_secret: Secret and key of the engine's API key, such as ``engine-key/token``.
    """

    image: str
    service_account: str = WORKER
    start_timeout_s: float = 300.0
    token_secret: str | None = None


@dataclass(frozen=True)
class LoadJobs:
    """Sends loads to an engine from Jobs in its namespace."""

    api: Api
    namespace: str
    options: JobOptions

    def check(self, config: LoadConfig) -> None:
        """Have the server judge a Job of the load without making it; raises ClusterError."""
        (spec, *_) = self._specs("aibrixctl-check", config, (Part(),))
        self.api.create(manifest(spec, self.namespace), dry_run=True)

    def run(
        self,
        config: LoadConfig,
        clients: int,
        *,
        stop: threading.Event | None = None,
        waiting: WaitingFor = lambda _: None,
    ) -> LoadRun:
        """Put one load on a server from so many pods; otherwise as ``profiler.load.run_load``.

        Args:
            config: of the whole load; its URL is that within the cluster.
            clients: pods; fewer where the load is too small for so many.
            stop: when set, the pods are told to end, and what they had measured is returned.
            waiting: told what is waited for, when that changes.

        Raises:
            InterruptedProbeError: it was stopped and nothing came back; its words say why not.
            ShardLostError: a pod was gone before the load began, or none left anything.
            ProfilerError: as ``run_load``; what a pod refuses is refused.
            ClusterError: the server refuses or stays away.
        """
        check(config)
        stop = stop or threading.Event()
        shares = parts(config, clients)
        run = f"aibrixctl-load-{secrets.token_hex(4)}"
        specs = self._specs(run, config, shares)
        gate = Gate(self.api, run, self.namespace, {documents.RUN_LABEL: run})
        by_name = dict(zip((spec.name for spec in specs), shares, strict=True))
        waiting(f"{len(specs)} pods to start" if len(specs) > 1 else "a pod to start")
        collected = _Collected(config, gate, by_name, stop)
        outcomes = run_all(
            self.api,
            specs,
            namespace=self.namespace,
            parallel=len(specs),
            stop=stop,
            recall=lambda: waiting("what the pods have measured so far"),
            waiting=lambda troubles: waiting(_said(troubles, by_name)),
        )
        with contextlib.closing(outcomes):
            try:
                for outcome in outcomes:
                    collected.take(outcome)
            except LeftBehindError as error:
                collected.left_behind = f"{error.message}; {error.hint}"
        return collected.result()

    def _specs(self, run: str, config: LoadConfig, shares: tuple[Part, ...]) -> list[JobSpec]:
        where = f"{documents.URL}{self.namespace}/{run}"
        start_s = self.options.start_timeout_s
        words = ["profile", "shard", _load(config)]
        pod: dict[str, Any] = {"terminationGracePeriodSeconds": 10}
        container: dict[str, Any] = {"resources": _RESOURCES}
        if self.options.token_secret:
            secret, _, key = self.options.token_secret.partition("/")
            key = key or "token"
            source = {"secretName": secret, "items": [{"key": key, "path": "token"}]}
            pod["volumes"] = [{"name": "token", "secret": source}]
            mount = {"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True}
            container["volumeMounts"] = [mount]
            words += ["--token-file", f"{_TOKEN_FOLDER}/token"]
        gate = ["--gate", where, "--gate-timeout", f"{start_s:g}s"] if len(shares) > 1 else []
        return [
            JobSpec(
                name=f"{run}-{part.index + 1}",
                run=run,
                words=[*words, "--part", f"{part.index + 1}/{part.count}", *gate],
                image=self.options.image,
                deadline_s=math.ceil(start_s + _longest_s(config)),
                pod=pod,
                container=container,
                service_account=self.options.service_account,
            )
            for part in shares
        ]


def _load(config: LoadConfig) -> str:
    """Return the document of a load as a word of a command, in which Kubernetes expands ``$``."""
    text = json.dumps(load_to_json(config), sort_keys=True).replace("$", r"\u0024")
    if len(text.encode()) > _LONGEST_LOAD_BYTES:
        raise ProfilerUsageError(
            "load.too_long",
            f"--extra-body has {len(json.dumps(dict(config.extra_body)))} characters; expected at "
            f"most {_LONGEST_LOAD_BYTES} for a load from pods",
            target="--extra-body",
        )
    return text


def _longest_s(config: LoadConfig) -> float:
    """Return how long a load may take at most, from the first check to its last answer."""
    window_s = config.window_s
    if not math.isfinite(window_s):
        rounds = math.ceil((config.num_prompts or 1) / (config.max_concurrency or 1))
        window_s = rounds * config.timeout_s
    checks_s = config.ready_timeout_s + config.first_token_timeout_s
    return min(checks_s + config.warmup_s + window_s + config.timeout_s + _BESIDE_S, _MOST_S)


def _said(troubles: Mapping[str, str], by_name: Mapping[str, Part]) -> str:
    if not troubles:
        return "the load"
    listed = sorted((by_name[name].index, name) for name in troubles if name in by_name)
    return "; ".join(f"shard {by_name[name]} ({name}): {troubles[name]}" for _, name in listed)


@dataclass
class _Collected:
    """What the pods of a load left so far."""

    config: LoadConfig
    gate: Gate
    by_name: Mapping[str, Part]
    stop: threading.Event

    def __post_init__(self) -> None:
        self.recordings: list[Recording] = []
        self.lost: list[LostShard] = []
        self.left_behind: str | None = None

    def result(self) -> LoadRun:
        """Return what was measured; raises ``InterruptedProbeError`` where nothing was."""
        if self.stop.is_set() and not any(map(len, self.recordings)):
            reasons = [f"shard {one.part}: {one.reason}" for one in self.lost]
            raise InterruptedProbeError(*reasons, *filter(None, [self.left_behind]))
        run = reduce_shards(self.config, self.recordings, self.lost)
        if self.left_behind is None:
            return run
        notes = (*run.summary.notes, self.left_behind)
        return replace(run, summary=replace(run.summary, notes=notes))

    def take(self, outcome: Outcome) -> None:
        """Take how a pod ended; raises what it refused, and its loss before the start."""
        part, why = self.by_name[outcome.name], outcome.failure
        if outcome.document is not None:
            try:
                recording = self._recording(outcome.name, part, outcome.document)
            except ProfilerError as error:
                if not self.stop.is_set():
                    raise
                why = error.message
            else:
                if recording.complete or self.stop.is_set():
                    self.recordings.append(recording)
                    return
                # Nobody here stopped it: a node that is drained or a pod that is evicted.
                why = "its pod was told to stop before the end"
        reason = f"Job {outcome.name}: {why}"
        if self.stop.is_set() or self._begun():
            self.lost.append(LostShard(str(part), reason))
            return
        raise ShardLostError(
            "load.shard_lost",
            f"shard {part} was lost before the load began: {reason}",
            hint="see `kubectl describe` of its pod's node, and the image's name",
            target=outcome.name,
        )

    def _begun(self) -> bool:
        return len(self.by_name) > 1 and self.gate.start_unix_s() is not None

    def _recording(self, name: str, part: Part, document: bytes) -> Recording:
        envelope = json.loads(document)
        if envelope.get("data") is None:
            raise _refused(envelope)
        config, said, recording = from_json(envelope, f"the result of Job {name}")
        if said != part or load_to_json(config) != load_to_json(self.config):
            raise ProfilerError(
                "load.shard_mixed_up",
                f"Job {name} sent part {said} of another load",
                hint="run it again with an image of this version",
                target=name,
            )
        return recording


def _refused(envelope: Mapping[str, Any]) -> ProfilerError:
    """Return the error that a pod's command ended with."""
    error = (envelope.get("errors") or [{}])[0]
    kinds = {2: ProfilerUsageError, 13: EngineUnreachableError}
    kind = kinds.get(envelope.get("exit_code", 1), ProfilerError)
    if error.get("code") == "load.shard_not_ready":
        kind = ShardLostError
    return kind(
        str(error.get("code", "load.shard_failed")),
        str(error.get("message", "a shard failed and did not say why")),
        hint=str(error.get("hint", "")),
        target=error.get("target"),
    )
