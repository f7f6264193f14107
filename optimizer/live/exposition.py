"""Metrics as text: the one that AIBrix's PodAutoscaler reads, and our own for Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from optimizer.live.service import ModelLoop, Standing
from optimizer.live.traffic import Traffic

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "aibrixctl_optimizer"
Reading = Callable[[Standing], float | None]


def deployment_replicas(model: str, value: int) -> str:
    """Return AIBrix's metric of one deployment, as its own optimizer words it."""
    return (
        "# HELP vllm:deployment_replicas Number of suggested replicas.\n"
        "# TYPE vllm:deployment_replicas gauge\n"
        f"vllm:deployment_replicas{{model_name={_quoted(model)}}} {value}\n"
    )


def own_metrics(loops: Sequence[ModelLoop], now_s: float) -> str:
    """Return the metrics of the service itself; what is not known has no sample."""

    def age_s(standing: Standing) -> float | None:
        planned_s = standing.state.planned_s
        return None if planned_s is None else now_s - planned_s

    gauges: dict[str, tuple[str, Reading]] = {
        "stale": ("1 while the last plan is kept for want of data.", _stale),
        "plan_age_seconds": ("Since the demand was last planned for.", age_s),
        "plan_usd_per_hour": ("Cost of the replicas wanted.", lambda s: s.usd_per_hour),
        "served_ratio": ("Share of the demand that the plan serves.", _served),
        "request_rate": ("Requests/s over the slots that there are.", _of_traffic(_rate)),
        "slot_coverage_ratio": (
            "Share of the window's slots that there are.",
            _of_traffic(_coverage),
        ),
        "pending_requests": (
            "Not answered, in the newest slot.",
            _of_traffic(lambda traffic: traffic.pending),
        ),
        "queueing_requests": (
            "Waiting in the gateway, in the newest slot.",
            _of_traffic(lambda traffic: traffic.queueing),
        ),
    }
    standings = [loop.standing for loop in loops]
    lines = [*_family("replicas", "gauge", "Replicas wanted.", _replicas(loops))]
    for name, (about, read) in gauges.items():
        readings = ((_labels(model=s.model), read(s)) for s in standings)
        known = [(labels, value) for labels, value in readings if value is not None]
        lines += _family(name, "gauge", about, known)
    for name, (about, samples) in _totals(standings).items():
        lines += _family(name, "counter", about, samples)
    return "\n".join(lines) + "\n"


def _stale(standing: Standing) -> float:
    return int(standing.state.problem is not None or standing.state.planned_s is None)


def _served(standing: Standing) -> float | None:
    if standing.decision is None:
        return None
    return standing.decision.served * (1 - standing.seen.unserved_share)


def _of_traffic(read: Callable[[Traffic], float | None]) -> Reading:
    def of(standing: Standing) -> float | None:
        return None if standing.seen.traffic is None else read(standing.seen.traffic)

    return of


def _rate(traffic: Traffic) -> float | None:
    return traffic.request_rate if traffic.slots else None


def _coverage(traffic: Traffic) -> float:
    return traffic.coverage


Samples = Iterable[tuple[str, float]]


def _replicas(loops: Sequence[ModelLoop]) -> Iterator[tuple[str, float]]:
    for loop in loops:
        replicas = loop.standing.state.replicas or {}
        for key, target in sorted(loop.monitored().items()):
            namespace, _, name = key.partition("/")
            if target in replicas:
                labels = _labels(model=loop.model, namespace=namespace, deployment=name)
                yield labels, replicas[target]


def _totals(standings: Sequence[Standing]) -> dict[str, tuple[str, Samples]]:
    changes = [
        (_labels(model=s.model, direction=direction), s.counts.get(f"change {direction}", 0))
        for s in standings
        for direction in ("first", "up", "down")
    ]
    errors = [
        (_labels(model=s.model, code=name.removeprefix("error ")), count)
        for s in standings
        for name, count in sorted(s.counts.items())
        if name.startswith("error ")
    ]
    over = [(_labels(model=s.model), s.counts.get("over_limit", 0)) for s in standings]
    steps = [(_labels(model=s.model), s.counts.get("steps", 0)) for s in standings]
    return {
        "steps_total": ("Steps of the control loop.", steps),
        "changes_total": ("Changes of what is wanted.", changes),
        "changes_over_limit_total": ("Scale-ups beyond an hour's limit of changes.", over),
        "errors_total": ("Steps that could not read or plan.", errors),
    }


def _family(name: str, kind: str, about: str, samples: Samples) -> list[str]:
    lines = [f"{_PREFIX}_{name}{{{labels}}} {value:.10g}" for labels, value in samples]
    head = [f"# HELP {_PREFIX}_{name} {about}", f"# TYPE {_PREFIX}_{name} {kind}"]
    return [*head, *lines] if lines else []


def _labels(**labels: str) -> str:
    return ",".join(f"{name}={_quoted(value)}" for name, value in labels.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
