"""From what was seen of an engine to signs, the cause before its effects.

Each check is a small function. One that explains others ends the list: an engine that stands still
has a queue that grows too, and needs no second finding for it.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from diagnose.checks import Sign
from diagnose.engine.metrics import Rank, Scrape
from diagnose.engine.probe import Canary, EngineFacts
from diagnose.findings import Device, Unchecked

KV_FULL = 0.95
"""Share of the KV cache in use from which on new requests can't be admitted for long."""
PREEMPTED = (3, 0.1)
"""Preemptions between the scrapes: at least so many, and so many per request that ended."""
QUEUE_GROWTH = (8, 0.25)
"""Requests by which the queue grew from first to last scrape, never falling: at least so many, and
that share of what it was."""
ERRORS = 0.05
"""Share of requests that ended."""
CACHE_BASE, CACHE_COLLAPSE = 0.2, 0.25
"""A hit rate since the start of at least the first, of which less than the second was left."""
CACHE_TOKENS = (2000, 500)
"""Tokens looked up before and between the scrapes, below which a hit rate says nothing."""

CODES = {
    "engine-reachable": ("ENGINE-UNREACHABLE",),
    "engine-health": ("ENGINE-UNHEALTHY", "ENGINE-ASLEEP"),
    "engine-progress": ("ENGINE-WEDGED", "ENGINE-STALLED", "ENGINE-CANARY-OVERDUE"),
    "engine-errors": ("ENGINE-ERRORS",),
    "engine-restarts": ("ENGINE-RESTARTED",),
    "engine-kv-cache": ("ENGINE-PREEMPTIONS", "ENGINE-KV-PRESSURE"),
    "engine-queue": ("ENGINE-QUEUE-GROWTH",),
    "engine-prefix-cache": ("ENGINE-CACHE-COLLAPSE",),
}
"""The codes that each check can give."""
ENDING = ("ENGINE-UNREACHABLE", "ENGINE-UNHEALTHY", "ENGINE-WEDGED")
"""Codes after which the checks further down the list say nothing of their own."""
_METRIC_CHECKS = ("engine-kv-cache", "engine-queue", "engine-prefix-cache")
ABOUT = {
    "engine-reachable": "The engine takes connections.",
    "engine-health": "/health says 200, and the engine was not put to sleep.",
    "engine-progress": "Tokens come between scrapes, and a request of our own finishes.",
    "engine-errors": "Requests do not fail by the engine's fault.",
    "engine-restarts": "The engine does not start anew while it is watched.",
    "engine-kv-cache": "Requests are not preempted, and do not wait for KV cache.",
    "engine-queue": "The queue does not grow.",
    "engine-prefix-cache": "The prefix cache finds what it used to.",
}
"""Each check in a line."""
CHECK_OF = {code: check for check, codes in CODES.items() for code in codes}

Item = Sign | Unchecked


def check(facts: EngineFacts) -> list[Item]:
    """Return every sign of one engine, and what could not be judged."""
    if facts.health.trouble == "unreachable":
        return [Sign("ENGINE-UNREACHABLE", {"error": facts.health.text})]
    items = [*_restarted(facts)]
    if fatal := [*_unhealthy(facts)] or [*_wedged(facts)]:
        return [*items, *fatal]
    return [
        *items,
        *_asleep(facts),
        *_unknown(facts),
        *_errors(facts),
        *([*_stalled(facts)] or _pressure(facts) or _overdue(facts)),
        *_cache_collapse(facts),
    ]


def _pressure(facts: EngineFacts) -> list[Sign]:
    """Return the signs of too much work, each of which makes a canary wait."""
    return [*_queue_growth(facts), *([*_preemptions(facts)] or _kv_pressure(facts))]


def _device(facts: EngineFacts) -> Device:
    return Device("engine", name=facts.url)


def _unhealthy(facts: EngineFacts) -> Iterator[Sign]:
    health = facts.health
    if health.refused or health.status == 404 or health.ok:
        return
    yield Sign("ENGINE-UNHEALTHY", {"health": health.summary, **_canary_evidence(facts.canary)})


