"""The child's side: import torch, find devices, run the tests on one, tell what was measured.

    python -m diagnose.active.child FD list DEVICE
    python -m diagnose.active.child FD test DEVICE INDEX LEVEL BESIDE_OTHERS
    python -m diagnose.active.child FD peers DEVICE INDICES LEVEL

Messages are JSON objects: ``{"devices": […]}``, ``{"no_torch": why}``; of a device ``{"seen": …}``
and ``{"busy": why}``; of each test ``{"testing": name}``, then ``{"measured": name, …}`` or
``{"failed": name, "kind", "text"}``; ``{"done": true}`` at the end.
Nothing here has a deadline: the parent ends the process.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from diagnose.active import compute, links, memory, others
from diagnose.active.bench import Bench

Tell = Callable[[dict[str, Any]], None]
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Plan:
    """How long each test of a level goes on, and how much memory it takes."""

    product_s: float
    rate_s: float
    copy_s: float
    pattern_s: float
    pattern_share: float
    pattern_most_bytes: int | None
    host_s: float
    peer_s: float


PLANS = {
    "quick": Plan(0.6, 0.8, 0.4, 0.0, 0.25, 4 * 2**30, 0.6, 0.1),
    "full": Plan(15.0, 10.0, 4.0, 35.0, 1.0, None, 4.0, 0.3),
}
_OF_DRIVER = re.compile(r"\b(CUDA|CUBLAS|CUDNN|HIP|NPU|ACL)[ _]", re.IGNORECASE)
"""In the text of an error: what versions of torch without AcceleratorError say."""
_CPU_MOST_BYTES = 2**27
_CPU_SHARE_OF_TIME = 0.2
"""On a CPU there is nothing to wear in, and other work to leave room for."""


def main() -> None:
    """Do what the command line says."""
    pipe = Connection(int(sys.argv[1]))
    what, kind, *words = sys.argv[2:]

    def tell(message: dict[str, Any]) -> None:
        pipe.send_bytes(json.dumps(message).encode())

    try:
        torch, kind = load_torch(kind)
    except NoTorchError as missing:
        tell({"no_torch": str(missing)})
        return
    if what == "list":
        tell({"devices": list(describe(torch, kind))})
    elif what == "test":
        index, level, beside_others = words
        test_device(torch, kind, int(index), PLANS[level], beside_others == "1", tell)
    else:
        indices, level = words
        test_peers(torch, kind, [int(index) for index in indices.split(",")], PLANS[level], tell)
    tell({"done": True})


class NoTorchError(Exception):
    """There is no torch that can do what is asked."""


def load_torch(kind: str) -> tuple[Any, str]:
    """Return torch and the kind of its devices; ``auto`` takes an accelerator only.

    Raises:
        NoTorchError: torch is not installed, broken, or sees no such device.
    """
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise NoTorchError(f"torch can't be imported: {error}") from error
    if kind == "cpu":
        return torch, kind
    if kind != "cuda" and _has_npu():
        return torch, "npu"
    if kind != "npu" and torch.cuda.is_available():
        return torch, "cuda"
    raise NoTorchError(f"torch {torch.__version__} sees no accelerator")


def _has_npu() -> bool:
    """Tell whether Ascend's plugin, which adds ``torch.npu``, sees an NPU."""
    try:
        return bool(import_module("torch_npu").npu.is_available())
    except ImportError:
        return False


def describe(torch: Any, kind: str) -> Iterator[dict[str, Any]]:
    """Yield what identifies each device."""
    if kind == "cpu":
        yield {"kind": "cpu", "index": None, "name": "CPU", "uuid": None, "pci_bus_id": None}
        return
    module = getattr(torch, kind)
    for index in range(module.device_count()):
        about = module.get_device_properties(index)
        uuid = getattr(about, "uuid", None)
        yield {
            "kind": kind,
            "index": index,
            "name": module.get_device_name(index),
            "uuid": None if uuid is None or kind != "cuda" else f"GPU-{uuid}",
            "pci_bus_id": _pci_bus_id(about),
        }


