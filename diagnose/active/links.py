"""The ways in and out of a device: how fast they are, and whether what arrives is what was sent."""

from typing import Any

from diagnose.active.bench import Bench

_BYTES = 256 * 2**20


def host_rates(bench: Bench, budget_s: float) -> dict[str, Any]:
    """Return bytes/s from pinned host memory to the device and back, and what was changed."""
    torch = bench.torch
    sent = _random(torch)
    if not bench.is_cpu:
        sent = sent.pin_memory()
    back = torch.empty_like(sent, pin_memory=not bench.is_cpu)
    there = bench.empty(sent.numel(), dtype=sent.dtype)
    down_s = bench.seconds_per_call(lambda: there.copy_(sent, non_blocking=True), budget_s / 2)
    up_s = bench.seconds_per_call(lambda: back.copy_(there, non_blocking=True), budget_s / 2)
    return {
        "to_device_bytes_per_s": _BYTES / down_s,
        "to_host_bytes_per_s": _BYTES / up_s,
        "wrong_words": int((back != sent).sum()),
    }


def peer_rate(source: Bench, target: Bench, budget_s: float) -> dict[str, Any]:
    """Return bytes/s from one device to another, and what was changed on the way."""
    sent = _random(source.torch)
    here = source.put(sent, sent.dtype)
    there = target.empty(sent.numel(), dtype=sent.dtype)
    # torch copies between devices on the source's stream.
    call_s = source.seconds_per_call(lambda: there.copy_(here, non_blocking=True), budget_s)
    return {"bytes_per_s": _BYTES / call_s, "wrong_words": int((there.cpu() != sent).sum())}


def _random(torch: Any) -> Any:
    """Return the same random words on the host each time."""
    chance = torch.Generator().manual_seed(1)
    lowest, highest = -(2**63), 2**63 - 1
    return torch.randint(lowest, highest, (_BYTES // 8,), generator=chance, dtype=torch.int64)
