"""Single readings from the command line: ``gpus.0.temperature_c=97``.

    node.NAME=VALUE                     the node and its driver
    gpus.WHICH.NAME=VALUE               GPUs; WHICH is 0, 0-3, 0,2 or *
    gpus.WHICH.nvlinks.WHICH.NAME=…     their NVLinks
    npus.WHICH.NAME=VALUE               NPUs

Besides the properties, a GPU has ``xid`` (raised once) and ``processes`` (PID:SIZE,…), an NPU
``codes`` (its active fault codes).
"""

import re

from accelerators.errors import UsageError
from mockfail import values
from mockfail.errors import MockUsageError
from mockfail.nvml_errors import ERRORS
from mockfail.properties import MAX_GPUS, MAX_LINKS, MAX_NPUS, Property, Scope
from mockfail.scenario import Fault, Kind, Scenario, Targets, fault_code, process_id, xid_number
from mockfail.state import Process, Value

_FORM = "gpus.0.temperature_c=97, gpus.*.nvlinks.3.active=false, npus.0.health=3, node.init_error=9"
_ROOTS = ("node", "gpus", "npus")
_OWN = {"gpu": ("xid", "processes"), "npu": ("codes",)}


def parse(text: str) -> Scenario:
    """Return the scenario that sets one reading; its name is the path.

    Raises:
        MockUsageError: the path or the value is wrong; says what was meant, where that is plain.
    """
    path, equals, value = text.partition("=")
    try:
        if not equals:
            raise UsageError("mock.setting", f"has no value; expected e.g. {_FORM}")
        fault = _fault(path.strip(), value.strip())
    except UsageError as error:
        raise MockUsageError(
            "mock.setting", f"{text!r}: {error.message}", hint=error.hint, target=text
        ) from error
    return Scenario(path.strip(), f"--set {text}", title=text, faults=(fault,))


def _fault(path: str, value: str) -> Fault:
    root, *rest = re.split(r"\.", path)
    if root not in _ROOTS:
        meant = values.did_you_mean(root, _ROOTS)
        raise UsageError("mock.setting", f"{root!r} is no part of a node{meant}", hint=_FORM)
    if root == "node":
        return Fault(values=_reading("node", rest, value))
    kind: Kind = "gpu" if root == "gpus" else "npu"
    if len(rest) < 2:
        raise UsageError("mock.setting", f"names no reading; expected {root}.0.NAME=VALUE")
    devices = _which(rest[0], MAX_GPUS if kind == "gpu" else MAX_NPUS)
    names = rest[1:]
    if kind == "gpu" and names[0] == "nvlinks":
        if len(names) < 3:
            raise UsageError("mock.setting", f"expected {root}.{rest[0]}.nvlinks.0.NAME=VALUE")
        links = _which(names[1], MAX_LINKS)
        return Fault(kind, devices, links, values=_reading("link", names[2:], value))
    if names[0] in _OWN[kind] and len(names) == 1:
        return _own(kind, devices, names[0], value)
    return Fault(kind, devices, values=_reading(kind, names, value))


def _which(text: str, limit: int) -> Targets:
    if text == "*":
        return "all"
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        first = int(match[1]) if match else -1
        last = int(match[2] or match[1]) if match else -1
        if not 0 <= first <= last < limit:
            raise UsageError(
                "mock.setting", f"{text!r} is no device; expected 0 to {limit - 1}, 0-3, 0,2 or *"
            )
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


def _reading(scope: Scope, names: list[str], text: str) -> dict[str, Value]:
    name = ".".join(names)
    known = [*values.named(scope), *_OWN.get(scope, ())]
    if name not in values.named(scope):
        meant = values.did_you_mean(name, known)
        hint = "`aibrixctl mock-fail properties` lists all"
        raise UsageError("mock.property", f"there is no {name!r}{meant}", hint=hint)
    property_ = values.find(scope, name)
    return {name: values.read(property_, _code(property_, text))}


def _code(property_: Property, text: str) -> str | int:
    """Return the number of an NVML error that is named."""
    named = property_.name in ("init_error", "fabric_status")
    return ERRORS.get(text.removeprefix("NVML_ERROR_"), text) if named else text


def _own(kind: Kind, devices: Targets, name: str, text: str) -> Fault:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if name == "codes":
        return Fault(kind, devices, codes=tuple(fault_code(part) for part in parts))
    if name == "xid":
        return Fault(kind, devices, xids=tuple(_xid(part) for part in parts))
    return Fault(kind, devices, processes=tuple(_process(part) for part in parts))


def _xid(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise UsageError("scenario.xid", f"{text!r} is no XID; expected a number such as 79")
    return xid_number(int(text))


def _process(text: str) -> Process:
    pid, colon, size = text.partition(":")
    if not pid.isdecimal() or len(pid) > 10 or not colon:
        raise UsageError("mock.process", f"{text!r} is no process; expected PID:SIZE, 4711:10GiB")
    used = values.read(values.find("gpu", "memory_used_bytes"), size)
    assert isinstance(used, int)
    return Process(process_id(int(pid)), used)
