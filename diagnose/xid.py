"""What an XID means and what to do: NVIDIA's catalogue, with our own words and severities.

``diagnose/data/xid.csv`` holds number, mnemonic and actions of all codes, as NVIDIA's XID catalogue
lists them; ``xid.toml`` what the actions ask for, and meanings of the codes that operators meet.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from diagnose.explain import Explanation

_SOURCE = "NVIDIA XID catalogue, docs.nvidia.com/deploy/xid-errors, as of 2025-10-29"
_SXID_SOURCE = "NVIDIA Fabric Manager user guide, NVSwitch SXid errors"


@dataclass(frozen=True)
class Xid:
    """One line of the catalogue; actions are NVIDIA's names, None where it has none."""

    number: int
    mnemonic: str
    used: bool
    immediate: str | None
    investigatory: str | None


@cache
def catalogue() -> Mapping[int, Xid]:
    """Return every XID by number."""
    text = (resources.files("diagnose") / "data" / "xid.csv").read_text(encoding="utf-8")
    entries = (
        Xid(
            int(row["xid"]),
            row["mnemonic"],
            row["status"] == "used",
            row["immediate_action"] or None,
            row["investigatory_action"] or None,
        )
        for row in csv.DictReader(text.splitlines())
    )
    return {entry.number: entry for entry in entries}


@cache
def _texts() -> Mapping[str, Any]:
    import tomllib

    text = (resources.files("diagnose") / "data" / "xid.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def explain(number: int) -> Explanation:
    """Return the runbook section of an XID, also of one that the catalogue doesn't list yet."""
    entry = catalogue().get(number)
    own: Mapping[str, Any] = _texts()["xids"].get(str(number), {})
    action = _texts()["actions"][_action_name(entry)]
    return Explanation(
        code=f"NV-XID-{number}",
        title=own.get("title", _title(entry)),
        severity=own.get("severity", action["severity"]),
        meaning=own.get("meaning", _meaning(number, entry)),
        detected_by=f"a line `NVRM: Xid (PCI:<address>): {number}, …` in the kernel log",
        action=own.get("action", action["text"]) + _afterwards(entry),
        move_workload=own.get("move_workload", action["move_workload"]),
        source=_SOURCE if entry else "not in " + _SOURCE,
    )


def _action_name(entry: Xid | None) -> str:
    if entry is None or entry.immediate is None:
        return "UNLISTED"
    return entry.immediate


def _title(entry: Xid | None) -> str:
    if entry is None:
        return "an XID that the catalogue does not list"
    words = entry.mnemonic.removeprefix("ROBUST_CHANNEL_").replace("_", " ").lower()
    return f"driver event: {words}"


def _meaning(number: int, entry: Xid | None) -> str:
    if entry is None:
        return f"The driver reported XID {number}, which NVIDIA's catalogue does not list."
    unused = "" if entry.used else "; current drivers are not expected to report it"
    return f"The driver reported {entry.mnemonic} (XID {number}){unused}."


def _afterwards(entry: Xid | None) -> str:
    """Return what to do when it comes back, where the catalogue says so."""
    name = entry.investigatory if entry else None
    text = _texts()["investigations"].get(name or "")
    return f" {text}" if text else ""


def explain_sxid(number: int) -> Explanation:
    """Return the runbook section of an NVSwitch error; the line itself says whether it is fatal."""
    return Explanation(
        code=f"NV-SXID-{number}",
        title="NVSwitch error",
        severity="warning",
        meaning=f"An NVSwitch reported SXid {number}; the kernel log says whether it is fatal.",
        detected_by=f"a line `nvidia-nvswitch<n>: SXid (PCI:<address>): {number}, …` in the kernel "
        "log; Fatal there makes the finding fatal",
        action="Non-fatal: watch for repetition. Fatal: drain the node, stop the jobs that use its "
        "NVLinks, reset all its GPUs and NVSwitches together (restart Fabric Manager, or reboot); "
        "open a support case if it comes back.",
        move_workload=False,
        source=_SXID_SOURCE,
    )
