"""Device memory: does every cell hold what was written, and how fast is it?

Patterns: all zeros and all ones find stuck bits, the two checkerboards find neighbours that
disturb each other, and each word's own address finds cells that answer to two addresses: all
chunks are written before any is read.
"""

import time
from typing import Any

from diagnose.active.bench import Bench

_CHUNK_BYTES = 256 * 2**20
_MARGIN_BYTES = 2**30
"""Left free for the temporaries of the comparison, and for whoever else allocates meanwhile."""
_PATTERNS = {
    "zeros": 0,
    "ones": -1,
    "checkerboard": 0x5555555555555555,
    "inverse checkerboard": -0x5555555555555556,
}
ADDRESSES = "addresses"


def copy_rate(bench: Bench, budget_s: float) -> dict[str, Any]:
    """Return bytes/s of a copy within the memory, those read and those written added."""
    size = 2**26 if bench.is_cpu else 2**30
    size = min(size, max(2**20, bench.free_bytes() // 4))
    source = bench.empty(size, dtype=bench.torch.uint8).fill_(1)
    target = bench.empty(size, dtype=bench.torch.uint8)
    call_s = bench.seconds_per_call(lambda: target.copy_(source), budget_s)
    return {"bytes_per_s": 2 * size / call_s, "copied_bytes": size}


def check_patterns(
    bench: Bench, *, share: float, most_bytes: int | None, budget_s: float
) -> dict[str, Any]:
    """Write patterns to a share of the free memory, read them back, and count what differs.

    Args:
        bench: the device.
        share: of the free memory, beyond a margin.
        most_bytes: at most this many; None for no other limit.
        budget_s: rounds over all patterns go on for this long; one is always finished.
    """
    free = bench.free_bytes()
    wanted = int(max(0, free - max(_MARGIN_BYTES, free // 20)) * share)
    if most_bytes is not None:
        wanted = min(wanted, most_bytes)
    chunks = _allocate(bench, wanted)
    outcome: dict[str, Any] = {
        "tested_bytes": sum(chunk.numel() * 8 for chunk in chunks),
        "free_bytes": free,
        "rounds": 0,
        "wrong_words": 0,
        "first_wrong": None,
    }
    until_s = time.perf_counter() + budget_s
    while chunks:
        for name in (*_PATTERNS, ADDRESSES):
            _write(bench, chunks, name)
            _compare(bench, chunks, name, outcome)
        outcome["rounds"] += 1
        if time.perf_counter() >= until_s:
            break
    chunks.clear()
    bench.release()
    return outcome


def _allocate(bench: Bench, wanted: int) -> list[Any]:
    """Return chunks of 64-bit words; fewer than wanted where memory is in pieces."""
    chunks = []
    for start in range(0, wanted, _CHUNK_BYTES):
        words = min(_CHUNK_BYTES, wanted - start) // 8
        if not words:
            break
        try:
            chunks.append(bench.empty(words, dtype=bench.torch.int64))
        except bench.torch.OutOfMemoryError:
            if not chunks:
                raise
            chunks.pop()  # room for the temporaries of the comparison
            break
    return chunks


def _expected(bench: Bench, chunk: Any, number: int, name: str) -> Any:
    if name != ADDRESSES:
        return _PATTERNS[name]
    start = number * (_CHUNK_BYTES // 8)
    return bench.torch.arange(
        start, start + chunk.numel(), dtype=bench.torch.int64, device=bench.device
    )


def _write(bench: Bench, chunks: list[Any], name: str) -> None:
    for number, chunk in enumerate(chunks):
        expected = _expected(bench, chunk, number, name)
        if name == ADDRESSES:
            chunk.copy_(expected)
        else:
            chunk.fill_(expected)
    bench.sync()


def _compare(bench: Bench, chunks: list[Any], name: str, outcome: dict[str, Any]) -> None:
    for number, chunk in enumerate(chunks):
        expected = _expected(bench, chunk, number, name)
        wrong = chunk != expected
        count = int(wrong.sum())
        outcome["wrong_words"] += count
        if count and outcome["first_wrong"] is None:
            at = int(wrong.nonzero()[0])
            right = int(expected[at]) if name == ADDRESSES else int(expected)
            outcome["first_wrong"] = {
                "pattern": name,
                "offset_bytes": number * _CHUNK_BYTES + at * 8,
                "expected": _hex(right),
                "found": _hex(int(chunk[at])),
            }


def _hex(word: int) -> str:
    return f"0x{word & 0xFFFFFFFFFFFFFFFF:016x}"
