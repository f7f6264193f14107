"""The checks: each looks at a survey and yields what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from accelerators.hazards import Hazard
from accelerators.units import format_bytes
from kvpool.aibrix import BlockSpace
from kvpool.doctor import hazards
from kvpool.doctor.census import Census, Hashes, Space
from kvpool.doctor.finding import Finding, Sample
from kvpool.doctor.placement_checks import (
    address_findings,
    node_findings,
    owner_findings,
    slot_findings,
)
from kvpool.doctor.survey import Need, Survey, Tails
from kvpool.entry import PoolFacts

_DEFAULT_NAMESPACE = "aibrix"
"""Of AIBRIX_KV_CACHE_OL_L2_CACHE_NAMESPACE in aibrix-kvcache 0.8.0."""
_FULL_SHARE = 0.98
_FEW_INODES = 1000


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        hazards: what it may find.
        needs: what it must know; without it, it does not run.
        run: yields findings.
    """

    hazards: tuple[Hazard, ...]
    needs: tuple[Need, ...]
    run: Callable[[Survey], Iterator[Finding]]


def _sampled(hazard: Hazard, sample: Callable[[Census], Sample], *needs: Need) -> Check:
    """Return the check for a hazard that single entries show, which the census has counted."""

    def run(survey: Survey) -> Iterator[Finding]:
        return sample(_census(survey)).finding(hazard)

    return Check((hazard,), needs, run)


def _census(survey: Survey) -> Census:
    assert survey.census is not None
    return survey.census


def _shapes(survey: Survey) -> Iterator[Finding]:
    lines = []
    mixed = Sample()
    for (model, world, rank, dtype, layer), shapes in _census(survey).shapes.items():
        if len(shapes) < 2:
            continue
        where = f"{model} rank {rank}/{world} {dtype}" + (
            "" if layer is None else f" layer {layer}"
        )
        for (layout, dims), sample in shapes.items():
            text = "; ".join(
                "[" + ", ".join("tokens" if d is None else str(d) for d in group) + "]"
                for group in dims
            )
            lines.append(f"{where}: {sample.count:,} of {layout} {text}, as {sample.examples[0]}")
            mixed.count += sample.count
            mixed.bytes += sample.bytes
    if lines:
        yield _listed(hazards.SHAPES, lines, mixed.count, mixed.bytes)


def _hashes(survey: Survey) -> Iterator[Finding]:
    def is_mixed(found: Hashes) -> bool:
        return bool(found.negative.count and found.beyond_signed.count)

    lines = [
        f"{model}: {found.negative.count:,} keys only the builtin hash makes, as "
        f"{found.negative.examples[0]}; {found.beyond_signed.count:,} only sha256_cbor, as "
        f"{found.beyond_signed.examples[0]}"
        for model, found in _census(survey).hashes.items()
        if is_mixed(found)
    ]
    if lines:
        yield _listed(hazards.HASH, lines, len(lines))


def _shared_spaces(survey: Survey) -> Iterator[Finding]:
    lines = []
    count = 0
    for name, space in _census(survey).spaces.items():
        told = _told_apart(space, survey.tails.get(name, ()))
        if told:
            lines.append(f"{name}: {told}")
            count += sum(space.sizes.values())
    if lines:
        yield _listed(hazards.SHARED_SPACE, lines, count)


def _told_apart(space: Space, tails: Tails) -> str:
    """Return the different lengths of a space's blocks; empty where they are all alike."""
    if space.space.has_tokens:
        sizes = sorted({tail.block_bytes for _, tail in tails if tail is not None})
        return " and ".join(f"{size:,} bytes" for size in sizes) if len(sizes) > 1 else ""
    if len(space.sizes) < 2:
        return ""
    common = space.sizes.most_common(4)
    return ", ".join(f"{count:,} of {size:,} bytes" for size, count in common)


def _missing_tokens(survey: Survey) -> Iterator[Finding]:
    sample = Sample()
    for tails in survey.tails.values():
        for entry, tail in tails:
            if tail is None:
                sample.add(entry)
    yield from sample.finding(hazards.TOKENS)


def _namespaces(survey: Survey) -> Iterator[Finding]:
    def is_default(space: BlockSpace) -> bool:
        return space.namespace == _DEFAULT_NAMESPACE

    names = [name for name, found in _census(survey).spaces.items() if is_default(found.space)]
    if names:
        yield _listed(hazards.NAMESPACE, names, len(names))


def _expiry(survey: Survey) -> Iterator[Finding]:
    census = _census(survey)
    if census.expiring and census.lasting.count:
        lines = (f"{census.expiring:,} entries expire, these do not:", *census.lasting.lines())
        yield Finding(hazards.NO_EXPIRY, lines, census.lasting.count, census.lasting.bytes)


