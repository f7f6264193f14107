"""Run one probe: load on an engine at a URL, or a simulated replica in virtual time."""

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from accelerators.errors import ToolError, UnreachableError
from profiler.errors import ProfilerUsageError, ShardLostError
from profiler.run_config import ProfileConfig
from profiler.samples import LoadSummary
from profiler.senders import FromHere, Sender
from profiler.targets import Target
from profiler.verdict import ProbeOutcome, failed_probe, judge

if TYPE_CHECKING:
    from profiler.load import LoadConfig, LoadRun

_TRIES = 2
_LONE_REQUESTS = 20
# In times that a request took in the probe before.
_WARMUP, _WINDOW = 2.0, 5.0
# The last is vLLM's where the prompt leaves less room than the answer needs.
_CONTEXT_TEXTS = (
    "context length",
    "max_model_len",
    "maximum model length",
    "too long",
    "min_tokens must be less than or equal",
)


@dataclass(frozen=True)
class Measurement:
    """An outcome with the figures it was read from.

    Attributes:
        outcome: what the probe says.
        summary: the run's figures in JSON form; None without any.
        engine, engine_version: what served.
        lost: why the engine can no longer be reached; None while it can.
    """

    outcome: ProbeOutcome
    summary: dict[str, Any] | None = None
    engine: str | None = None
    engine_version: str | None = None
    lost: ToolError | None = None


class InterruptedProbeError(Exception):
    """The run was asked to stop in the middle of a probe; nothing of it counts.

    Its arguments are what a user should know of that, where there is anything.
    """


class Prober(Protocol):
    """Probes one target."""

    def check(self) -> None:
        """Find out before anything is measured whether the target can be probed.

        Raises:
            ToolError: it doesn't answer, refuses access or doesn't serve the model.
        """

    def probe(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> Measurement:
        """Run load at a rate, or one request at a time for None.

        Raises:
            InterruptedProbeError: the run is asked to stop.
            ToolError: the target can't be probed at all.
        """


def prober_of(
    target: Target,
    config: ProfileConfig,
    stop: threading.Event,
    sender: Sender | None = None,
) -> Prober:
    """Return the prober of a target.

    Args:
        target: what to probe.
        config: of the run.
        stop: ends it.
        sender: what sends loads to an engine; by default processes of this machine do.

    Raises:
        ToolError: a simulated replica is impossible, such as a model larger than its memory.
    """
    if target.kind == "sim":
        from profiler.sim_probes import SimulatedReplica

        return SimulatedReplica(target, config)
    return Engine(target, config, stop, sender)


class Engine:
    """Probes a running engine over HTTP."""

    def __init__(
        self,
        target: Target,
        config: ProfileConfig,
        stop: threading.Event,
        sender: Sender | None = None,
    ):
        """Take a target, and what sends loads to it: processes here where nothing else is given."""
        self.target = target
        self.config = config
        self.stop = stop
        self.reached = False
        self._sender = sender or FromHere(target.where)
        self._e2e_s: dict[tuple[int, int], float] = {}

    def check(self) -> None:
        """Ask the engine for its models, or the cluster for leave to measure."""
        size = self.config.input_tokens[0], self.config.output_tokens[0]
        self.reached = self._sender.check(self._load(*size, None, self.config.seed), self.stop)

    def _load(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> "LoadConfig":
        from profiler.load import LoadConfig

        options = self.config.engine
        # Requests that take long reach their steady state late.
        e2e_s = min(self._e2e_s.get((input_tokens, output_tokens), 0.0), self.config.duration_s)
        window_s = self.config.duration_s if rate is None else self.config.window_s(rate)
        return LoadConfig(
            base_url=self._sender.url,
            model=self.config.model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            request_rate=rate,
            max_concurrency=1 if rate is None else None,
            num_prompts=_LONE_REQUESTS if rate is None else None,
            duration_s=max(window_s, _WINDOW * e2e_s),
            warmup_s=0.0 if rate is None else max(self.config.warmup_s, _WARMUP * e2e_s),
            seed=seed,
            slos=self.config.slos,
            endpoint=options.endpoint,
            token=options.token,
            ca_file=options.ca_file,
            insecure=options.insecure,
            ready_timeout_s=options.ready_timeout_s,
        )

    def probe(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> Measurement:
        """Run load; an engine that was there and is gone gives an outcome, not an exception."""
        try:
            run = self._send(input_tokens, output_tokens, rate, seed)
        except ShardLostError as error:
            return Measurement(failed_probe(error.message))
        except UnreachableError as error:
            if not self.reached:
                raise
            return Measurement(failed_probe(error.message), lost=error)
        except ProfilerUsageError as error:
            refused = error.code == "load.refused" and _says_too_long(error.message)
            if not refused and error.code != "load.context_length":
                raise
            return Measurement(ProbeOutcome("miss", reasons=("context_length",)))
        self.reached = True
        if not run.complete:
            raise InterruptedProbeError
        summary = _with_context_length(run.summary, run.messages)
        outcome = judge(summary, self.config.slos, alone=rate is None)
        e2e = outcome.latency.get("e2e")
        if e2e is not None:
            self._e2e_s[input_tokens, output_tokens] = e2e.mean / 1e3
        if outcome.verdict == "error" and run.messages:
            said = "; ".join(f"{cause}: {text}" for cause, text in sorted(run.messages.items()))
            outcome = replace(outcome, reasons=(*outcome.reasons, said))
        return Measurement(outcome, summary.to_json(), run.engine, run.engine_version)

    def _send(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> "LoadRun":
        """Send a probe's load, and all of it once more where a shard was lost.

        The engine saw less load than asked for, and the missing part sent alone would see an idle
        engine: neither says anything about the rate.
        """
        reasons = []
        for _ in range(_TRIES):
            load = self._load(input_tokens, output_tokens, rate, seed)
            try:
                run = self._sender.send(load, self.config.shards, stop=self.stop)
            except ShardLostError as error:
                reasons.append(error.message)
            else:
                if not run.lost or not run.complete:
                    return run
                reasons += [f"shard {one.part} was lost: {one.reason}" for one in run.lost]
            if self.stop.is_set():
                raise InterruptedProbeError
        raise ShardLostError("profile.shard_lost", f"lost {_TRIES} times: {'; '.join(reasons)}")


def _with_context_length(summary: LoadSummary, messages: dict[str, str]) -> LoadSummary:
    """Name the cause when an engine refused every request for its length."""
    too_long = _says_too_long(messages.get("http_400", ""))
    if set(summary.by_cause) == {"http_400"} and too_long:
        return replace(summary, by_cause={"context_length": summary.failed})
    return summary


def _says_too_long(message: str) -> bool:
    return any(words in message.lower() for words in _CONTEXT_TEXTS)
