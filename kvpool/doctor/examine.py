"""Examine a pool: run every check that its kind of pool allows."""

from collections.abc import Callable
from threading import Event

from accelerators.hazards import SEVERITIES, Unchecked
from kvpool.doctor.checks import CHECKS, Check
from kvpool.doctor.finding import Finding, Report
from kvpool.doctor.survey import Options, Survey, survey_pool
from kvpool.pool import Pool


def examine(
    pool: Pool,
    options: Options | None = None,
    *,
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Look for every hazard of ``kvpool.doctor.hazards`` that this kind of pool can show.

    Nothing is changed; of values at most two for each ``conn_id`` of AIBrix are read.

    Args:
        pool: to examine.
        options: how to look.
        stop: when set, the examination ends after its batch, and says which checks are open.
        progress: called after each batch with the number of entries seen.

    Raises:
        UnsupportedError: the pool can neither be listed nor does it name nodes.
        KvPoolError: what the pool raises.
    """
    survey = survey_pool(pool, options or Options(), stop=stop or Event(), progress=progress)
    return judge(survey)


def judge(survey: Survey) -> Report:
    """Return what the checks say of a survey."""
    findings: list[Finding] = []
    passed: list[str] = []
    unchecked: list[Unchecked] = []
    for check in CHECKS:
        reason, applies = _obstacle(check, survey)
        known = not reason
        found = list(check.run(survey)) if known or (applies and survey.census) else []
        findings += found
        silent = {hazard.code for hazard in check.hazards} - {f.hazard.code for f in found}
        codes = [hazard.code for hazard in check.hazards if hazard.code in silent]
        if known:
            passed += codes
        else:
            unchecked += [Unchecked(code, reason, applies) for code in codes]
    findings.sort(key=lambda found: -SEVERITIES.index(found.hazard.severity))
    census = survey.census
    return Report(
        tuple(findings),
        tuple(passed),
        tuple(unchecked),
        scanned=None if census is None else census.scanned,
        in_flight=0 if census is None else census.in_flight,
        complete=survey.complete,
        facts=survey.facts.to_json(),
    )


def _obstacle(check: Check, survey: Survey) -> tuple[str, bool]:
    """Return why a check can give no verdict, and whether it should have."""
    for need in check.needs:
        if not survey.applies(need):
            return "this kind of pool has no such thing", False
        if need in survey.declined:
            return survey.declined[need], False
        if need in survey.lacking:
            return survey.lacking[need], True
    return "", True