def _pci_bus_id(about: Any) -> str | None:
    """Return the address as NVML writes it; None where this torch does not tell."""
    if not all(hasattr(about, f"pci_{part}_id") for part in ("domain", "bus", "device")):
        return None
    return f"{about.pci_domain_id:08X}:{about.pci_bus_id:02X}:{about.pci_device_id:02X}.0"


def test_device(
    torch: Any, kind: str, index: int, plan: Plan, beside_others: bool, tell: Tell
) -> None:
    """Run every test on one device, as long as it lasts."""
    about = list(describe(torch, kind))[index]
    seen = others.look(about["uuid"], about["pci_bus_id"]) if kind == "cuda" else {}
    tell({"seen": seen})
    if seen.get("others") and not beside_others:
        tell({"busy": seen["others"]})
        return
    bench = Bench(torch, torch.device(kind, index) if kind != "cpu" else torch.device("cpu"))
    if kind == "cuda":
        # Partial sums in 16 bits would round the whole numbers of the check.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    for name, test in _tests(bench, plan):
        if not attempt(name, test, torch, tell):
            return


def _tests(bench: Bench, plan: Plan) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    part = _CPU_SHARE_OF_TIME if bench.is_cpu else 1.0
    dtypes = [name for name in _DTYPES if _computes_in(bench, name)]
    for dtype in dtypes:
        yield (
            f"products {dtype}",
            partial(compute.check_products, bench, dtype, plan.product_s * part),
        )
    most = _CPU_MOST_BYTES if bench.is_cpu else plan.pattern_most_bytes
    yield (
        "memory patterns",
        lambda: memory.check_patterns(
            bench,
            share=plan.pattern_share,
            most_bytes=most,
            budget_s=plan.pattern_s * part,
        ),
    )
    for dtype in dtypes:
        if dtype != "float32":
            yield f"rate {dtype}", partial(compute.multiply_rate, bench, dtype, plan.rate_s * part)
    yield "memory bandwidth", lambda: memory.copy_rate(bench, plan.copy_s * part)
    if not bench.is_cpu:
        yield "host link", lambda: links.host_rates(bench, plan.host_s)


def _computes_in(bench: Bench, dtype: str) -> bool:
    """Tell whether the device itself computes in a dtype, and doesn't emulate it slowly."""
    if bench.is_cpu:
        return dtype != "float16"
    if bench.device.type != "cuda" or dtype != "bfloat16":
        return True
    return bool(bench.torch.cuda.get_device_capability(bench.device)[0] >= 8)


def test_peers(torch: Any, kind: str, indices: list[int], plan: Plan, tell: Tell) -> None:
    """Copy between every two devices, both ways."""
    benches = {index: Bench(torch, torch.device(kind, index)) for index in indices}
    for source, one in benches.items():
        for target, other in benches.items():
            if source == target:
                continue
            direct = kind == "cuda" and torch.cuda.can_device_access_peer(source, target)

            test = partial(links.peer_rate, one, other, plan.peer_s)
            name = f"peer {source} to {target}"
            if not attempt(name, test, torch, tell, direct=bool(direct)):
                return


def attempt(
    name: str, test: Callable[[], dict[str, Any]], torch: Any, tell: Tell, **more: Any
) -> bool:
    """Run a test and tell its outcome; False when the driver failed and no other can be run."""
    tell({"testing": name})
    try:
        measured = test()
    except torch.OutOfMemoryError as error:
        tell({"failed": name, "kind": "out_of_memory", "text": _line(error)})
        return True
    except compute.HostError as error:
        tell({"failed": name, "kind": "host", "text": _line(error)})
        return True
    except RuntimeError as error:
        of_driver = isinstance(error, getattr(torch, "AcceleratorError", ())) or bool(
            _OF_DRIVER.search(str(error))
        )
        tell({"failed": name, "kind": "driver" if of_driver else "error", "text": _line(error)})
        # After an error of the driver the process can't use the device any more.
        return not of_driver
    tell({"measured": name, **measured, **more})
    return True


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]


if __name__ == "__main__":
    main()
