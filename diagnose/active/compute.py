"""Matrix products: are they right, every time, and how fast do they come?

The matrices hold small whole numbers, so that every partial sum is exact in every order of
summation, and the one right answer is known to the bit: a single wrong element is an error of the
hardware, not of rounding. The host's own product is proved by Freivalds' check before it judges
anything (R. Freivalds, "Probabilistic machines can use less running time", 1977).
"""

import time
from dataclasses import dataclass
from typing import Any

from diagnose.active.bench import Bench

_TILE = 1024
"""Rows and columns of the product that the host computes; a device computes copies of it."""
_COPIES = 8
_SEED = 20240229
_MAGNITUDES = {"float32": 63, "float16": 4, "bfloat16": 1}
"""Largest entry per dtype: float32 sums stay below 2**24; the 16-bit results below 2**11 and 2**8,
where those types still hold every whole number."""
_EXACT = {"float32": 2**24, "float16": 2**11, "bfloat16": 2**8}
SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class HostError(Exception):
    """The host can't compute a product that proves right, so it can't judge a device."""


@dataclass(frozen=True)
class Reference:
    """Two matrices of whole numbers and their exact product, on the host."""

    left: Any
    right: Any
    product: Any


def make_reference(torch: Any, dtype: str, size: int = _TILE) -> Reference:
    """Return matrices [size, size] whose product is exact in ``dtype``, the same each time.

    Raises:
        HostError: the host's product fails its own check.
    """
    chance = torch.Generator().manual_seed(_SEED)
    top = _MAGNITUDES[dtype]

    def draw(*shape: int) -> Any:
        whole = torch.randint(-top, top + 1, shape, generator=chance, dtype=torch.int64)
        return whole.to(torch.float64)

    left, right, probe = draw(size, size), draw(size, size), draw(size, 1)
    product = left @ right
    # All three products are of whole numbers below 2**53: exact, or wrong.
    proved = torch.equal(product @ probe, left @ (right @ probe))
    if not proved or float(product.abs().max()) > _EXACT[dtype]:
        raise HostError("the host's own product failed Freivalds' check")
    return Reference(left, right, product)


def check_products(bench: Bench, dtype: str, budget_s: float) -> dict[str, Any]:
    """Multiply over and over for ``budget_s``, and count elements that are not the right number.

    Each product is compared on the device, and the last one on the host too, since a device that
    can't multiply may not compare either.
    """
    torch = bench.torch
    copies = 1 if bench.is_cpu else _COPIES
    reference = make_reference(torch, dtype)
    kind = getattr(torch, dtype)
    left = bench.put(reference.left.repeat(copies, 1), kind)
    right = bench.put(reference.right.repeat(1, copies), kind)
    tile = bench.put(reference.product, kind)
    size = tile.shape[0]
    outcome: dict[str, Any] = {"dtype": SHORT[dtype], "products": 0, "wrong_products": 0}
    outcome |= {"wrong_elements": 0, "first_wrong": None}
    until_s = time.perf_counter() + budget_s
    while True:
        result = torch.mm(left, right)
        wrong = result.view(copies, size, copies, size) != tile[None, :, None, :]
        last = time.perf_counter() >= until_s
        elements = int(wrong.sum())
        if last:
            elements = max(elements, _wrong_on_host(result, reference.product, copies))
        outcome["products"] += 1
        if elements:
            outcome["wrong_products"] += 1
            outcome["wrong_elements"] += elements
            outcome["first_wrong"] = outcome["first_wrong"] or _first(result, reference, copies)
        if last:
            return outcome


def _tiled(result: Any, copies: int) -> Any:
    size = result.shape[0] // copies
    return result.cpu().double().view(copies, size, copies, size)


def _wrong_on_host(result: Any, product: Any, copies: int) -> int:
    return int((_tiled(result, copies) != product[None, :, None, :]).sum())


def _first(result: Any, reference: Reference, copies: int) -> dict[str, Any] | None:
    """Return the first wrong element as the host sees it; None when there it is right."""
    found = _tiled(result, copies)
    places = (found != reference.product[None, :, None, :]).nonzero()
    if not len(places):
        return None
    up, row, across, column = (int(part) for part in places[0])
    size = reference.product.shape[0]
    return {
        "row": up * size + row,
        "column": across * size + column,
        "expected": float(reference.product[row, column]),
        "found": float(found[up, row, across, column]),
    }


def multiply_rate(bench: Bench, dtype: str, budget_s: float) -> dict[str, Any]:
    """Return dense operations/s of a large product of random numbers, and whether it repeats.

    Random numbers switch as many bits as real work, which power limits depend on. The same
    product on the same device is the same to the bit, so one that differs from the first is an
    error (cuBLAS promises this: "Results Reproducibility" in its documentation).
    """
    torch = bench.torch
    size = 512 if bench.is_cpu else 8192
    kind = getattr(torch, dtype)
    chance = torch.Generator(device=bench.device).manual_seed(_SEED)

    def draw() -> Any:
        return torch.randn(size, size, generator=chance, dtype=kind, device=bench.device)

    left, right, result = draw(), draw(), bench.empty(size, size, dtype=kind)
    first = torch.mm(left, right, out=result).clone()
    call_s = bench.seconds_per_call(lambda: torch.mm(left, right, out=result), budget_s)
    return {
        "dtype": SHORT[dtype],
        "flops_per_s": 2 * size**3 / call_s,
        "repeats": bool(torch.equal(first, result)),
    }