def _asleep(facts: EngineFacts) -> Iterator[Sign]:
    if facts.scrapes and facts.scrapes[-1].asleep:
        yield Sign("ENGINE-ASLEEP", {"awake": False})


def _restarted(facts: EngineFacts) -> Iterator[Sign]:
    kept = len(facts.comparable)
    if kept < len(facts.scrapes):
        yield Sign("ENGINE-RESTARTED", {"scrapes": len(facts.scrapes), "scrapes_since": kept})


def _seconds(scrapes: tuple[Scrape, ...]) -> float:
    return round(scrapes[-1].at_s - scrapes[0].at_s, 3)


def _still(scrapes: tuple[Scrape, ...]) -> bool:
    """Tell whether the model computed nothing at all between the scrapes."""
    first, last = scrapes[0].progress, scrapes[-1].progress
    return bool(first) and all(last.get(name) == value for name, value in first.items())


def _work(*scrapes: Scrape) -> dict[str, Any]:
    """Return the most work there was in any of the scrapes."""
    return {
        "running": round(max(scrape.running for scrape in scrapes)),
        "waiting": round(max(scrape.waiting for scrape in scrapes)),
    }


def _wedged(facts: EngineFacts) -> Iterator[Sign]:
    """A long prefill stops tokens too, but only so long: both signs are needed."""
    scrapes, canary = facts.comparable, facts.canary
    if canary is None or not canary.overdue or canary.tokens or len(scrapes) < 2:
        return
    if _still(scrapes):
        yield Sign(
            "ENGINE-WEDGED",
            {
                "health": facts.health.summary,
                **_work(*scrapes),
                "kv_cache_usage": scrapes[-1].kv_usage,
                "tokens_between_scrapes": 0,
                "scrapes_apart_s": _seconds(scrapes),
                **_canary_evidence(canary),
            },
        )


def _canary_evidence(canary: Canary | None) -> dict[str, Any]:
    if canary is None:
        return {}
    answer = canary.answer
    return {
        "canary": "finished" if canary.finished else canary.error or answer.summary,
        "canary_tokens": canary.tokens,
        "canary_s": round(answer.elapsed_s, 3),
    }


def _stalled(facts: EngineFacts) -> Iterator[Sign]:
    """Work without progress where no canary can tell more, or in one of several ranks."""
    scrapes = facts.comparable
    if len(scrapes) < 2:
        return
    apart = {"scrapes_apart_s": _seconds(scrapes)}
    if facts.canary is None and _still(scrapes) and all(s.running for s in scrapes):
        yield Sign("ENGINE-STALLED", {**_work(scrapes[-1]), **apart})
        return
    last = {rank.name: rank for rank in scrapes[-1].ranks}
    for rank in scrapes[0].ranks if len(last) > 1 else ():
        if _rank_still(rank, last.get(rank.name)) and not _still(scrapes):
            work = {"running": round(rank.running), "waiting": round(rank.waiting)}
            yield Sign("ENGINE-STALLED", {"rank": rank.name, **work, **apart})


def _rank_still(before: Rank, after: Rank | None) -> bool:
    if after is None or not before.progress or not (before.running and after.running):
        return False
    return before.progress == after.progress


def _overdue(facts: EngineFacts) -> Iterator[Sign]:
    canary = facts.canary
    if canary is not None and canary.overdue:
        work = _work(facts.scrapes[-1]) if facts.scrapes else {}
        yield Sign("ENGINE-CANARY-OVERDUE", {**work, **_canary_evidence(canary)})


def _errors(facts: EngineFacts) -> Iterator[Sign]:
    scrapes, canary = facts.comparable, facts.canary
    evidence: dict[str, Any] = {}
    errors, ended = _risen(scrapes, "errors"), _risen(scrapes, "ended")
    if errors and errors >= ERRORS * max(ended or 0.0, errors):
        evidence = {"errors": round(errors), "ended": round(max(ended or 0.0, errors))}
    if canary is not None and canary.failed:
        evidence |= {"canary_status": canary.answer.status, **_canary_evidence(canary)}
    if evidence:
        yield Sign("ENGINE-ERRORS", evidence)


