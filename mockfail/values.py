"""Read the value of a property: its type, its unit, what the hardware can show at all."""

import difflib
import re
from collections.abc import Iterable
from functools import cache

from accelerators.errors import UsageError
from accelerators.units import parse_duration
from mockfail.properties import PROPERTIES, STRING_BYTES, Property, Scope
from mockfail.state import Value

_PCI = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-1][0-9a-fA-F]\.[0-7]")
_NUMBER = re.compile(r"([+-]?\d[\d_]{0,30}(?:\.\d{1,30})?)\s*(\S*)")
_BYTES = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_LARGEST = 2**63 - 1
_LARGEST_32_BIT = 2**32 - 1  # of what the libraries' calls return as an unsigned int

_UNITS: dict[str, dict[str, float]] = {
    "_bytes": {
        **{f"{letter}i": factor for letter, factor in _BYTES.items() if letter != "B"},
        **{f"{letter}iB": factor for letter, factor in _BYTES.items() if letter != "B"},
        "B": 1,
        "KB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
    },
    "_percent": {"%": 1},
    "_c": {"C": 1, "°C": 1},
    "_mw": {"mW": 1, "W": 1e3, "kW": 1e6},
    "_mv": {"mV": 1, "V": 1e3},
    "_mhz": {"MHz": 1, "GHz": 1e3},
    "_rpm": {"rpm": 1},
    "_mj": {"mJ": 1, "J": 1e3, "kJ": 1e6},
}
_RANGES: dict[str, tuple[int, int]] = {
    "performance_state": (0, 15),
    "recovery_action": (0, 4),
    "health": (0, 3),
    "remote_type": (0, 2),
    "fabric_state": (0, 3),
    "pcie_generation_current": (1, 7),
    "pcie_generation_max": (1, 7),
    "pcie_generation_device_max": (1, 7),
    "pcie_width_current": (0, 32),
    "pcie_width_max": (1, 32),
    "numa_node": (-1, 1023),
    "retired_pages_sbe": (0, 64),  # as many as a card has room for
    "retired_pages_dbe": (0, 64),
    "pcie_replays": (0, _LARGEST_32_BIT),
    "remapped_rows_correctable": (0, _LARGEST_32_BIT),
    "remapped_rows_uncorrectable": (0, _LARGEST_32_BIT),
    "init_error": (0, 2**31 - 1),
    "dcmi_init_error": (-(2**31), 2**31 - 1),
    "network_health": (-(2**31), 2**31 - 1),
}
_SUFFIX_RANGES = {
    "_percent": (0, 100),
    "_c": (-50, 255),
    **dict.fromkeys(("_mw", "_mv", "_mhz", "_rpm", "_kb_per_s", "_mb_per_s"), (0, _LARGEST_32_BIT)),
}


@cache
def named(scope: Scope) -> dict[str, Property]:
    """Return the properties of a scope by name."""
    return {property_.name: property_ for property_ in PROPERTIES[scope]}


def find(scope: Scope, name: str) -> Property:
    """Return a property; raises UsageError with the nearest names where there is none."""
    found = named(scope).get(name)
    if found is None:
        kind = {"link": "an NVLink", "node": "the node"}.get(scope, f"a {scope.upper()}")
        text = f"{kind} has no {name!r}{did_you_mean(name, named(scope))}"
        raise UsageError("mock.property", text, hint="`aibrixctl mock-fail properties` lists all")
    return found


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names what may have been meant; empty when nothing."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def read(property_: Property, value: object) -> Value:
    """Return a value as the property's type.

    Args:
        property_: whose value it is.
        value: from TOML, or a text with an optional unit (``64GiB``, ``97%``, ``350W``, ``2s``).

    Raises:
        UsageError: another type, an unknown unit, or nothing the hardware can show.
    """
    if property_.type == "bool":
        return _boolean(value)
    return _text(property_, value) if property_.type == "str" else _integer(property_, value)


def _refuse(value: object, expected: str) -> UsageError:
    return UsageError("mock.value", f"is {value!r}; expected {expected}")


def _boolean(value: object) -> bool:
    texts = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
    found = texts.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise _refuse(value, "true or false")
    return found


def _text(property_: Property, value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _refuse(value, "a text")
    if len(value.encode()) >= STRING_BYTES:
        raise _refuse(value, f"at most {STRING_BYTES - 1} bytes")
    if property_.name.endswith("pci_bus_id"):
        return pci_address(value)
    return value


def pci_address(text: str) -> str:
    """Return ``domain:bus:device.function`` with NVML's eight digits of domain.

    Raises:
        UsageError: it is no PCI address.
    """
    if not _PCI.fullmatch(text):
        raise UsageError(
            "mock.pci", f"{text!r} is no PCI address; expected one such as 00000000:18:00.0"
        )
    domain, rest = text.split(":", 1)
    return f"{int(domain, 16):08X}:{rest.upper()}"


def _integer(property_: Property, value: object) -> int:
    number = _number(property_, value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise _refuse(value, "a whole number")
    low, high = _range(property_.name)
    if not low <= number <= high:
        limit = f"{low} or more" if number < low and high == _LARGEST else f"{low} to {high}"
        raise _refuse(value, limit)
    return number


def _range(name: str) -> tuple[int, int]:
    by_suffix = (limits for end, limits in _SUFFIX_RANGES.items() if name.endswith(end))
    return _RANGES.get(name) or next(by_suffix, (0, _LARGEST))


def _number(property_: Property, text: str) -> int:
    if property_.name.endswith("_ms"):
        return _milliseconds(property_, text)
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return int(text, 16)
    units = next((u for end, u in _UNITS.items() if property_.name.endswith(end)), {})
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (match[2] and match[2] not in units):
        known = f", with or without a unit ({', '.join(units)})" if units else ""
        raise _refuse(text, f"a number{known}")
    number = float(match[1].replace("_", "")) * units.get(match[2], 1)
    if "." not in match[1] and match[2] == "":
        return int(match[1].replace("_", ""))
    if number != int(number):
        raise _refuse(text, "a whole number in the property's unit")
    return int(number)


def _milliseconds(property_: Property, text: str) -> int:
    try:
        return round(parse_duration(text, default_unit="ms") * 1000)
    except UsageError as error:
        raise _refuse(text, "a duration such as 500ms or 30s") from error
