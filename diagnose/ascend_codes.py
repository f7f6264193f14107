"""What an Ascend fault code says: its module, its state, and how the NPU is to be handled.

A code is eight hexadecimal digits, such as ``80E01801``; its layout, and the sources, stand in
``diagnose/data/ascend_codes.toml``. Codes of nine digits come from the device plugin.
"""

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from diagnose.explain import Explanation
from diagnose.findings import Severity

LEVELS = (
    "NotHandle",
    "SubHealth",
    "RestartRequest",
    "RestartBusiness",
    "FreeRestartNPU",
    "RestartNPU",
    "PreSeparateNPU",
    "SeparateNPU",
)
"""Handling levels, the mildest first."""

_BY_DRIVER: tuple[Severity, ...] = ("info", "warning", "degraded", "fatal")
_BOARD = 0x7  # node types 0x700 to 0x7FF: states count the sensors of the board
_SOURCE = "handling levels of Ascend mind-cluster; layout of codes from Huawei's public NPU driver"


@dataclass(frozen=True)
class Fault:
    """One fault code, taken apart.

    Attributes:
        code: digits in capitals, without 0x.
        level: how mind-cluster handles it; None for a code that it doesn't list.
        module: where in the NPU, or on the host; None where the code doesn't tell.
        state: what is wrong there; None likewise.
        severity: of the level, else the driver's own, else ``degraded``.
    """

    code: str
    level: str | None
    module: str | None
    state: str | None
    severity: Severity


def fault(code: str) -> Fault:
    """Take a code apart; of one that nobody lists, what its digits say."""
    text = normal(code)
    level = levels().get(text)
    if len(text) > 8:
        module, state, own = None, None, None
    elif text[0] in "9AB":
        module, state, own = _black_box(int(text, 16))
    else:
        module, state, own = _monitor(int(text, 16))
    severity = _data()["levels"][level]["severity"] if level else own or "degraded"
    return Fault(text, level, module, state, severity)


def normal(code: str | int) -> str:
    """Return a code as the tables write it: capitals, eight digits at least."""
    if isinstance(code, int):
        return f"{code:08X}"
    return code.upper().removeprefix("0X")


def explain(code: str) -> Explanation:
    """Return the runbook section of a fault code, be it listed or not."""
    found = fault(code)
    own = _data()["codes"].get(found.code, {})
    handling = _data()["levels"].get(found.level, {})
    return Explanation(
        code=f"ASCEND-FAULT-{found.code}",
        title=own.get("title", _title(found)),
        severity=found.severity,
        meaning=own.get("meaning", _meaning(found)),
        detected_by=_detected_by(found),
        action=own.get("action", handling.get("action", _UNKNOWN_ACTION)),
        move_workload=handling.get("move_workload", found.severity == "fatal"),
        source=_SOURCE,
    )


def explain_level(name: str) -> Explanation | None:
    """Return the section of a handling level, as mind-cluster names it; None of no level."""
    wanted = name.lower().removesuffix("fault")
    level = next((each for each in LEVELS if each.lower() == wanted), None)
    if level is None:
        return None
    entry = _data()["levels"][level]
    listed = sum(each == level for each in levels().values())
    return Explanation(
        code=level,
        title=f"handling level of {listed} Ascend fault codes",
        severity=entry["severity"],
        meaning=f"{entry['meaning'][0].upper()}{entry['meaning'][1:]}.",
        detected_by="active fault codes that the driver lists (dcmi_get_device_errorcode_v2)",
        action=entry["action"],
        move_workload=entry["move_workload"],
        source="faultCode.json of Ascend mind-cluster; the words are ours",
    )


_UNKNOWN_ACTION = (
    "Look the code up in the fault list of your driver version; until then "
    "give the NPU no new work and collect its log with `msnpureport`."
)


@cache
def levels() -> Mapping[str, str]:
    """Return the handling level of every listed code; of one listed twice, the gravest."""
    text = (resources.files("diagnose") / "data" / "ascend_levels.csv").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for row in csv.DictReader(text.splitlines()):
        code, level = row["code_hex"], row["level"]
        found[code] = max(level, found.get(code, level), key=LEVELS.index)
    return found


@cache
def _data() -> Mapping[str, Any]:
    file = resources.files("diagnose") / "data" / "ascend_codes.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _monitor(code: int) -> tuple[str | None, str | None, Severity | None]:
    """Return module, state and severity of a code of the health monitor."""
    node, sensor, offset = (code >> 17) & 0x7FF, (code >> 9) & 0xFF, code & 0x1FF
    module = _data()["modules"].get(f"{node:02X}", f"module 0x{node:02X}")
    if code >> 30 == 1:
        module = f"host: {module}"
    known = _data()["sensors"].get(f"{sensor:02X}")
    if known is None:
        return module, f"state 0x{offset:02X} of sensor 0x{sensor:02X}", None
    if node >> 8 == _BOARD:
        return module, f"{known['name']} sensor {offset} outside its limits", None
    if offset >= len(known["states"]):
        return module, f"{known['name']}: state 0x{offset:02X}", None
    severity, state = known["states"][offset]
    return module, state, _BY_DRIVER[severity]


def _black_box(code: int) -> tuple[str | None, str | None, Severity | None]:
    """Return module, state and severity of an exception code of the black box."""
    number, severity = (code >> 17) & 0xFF, (code >> 25) & 0x7
    module = _data()["black_box"].get(f"{number:02X}", f"module 0x{number:02X}")
    what = "recovered from exception" if code >> 28 == 9 else "exception"
    state = f"{what} 0x{code & 0x1FFFF:05X} in the black box"
    return module, state, _BY_DRIVER[severity - 1] if 1 <= severity <= 4 else None


def _title(found: Fault) -> str:
    if found.module is None:
        return "Ascend fault"
    return f"{found.module[0].upper()}{found.module[1:]}: {found.state}"


def _meaning(found: Fault) -> str:
    where = f"{found.module}: {found.state}" if found.module else "a fault"
    if found.level is None:
        return f"The NPU reports {where}; the list of handling levels does not have this code."
    return f"The NPU reports {where}; {_data()['levels'][found.level]['meaning']}."


def _detected_by(found: Fault) -> str:
    handled = f"handling level {found.level}" if found.level else "not in the list of levels"
    return f"active fault codes that the driver lists (dcmi_get_device_errorcode_v2); {handled}"