def _risen(scrapes: tuple[Scrape, ...], name: str) -> float | None:
    """Return by how much a counter rose from the first scrape to the last."""
    if len(scrapes) < 2:
        return None
    first, last = getattr(scrapes[0], name), getattr(scrapes[-1], name)
    if last is None:
        return None
    return max(0.0, float(last) - float(first or 0.0))


def _preemptions(facts: EngineFacts) -> Iterator[Sign]:
    scrapes = facts.comparable
    risen, ended = _risen(scrapes, "preemptions"), _risen(scrapes, "ended") or 0.0
    least, share = PREEMPTED
    if risen is not None and risen >= max(least, share * ended):
        yield Sign(
            "ENGINE-PREEMPTIONS",
            {
                "preemptions": round(risen),
                "ended": round(ended),
                "scrapes_apart_s": _seconds(scrapes),
                "kv_cache_usage": scrapes[-1].kv_usage,
                **_work(scrapes[-1]),
            },
        )


def _kv_pressure(facts: EngineFacts) -> Iterator[Sign]:
    scrapes = facts.comparable
    if len(scrapes) > 1 and all(_full(scrape) for scrape in scrapes):
        yield Sign(
            "ENGINE-KV-PRESSURE", {"kv_cache_usage": scrapes[-1].kv_usage, **_work(scrapes[-1])}
        )


def _full(scrape: Scrape) -> bool:
    """Tell whether requests wait in a rank whose cache is full."""
    return any((r.kv_usage or 0.0) >= KV_FULL and r.waiting > 0 for r in scrape.ranks)


def _queue_growth(facts: EngineFacts) -> Iterator[Sign]:
    scrapes = facts.comparable
    if len(scrapes) < 2:
        return
    queue = [scrape.waiting for scrape in scrapes]
    grown = queue[-1] - queue[0]
    least, share = QUEUE_GROWTH
    rising = all(before <= after for before, after in itertools.pairwise(queue))
    if rising and grown >= max(least, share * queue[0]):
        yield Sign(
            "ENGINE-QUEUE-GROWTH",
            {
                "waiting": [round(waiting) for waiting in queue],
                "running": round(scrapes[-1].running),
                "scrapes_apart_s": _seconds(scrapes),
                **_canary_evidence(facts.canary),
            },
        )


def _cache_collapse(facts: EngineFacts) -> Iterator[Sign]:
    scrapes = facts.comparable
    queries, hits = _risen(scrapes, "cache_queries"), _risen(scrapes, "cache_hits")
    if queries is None or hits is None or queries < CACHE_TOKENS[1]:
        return
    looked_up, found = scrapes[0].cache_queries or 0.0, scrapes[0].cache_hits or 0.0
    if looked_up < CACHE_TOKENS[0]:
        return
    before, now = found / looked_up, hits / queries
    if before >= CACHE_BASE and now < CACHE_COLLAPSE * before:
        yield Sign(
            "ENGINE-CACHE-COLLAPSE",
            {
                "hit_rate_before": round(before, 4),
                "hit_rate_now": round(now, 4),
                "tokens_looked_up": round(queries),
            },
        )


def _unknown(facts: EngineFacts) -> Iterator[Unchecked]:
    """Yield what gave no verdict, and why."""
    device = _device(facts)

    def unchecked(check: str, reason: str, *, skipped: bool = False) -> Unchecked:
        return Unchecked(check, device, reason, skipped)

    if facts.health.refused or facts.health.status == 404:
        yield unchecked("engine-health", f"/health: {facts.health.summary}")
    if len(facts.comparable) < 2:
        hint = "; SGLang needs --enable-metrics" if "404" in (facts.unscraped or "") else ""
        reason = facts.unscraped or "the engine starts anew between any two scrapes"
        for name in _METRIC_CHECKS:
            yield unchecked(name, f"{reason}{hint}")
    canary = facts.canary
    if canary is None:
        by_choice = facts.no_canary in ("not asked for", "the engine was put to sleep")
        yield unchecked("engine-progress", f"no canary: {facts.no_canary}", skipped=by_choice)
    elif not (canary.finished or canary.overdue or canary.failed):
        yield unchecked("engine-progress", f"the canary was refused: {canary.error}")
