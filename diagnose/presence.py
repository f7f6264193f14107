"""Whether the accelerators are there that should be, for every family alike."""

from collections.abc import Iterator

from diagnose.checks import NODE, Context, Sign
from diagnose.facts import DeviceFacts, Facts
from diagnose.findings import Unchecked


def missing(facts: Facts, context: Context, code: str, noun: str) -> Iterator[Sign | Unchecked]:
    """Compare what the driver lists with the PCI bus, or with what the user says.

    Args:
        facts: of one family.
        context: names the bus's devices and the user's number.
        code: of the finding.
        noun: ``gpu`` or ``npu``, for the names of the readings.
    """
    found = len(facts.devices)
    expected = context.expect_count
    if expected is None and context.pci_unknown is not None:
        yield Unchecked("count", NODE, f"{context.pci_unknown}; --expect-gpus tells", skipped=True)
        return
    least = len(context.pci) if expected is None else expected
    if found < least or (expected is not None and found != expected):
        known = {each.address for each in facts.devices}
        evidence = {
            f"{noun}s": found,
            f"expected_{noun}s": least,
            "expected_by": "PCI bus" if expected is None else "--expect-gpus",
            f"pci_addresses_without_{noun}": [
                each.address for each in context.pci if each.address not in known
            ],
        }
        yield Sign(code, evidence)


def of_other_type(device: DeviceFacts, context: Context, code: str) -> Iterator[Sign]:
    """Compare the type of a device with what the user says it should be."""
    if context.expect_type is None or device.device.name is None:
        return
    from accelerators.errors import UsageError
    from accelerators.names import resolve

    try:
        found = resolve(device.device.name).name
    except UsageError:
        found = device.device.name
    if found != context.expect_type:
        yield Sign(code, {"type": found, "expected_type": context.expect_type})