def _memory(survey: Survey) -> Iterator[Finding]:
    facts, lasting = survey.facts, _census(survey).lasting
    if not lasting.count:
        return
    if facts.capacity_bytes is None:
        text = f"maxmemory is 0; {format_bytes(facts.used_bytes or 0)} used"
        yield Finding(hazards.UNBOUNDED, (text,), lasting.count, lasting.bytes)
    elif not facts.eviction or facts.eviction.startswith("volatile"):
        text = (
            f"maxmemory-policy is {facts.eviction or 'noeviction'}, maxmemory "
            f"{format_bytes(facts.capacity_bytes)}; {lasting.count:,} entries have no expiry"
        )
        yield Finding(hazards.NEVER_EVICTS, (text,), lasting.count, lasting.bytes)


def _room(survey: Survey) -> Iterator[Finding]:
    facts = survey.facts
    line = _fullness(facts)
    if line:
        yield Finding(hazards.FULL, (line,), 1)
    if not facts.writable:
        yield Finding(hazards.READ_ONLY, (facts.backend,), 1)


def _fullness(facts: PoolFacts) -> str:
    if facts.capacity_bytes and facts.used_bytes is not None and not facts.eviction:
        share = facts.used_bytes / facts.capacity_bytes
        if share >= _FULL_SHARE:
            of = format_bytes(facts.capacity_bytes)
            return f"{format_bytes(facts.used_bytes)} of {of} used ({share:.1%})"
    inodes = facts.details.get("free_inodes")
    # Some file systems make inodes as they need them, and report none.
    if inodes and inodes < _FEW_INODES:
        return f"{inodes:,} files can still be made"
    return ""


def _drain(survey: Survey) -> Iterator[Finding]:
    stalled = survey.stalled
    if stalled is None:
        return
    job = stalled.job
    lines = [
        f"job {job.id} of {', '.join(job.segments)}: {job.moved:,} objects moved, {job.blocked:,} "
        f"blocked, {job.active:,} active; nothing changed for {stalled.still_s:.0f} s"
    ]
    lines += [f"{b.key} on {b.node}: {b.why}" for b in stalled.blockers.examples]
    yield _listed(hazards.STALLED_DRAIN, lines, max(1, job.blocked))


def _slots(survey: Survey) -> Iterator[Finding]:
    return slot_findings(survey.facts.nodes, survey.facts.total_slots or 0)


def _listed(hazard: Hazard, lines: list[str], count: int, size: int | None = None) -> Finding:
    shown = lines[:8]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown):,} more")
    return Finding(hazard, tuple(shown), count, size)


CHECKS: tuple[Check, ...] = (
    _sampled(hazards.HALF_DATA, lambda c: c.half_data, "halves"),
    _sampled(hazards.HALF_HEADER, lambda c: c.half_header, "halves"),
    _sampled(hazards.TEMPORARY, lambda c: c.temporary, "files"),
    _sampled(hazards.UNDECODABLE, lambda c: c.undecodable, "decodable"),
    _sampled(hazards.INCOMPLETE, lambda c: c.incomplete, "objects"),
    _sampled(hazards.FOREIGN, lambda c: c.foreign, "entries"),
    _sampled(hazards.TRUNCATED, lambda c: c.truncated, "lengths"),
    _sampled(hazards.LENGTH, lambda c: c.length, "headers"),
    _sampled(hazards.DTYPE, lambda c: c.dtype, "headers"),
    Check((hazards.SHAPES,), ("headers",), _shapes),
    Check((hazards.HASH,), ("chunks",), _hashes),
    Check((hazards.SHARED_SPACE,), ("blocks",), _shared_spaces),
    Check((hazards.TOKENS,), ("blocks",), _missing_tokens),
    Check((hazards.NAMESPACE,), ("blocks",), _namespaces),
    Check((hazards.NO_EXPIRY,), ("expiry",), _expiry),
    Check((hazards.UNBOUNDED, hazards.NEVER_EVICTS), ("server", "expiry"), _memory),
    Check((hazards.FULL, hazards.READ_ONLY), ("facts",), _room),
    Check(
        (
            hazards.SLOTS_MISSING,
            hazards.SLOTS_TWICE,
            hazards.SLOTS_OUTSIDE,
            hazards.WRAPPED,
        ),
        ("slots",),
        _slots,
    ),
    Check(
        (hazards.NO_NODES, hazards.IDLE_NODE, hazards.SAME_ADDRESS),
        ("slots",),
        lambda survey: node_findings(survey.facts.nodes),
    ),
    Check((hazards.TWO_POOLS,), ("slots",), lambda survey: owner_findings(survey.snapshots)),
    Check((hazards.STALE_ADDRESS,), ("addresses",), lambda survey: address_findings(survey.probes)),
    Check((hazards.STALLED_DRAIN,), ("drains",), _drain),
)
