"""Find and read the gateway's slots in Redis, without ever making it wait.

Keys are ``aibrix:{model}_request_trace_{unix seconds}``. A model's name may itself contain what
follows another's, so keys are taken apart from the end.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from optimizer.errors import OptimizerError, OptimizerUsageError
from optimizer.live.slots import INTERVAL_S
from optimizer.live.traffic import Traffic, gather

if TYPE_CHECKING:
    import redis

_KEY = re.compile(r"aibrix:(.+)_request_trace_(\d{1,12})", re.DOTALL)
_BATCH = 200
_SLACK_S = 60.0


def slot_key(model: str, at_s: int) -> str:
    """Return the key of a model's slot."""
    return f"aibrix:{model}_request_trace_{at_s}"


def list_slots(client: "redis.Redis") -> dict[str, list[int]]:
    """Return the times of the slots that there are, by model."""
    found: dict[str, list[int]] = {}
    keys: Any = client.scan_iter("aibrix:*_request_trace_*", count=1000)
    for key in keys:
        match = _KEY.fullmatch(key.decode("utf-8", "replace"))
        if match:
            found.setdefault(match[1], []).append(int(match[2]))
    return {model: sorted(set(times)) for model, times in sorted(found.items())}


def choose_model(found: Iterable[str], model: str | None, source: str) -> str:
    """Return the model to read: the one asked for, or the only one.

    Raises:
        OptimizerError: there is none; says how to have the gateway write.
        OptimizerUsageError: there are several and none was named, or not the one that was.
    """
    names = sorted(found)
    if not names:
        raise OptimizerError(
            "traffic.no_traces",
            f"{source} holds no request traces",
            hint="the gateway writes them with AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=true, and they "
            "are kept for ten minutes",
            target=source,
        )
    shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    if model is None and len(names) > 1:
        raise OptimizerUsageError(
            "traffic.model",
            f"{source} holds traces of {len(names)} models: {shown}",
            hint="name one with --model",
            target=source,
        )
    if model is not None and model not in names:
        raise OptimizerUsageError(
            "traffic.model",
            f"{source} holds no request traces of {model!r}; it holds those of {shown}",
            hint="--model names it as the gateway does, by its label model.aibrix.ai/name",
            target=source,
        )
    return model or names[0]


def read_traffic(
    client: "redis.Redis", source: str, *, model: str | None = None, window_s: float | None = None
) -> Traffic:
    """Return the traffic that a Redis holds.

    Args:
        client: an open connection.
        source: how to name it.
        model: as the gateway names it; may be None where there is only one.
        window_s: the newest so many seconds; None takes all that is kept.

    Raises:
        OptimizerError, OptimizerUsageError: as ``choose_model``.
    """
    found = list_slots(client)
    chosen = choose_model(found, model, source)
    return gather(
        chosen,
        source,
        _values(client, chosen, found[chosen]),
        window_s=window_s,
        now_s=server_time_s(client),
    )


def read_recent(client: "redis.Redis", source: str, model: str, window_s: float) -> Traffic:
    """Return the newest traffic of a model whose name is known, reading its keys only.

    Slots of the last ``window_s`` seconds on Redis's clock, and a minute around for clocks that
    differ; the window then counts from the newest.
    """
    now_s = server_time_s(client)
    first = int((now_s - window_s - _SLACK_S) // INTERVAL_S) * INTERVAL_S
    times = range(first, int(now_s + _SLACK_S) + 1, INTERVAL_S)
    return gather(model, source, _values(client, model, times), window_s=window_s, now_s=now_s)


def server_time_s(client: "redis.Redis") -> float:
    """Return unix seconds on Redis's clock."""
    answer: Any = client.time()
    return float(answer[0]) + float(answer[1]) / 1e6


def _values(client: "redis.Redis", model: str, times: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    listed = list(times)
    for start in range(0, len(listed), _BATCH):
        batch = listed[start : start + _BATCH]
        answers: Any = client.mget([slot_key(model, at_s) for at_s in batch])
        yield from (
            (at_s, value) for at_s, value in zip(batch, answers, strict=True) if value is not None
        )
