"""Memory: ECC errors, row remapping, retired pages, and who holds what is in use."""

from collections.abc import Iterator
from typing import Any

from diagnose.checks import Check, Context, Sign
from diagnose.facts import DeviceFacts
from diagnose.findings import Severity

CORRECTED_STORM = 1000  # errors since the driver was loaded; own limit
CORRECTED_PER_MIN = 100  # own limit, when watching
UNACCOUNTED_BYTES = 2**30  # own limit
# Limits of DCGM's health watch, which follow NVIDIA's field diagnostic.
_PAGES_DBE_MANY = 15
_PAGES_MOST = 63


def uncorrected(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield uncorrectable errors, those of DRAM apart from those of the memories in the chip."""
    volatile = _by_place(gpu, "volatile")
    aggregate = _by_place(gpu, "aggregate")
    passed_threshold = bool(gpu.get("sram_threshold_exceeded"))
    evidence = {
        "volatile_uncorrected_errors": volatile["total"],
        "aggregate_uncorrected_errors": aggregate["total"],
    }
    if volatile["dram"]:
        yield Sign("NV-ECC-UNCORRECTABLE", evidence | {"volatile_dram_errors": volatile["dram"]})
    if volatile["chip"] or passed_threshold:
        sram = {
            "volatile_sram_errors": volatile["chip"],
            "aggregate_sram_errors": aggregate["chip"],
            "sram_threshold_exceeded": passed_threshold,
        }
        yield Sign("NV-ECC-SRAM", evidence | sram)
    if aggregate["total"] and not volatile["total"]:
        yield Sign("NV-ECC-UNCORRECTABLE-AGGREGATE", evidence)


def _by_place(gpu: DeviceFacts, counter: str) -> dict[str, int]:
    """Return the uncorrected errors in DRAM, in the chip's own memories, and in total.

    Where the driver gives only a total, it counts as DRAM, of which there is most.
    """
    prefix = f"ecc_uncorrected_{counter}_"
    dram, sram = gpu.get(prefix + "dram"), gpu.get(prefix + "sram")
    total = max(gpu.get(prefix + "total") or 0, (dram or 0) + (sram or 0))
    if dram is None:
        chip = sram or 0
        return {"dram": total - chip, "chip": chip, "total": total}
    return {"dram": dram, "chip": total - dram, "total": total}


def corrected(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield correctable errors that are many, or come fast."""
    name = "ecc_corrected_volatile_total"
    count = gpu.get(name) or 0
    rate = rate_per_min(gpu, name, context)
    if count >= CORRECTED_STORM or (rate is not None and rate >= CORRECTED_PER_MIN):
        yield Sign(
            "NV-ECC-CORRECTABLE", {"volatile_corrected_errors": count, "errors_per_min": rate}
        )


def rate_per_min(gpu: DeviceFacts, name: str, context: Context) -> float | None:
    """Return how fast a counter grew since an earlier round; None without one, or at a reset.

    Growth in less than a minute counts as that minute's: a single error is no storm.
    """
    if context.previous is None or not context.interval_s:
        return None
    before = next((d for d in context.previous.devices if d.device == gpu.device), None)
    if before is None or not before.has(name) or not gpu.has(name):
        return None
    growth: float = gpu.get(name) - before.get(name)
    return round(growth * 60 / max(context.interval_s, 60.0), 3) if growth >= 0 else None


def remapping(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield what the row remapper waits for, failed at, or has run out of."""
    evidence = {
        name: gpu.get(name) for name in ("remapped_rows_correctable", "remapped_rows_uncorrectable")
    }
    if gpu.get("remap_failure"):
        yield Sign("NV-ROW-REMAP-FAILURE", evidence)
    if gpu.get("remap_pending"):
        yield Sign("NV-ROW-REMAP-PENDING", evidence)
    if (gpu.get("remap_banks_none") or 0) > 0:
        banks = {"banks_without_spare_row": gpu.get("remap_banks_none")}
        yield Sign("NV-ROW-REMAP-EXHAUSTED", evidence | banks)


def pages(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield retired pages, graded by the limits from which on a card is to be returned."""
    single, double = gpu.get("retired_pages_sbe") or 0, gpu.get("retired_pages_dbe") or 0
    evidence = {"retired_pages_sbe": single, "retired_pages_dbe": double}
    worn: Severity | None = "fatal" if single + double >= _PAGES_MOST else None
    if single:
        yield Sign("NV-RETIRED-PAGES-SBE", evidence, severity=worn)
    if double:
        many: Severity | None = "degraded" if double > _PAGES_DBE_MANY else None
        yield Sign("NV-RETIRED-PAGES-DBE", evidence, severity=worn or many)
    if gpu.get("retired_pages_pending"):
        yield Sign("NV-RETIRED-PAGES-PENDING", evidence)


def held(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield memory in use that no process of the driver's list holds."""
    processes = _processes(gpu)
    if gpu.get("mig_mode_current") or any(each["used_bytes"] is None for each in processes):
        return  # the instances' processes, or their memory, can't be seen from here
    held_bytes = sum(each["used_bytes"] for each in processes)
    used_bytes = gpu.get("memory_used_bytes") or 0
    if used_bytes - held_bytes >= UNACCOUNTED_BYTES:
        yield Sign(
            "NV-MEMORY-LEAK",
            {
                "memory_used_bytes": used_bytes,
                "held_by_processes_bytes": held_bytes,
                "processes_hidden_by_container": context.pids is None,
            },
            severity="info" if context.pids is None else None,
        )


def zombies(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield processes of the driver's list that do not exist."""
    if context.pids is None:
        return
    for each in _processes(gpu):
        if each["pid"] not in context.pids:
            yield Sign("NV-ZOMBIE-PROCESS", {"pid": each["pid"], "held_bytes": each["used_bytes"]})


def _processes(gpu: DeviceFacts) -> list[dict[str, Any]]:
    """Return each process once, though it may compute and draw."""
    listed = (gpu.get("compute_processes") or []) + (gpu.get("graphics_processes") or [])
    return list({each["pid"]: each for each in listed}.values())


_ECC = ("ecc_uncorrected_volatile", "ecc_uncorrected_aggregate")

CHECKS = (
    Check(
        "ecc",
        "Memory had no error that ECC could not correct.",
        (
            *(f"{counter}_{place}" for counter in _ECC for place in ("total", "dram", "sram")),
            "sram_threshold_exceeded",
        ),
        ("NV-ECC-UNCORRECTABLE", "NV-ECC-SRAM", "NV-ECC-UNCORRECTABLE-AGGREGATE"),
        of_device=uncorrected,
    ),
    Check(
        "ecc-rate",
        "ECC corrects few errors.",
        ("ecc_corrected_volatile_total",),
        ("NV-ECC-CORRECTABLE",),
        of_device=corrected,
    ),
    Check(
        "row-remap",
        "No row remapping failed or waits, and every bank has a spare row.",
        ("remap_pending", "remap_failure", "remap_banks_none"),
        ("NV-ROW-REMAP-PENDING", "NV-ROW-REMAP-FAILURE", "NV-ROW-REMAP-EXHAUSTED"),
        of_device=remapping,
    ),
    Check(
        "retired-pages",
        "No pages are retired, or wait to be (cards before Ampere).",
        ("retired_pages_sbe", "retired_pages_dbe", "retired_pages_pending"),
        ("NV-RETIRED-PAGES-SBE", "NV-RETIRED-PAGES-DBE", "NV-RETIRED-PAGES-PENDING"),
        of_device=pages,
    ),
    Check(
        "memory-use",
        "What is in use belongs to processes.",
        ("memory_used_bytes", "compute_processes", "graphics_processes"),
        ("NV-MEMORY-LEAK",),
        of_device=held,
        needs=("memory_used_bytes", "compute_processes"),
    ),
    Check(
        "processes",
        "Every process that the driver lists exists.",
        ("compute_processes", "graphics_processes"),
        ("NV-ZOMBIE-PROCESS",),
        of_device=zombies,
    ),
)
