"""Run the checks on the facts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from accelerators.hazards import SEVERITIES, Hazard, Unchecked
from optimizer.doctor import cluster_checks, hazards, redis_checks
from optimizer.doctor.facts import Facts, Need
from optimizer.doctor.finding import Finding, Report

_UNASKED = "no --plan was given"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        hazard: that it finds.
        run: yields a line of evidence for every place where the hazard is.
        needs: what must be known; without it, there is no verdict.
    """

    hazard: Hazard
    run: Callable[[Facts], Iterator[str]]
    needs: Need | None = None


CHECKS = (
    Check(hazards.TRACING_OFF, cluster_checks.tracing_flag, "gateway"),
    Check(hazards.TRACING_OFF, redis_checks.tracing_off, "redis"),
    Check(hazards.TRACING_STALE, redis_checks.tracing_stale, "redis"),
    Check(hazards.GATEWAYS, cluster_checks.gateways, "gateway"),
    Check(hazards.PROFILE_MISSING, redis_checks.profile_missing, "redis"),
    Check(hazards.PROFILE_BROKEN, redis_checks.profile_broken, "redis"),
    Check(hazards.PROFILE_NAME, redis_checks.profile_name, "redis"),
    Check(hazards.PROFILE_SHAPES, redis_checks.profile_shapes, "redis"),
    Check(hazards.PROFILE_SLO, redis_checks.profile_slo, "redis"),
    Check(hazards.MODEL_PREFIX, redis_checks.model_prefix, "redis"),
    Check(hazards.NAME_LABEL, cluster_checks.name_label),
    Check(hazards.PATH_IGNORED, cluster_checks.path_ignored),
    Check(hazards.METRIC_ZERO, redis_checks.metric_zero, "redis"),
    Check(hazards.MINIMUM, cluster_checks.minimum, "plan"),
    Check(hazards.AT_ZERO, cluster_checks.at_zero),
    Check(hazards.ANNOTATION, cluster_checks.annotation),
    Check(hazards.CONFLICT, cluster_checks.conflict),
    Check(hazards.TARGET, cluster_checks.target),
    Check(hazards.INVALID, cluster_checks.invalid),
    Check(hazards.AT_MAXIMUM, cluster_checks.at_maximum),
    Check(hazards.UNSCALED, cluster_checks.unscaled),
)


def examine(facts: Facts) -> Report:
    """Return what the checks find; a hazard that two checks look for is one finding."""
    evidence: dict[Hazard, list[str]] = {}
    unchecked: list[Unchecked] = []
    for check in CHECKS:
        lines = evidence.setdefault(check.hazard, [])
        if check.needs is None or facts.has(check.needs):
            lines += check.run(facts)
        else:
            reason = facts.missing.get(check.needs, _UNASKED)
            unchecked.append(Unchecked(check.hazard.code, reason, check.needs != "plan"))
    found = [Finding(hazard, tuple(lines)) for hazard, lines in evidence.items() if lines]
    worst = sorted(found, key=lambda f: -SEVERITIES.index(f.hazard.severity))
    open_codes = {check.code for check in unchecked}
    passed = [h.code for h, lines in evidence.items() if not lines and h.code not in open_codes]
    return Report(tuple(worst), tuple(passed), tuple(unchecked))
