"""The driver, the presence of every GPU, and whether driver, CUDA and card fit together."""

from collections.abc import Iterator

from diagnose import presence
from diagnose.checks import NODE, Check, Context, Sign, hang
from diagnose.facts import DeviceFacts, Facts
from diagnose.findings import Unchecked

_OF_DRIVER = {
    "not_loaded": "NV-DRIVER-NOT-LOADED",
    "library_missing": "NV-LIBRARY-MISSING",
    "mismatch": "NV-DRIVER-MISMATCH",
    "no_permission": "NV-NO-PERMISSION",
}
_OF_GPU = {
    "lost": "NV-GPU-LOST",
    "reset_required": "NV-GPU-RESET-REQUIRED",
    "error": "NV-GPU-ERROR",
}

_FIRST_CUDA = {
    (7, 0): 9000,
    (7, 5): 10000,
    (8, 0): 11000,
    (8, 6): 11010,
    (8, 9): 11080,
    (9, 0): 11080,
    (10, 0): 12080,
    (10, 3): 12090,
    (12, 0): 12080,
}
"""Compute capability to the first CUDA version that knows it, as NVML writes versions (release
notes of the CUDA toolkit)."""


def driver(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield why the driver does not answer."""
    if facts.error is not None and facts.error.kind == "not_started":
        yield Unchecked("driver", NODE, facts.error.text, skipped=False)
    elif facts.error is not None:
        code = _OF_DRIVER.get(facts.error.kind, "NV-DRIVER-ERROR")
        yield Sign(code, {"error": facts.error.text, "nvml_return": facts.error.number})
    if facts.hung_in is not None:
        yield hang(facts, context)


def gpus(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield the GPUs that the driver lists and that do not answer."""
    for each in facts.devices:
        if each.hung_in is not None:
            yield hang(each, context)
        elif each.error is not None and each.error.number and each.error.kind in _OF_GPU:
            evidence = {"error": each.error.text, "nvml_return": each.error.number}
            yield Sign(_OF_GPU[each.error.kind], evidence, each.device)
        elif each.error is not None:  # our own trouble, or the lack of a permission
            yield Unchecked("gpus", each.device, each.error.text, skipped=False)


def count(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Compare the GPUs that the driver lists with the PCI bus, or with what the user says."""
    yield from presence.missing(facts, context, "NV-GPU-COUNT", "gpu")


def type_(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Compare the type of a GPU with what the user says it should be."""
    yield from presence.of_other_type(gpu, context, "NV-GPU-TYPE")


def cuda(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Compare the CUDA version that the driver offers with what cards and software need.

    An application needs a driver of its CUDA major version or a newer one (CUDA compatibility
    guide, minor version compatibility).
    """
    offered = facts.get("cuda_version")
    if offered is None:
        failure = facts.failures.get("cuda_version")
        skipped = failure is None or failure.kind in ("not_supported", "library_missing")
        reason = "there is no CUDA here" if failure is None or skipped else failure.text
        yield Unchecked("cuda", NODE, reason, skipped=skipped)
        return
    for name, version in sorted(context.toolkits.items()):
        major = version.split(".")[0]
        if major.isdigit() and int(major) > offered // 1000:
            yield Sign(
                "NV-CUDA-MISMATCH",
                {"driver_cuda": _text(offered), "needed_cuda": version, "needed_by": name},
            )
    for gpu in facts.devices:
        capability = gpu.get("compute_capability_major"), gpu.get("compute_capability_minor")
        first = _FIRST_CUDA.get(capability)
        if first is not None and offered < first:
            evidence = {
                "driver_cuda": _text(offered),
                "needed_cuda": _text(first),
                "needed_by": f"compute capability {capability[0]}.{capability[1]}",
            }
            yield Sign("NV-CUDA-MISMATCH", evidence, gpu.device)


def _text(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


CHECKS = (
    Check(
        "driver",
        "The driver is loaded, fits its library and lets us in.",
        ("nvmlInit",),
        (*_OF_DRIVER.values(), "NV-DRIVER-ERROR", "DRIVER-HANG"),
        of_node=driver,
        without_driver=True,
    ),
    Check(
        "gpus",
        "Every GPU answers.",
        ("nvmlDeviceGetHandleByIndex",),
        (*_OF_GPU.values(), "DRIVER-HANG"),
        of_node=gpus,
    ),
    Check(
        "count",
        "The driver lists as many GPUs as the PCI bus has, or as --expect-gpus says.",
        ("PCI bus", "nvmlDeviceGetCount"),
        ("NV-GPU-COUNT",),
        of_node=count,
    ),
    Check(
        "type",
        "Every GPU is of the type that --expect names.",
        (),
        ("NV-GPU-TYPE",),
        of_device=type_,
    ),
    Check(
        "cuda",
        "The driver's CUDA version suffices for the cards, and for torch and toolkits in sight.",
        ("cuda_version", "compute_capability_major", "compute_capability_minor"),
        ("NV-CUDA-MISMATCH",),
        of_node=cuda,
    ),
)
