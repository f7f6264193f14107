"""One diagnosis of a serving engine: probe, check, report."""

import threading
from typing import Any

from diagnose.checks import Outcome, Sign, finding
from diagnose.engine.checks import CHECK_OF, CODES, ENDING, check
from diagnose.engine.metrics import Scrape
from diagnose.engine.probe import Canary, EngineConfig, EngineFacts, probe
from diagnose.findings import Device, Report


def diagnose_engine(config: EngineConfig, stop: threading.Event | None = None) -> Report:
    """Return what is wrong with a serving engine; takes the scrapes' time, or the canary's.

    Args:
        config: which engine, and how to look at it.
        stop: set by whoever wants no further waiting; what was seen is judged.

    Raises:
        StoppedError: ``stop`` was set while an answer did not come: nothing can be judged.
    """
    facts = probe(config, stop or threading.Event())
    device = Device("engine", name=facts.url)
    outcome = Outcome()
    for item in check(facts):
        if isinstance(item, Sign):
            outcome.findings.append(finding(item, CHECK_OF[item.code], device, config.overrides))
        else:
            outcome.unchecked.append(item)
    return Report(
        devices=(device,),
        findings=tuple(outcome.findings),
        unchecked=tuple(outcome.unchecked),
        passed=_passed(outcome),
        simulated=any(scrape.simulated for scrape in facts.scrapes),
        facts={"engine": to_json(facts)},
    )


def _passed(outcome: Outcome) -> int:
    """Return how many checks gave a verdict, and a good one."""
    names = list(CODES)
    for code in ENDING:
        if any(found.code == code for found in outcome.findings):
            names = names[: names.index(CHECK_OF[code])]
            break
    found = {one.check for one in outcome.findings}
    return len(set(names) - found - {one.check for one in outcome.unchecked})


def to_json(facts: EngineFacts) -> dict[str, Any]:
    """Return what was seen, units in the names."""
    return {
        "url": facts.url,
        "model": facts.model,
        "engine": facts.scrapes[-1].engine if facts.scrapes else None,
        "health": {"status": facts.health.status, "answer": facts.health.summary},
        "scrapes": [_scrape(scrape, facts.scrapes[0].at_s) for scrape in facts.scrapes],
        "canary": None if facts.canary is None else _canary(facts.canary),
        "access_refused": list(facts.refused),
    }


def _scrape(scrape: Scrape, start_s: float) -> dict[str, Any]:
    counters = ("preemptions", "ended", "errors", "cache_queries", "cache_hits")
    return {
        "after_s": round(scrape.at_s - start_s, 3),
        "running": scrape.running,
        "waiting": scrape.waiting,
        "kv_cache_usage": scrape.kv_usage,
        "ranks": len(scrape.ranks),
        "progress": dict(scrape.progress),
        **{name: getattr(scrape, name) for name in counters},
    }


def _canary(canary: Canary) -> dict[str, Any]:
    first_s = canary.answer.first_s
    return {
        "finished": canary.finished,
        "status": canary.answer.status,
        "tokens": canary.tokens,
        "first_token_ms": None if first_s is None else round(first_s * 1e3, 1),
        "elapsed_ms": round(canary.answer.elapsed_s * 1e3, 1),
        "error": canary.error,
    }
