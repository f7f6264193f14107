"""What every code means and what to do: the runbook behind findings and ``diagnose explain``.

Finding codes stand in ``diagnose/data/findings-*.toml``; XIDs in the XID catalogue; Ascend fault
codes in the Ascend one. A file in the form of ``findings-*.toml`` overrides single entries.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from accelerators import documents
from diagnose.errors import DiagnoseUsageError
from diagnose.findings import SEVERITIES, Severity

_XID = re.compile(r"^(?:NV-)?XID[- ]?(\d+)$|^(\d{1,3})$", re.IGNORECASE)
_ASCEND = re.compile(r"^(?:ASCEND-FAULT-)?(?:0X)?([0-9A-F]{8,9})$", re.IGNORECASE)
_SXID = re.compile(r"^(?:NV-)?SXID[- ]?(\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Explanation:
    """One section of the runbook.

    Attributes:
        code: of the finding.
        title: a few words.
        severity: unless the check sees a reason for another.
        meaning: one sentence, without the readings.
        detected_by: what is read, and the limit it is held against.
        action: what to do.
        move_workload: whether the work on the device must go elsewhere first.
        source: where the knowledge comes from.
    """

    code: str
    title: str
    severity: Severity
    meaning: str
    detected_by: str
    action: str
    move_workload: bool
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


Overrides = Mapping[str, Mapping[str, Any]]
"""Code to the fields that a user's file sets."""


def explain(text: str, overrides: Overrides | None = None) -> Explanation:
    """Return the section of a finding code, an XID (``XID 79``, ``79``) or an Ascend fault code.

    An Ascend handling level, such as ``SeparateNPU``, has a section too.

    Raises:
        DiagnoseUsageError: nothing has that code; names the nearest.
    """
    found = _built_in(text.strip())
    changes = dict((overrides or {}).get(found.code, {}))
    return replace(found, **changes) if changes else found


def _built_in(text: str) -> Explanation:
    from diagnose.ascend_codes import explain as explain_ascend
    from diagnose.ascend_codes import explain_level
    from diagnose.xid import explain as explain_xid
    from diagnose.xid import explain_sxid

    code = text.upper()
    if (entry := catalogue().get(code)) is not None:
        return entry
    if match := _XID.match(text):
        return explain_xid(int(match[1] or match[2]))
    if match := _SXID.match(text):
        return explain_sxid(int(match[1]))
    if match := _ASCEND.match(text):
        return explain_ascend(match[1].upper())
    if (level := explain_level(text)) is not None:
        return level
    near = difflib.get_close_matches(code, catalogue(), n=3, cutoff=0.6)
    suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
    raise DiagnoseUsageError(
        "diagnose.unknown_code",
        f"{text!r} is no known finding code, XID or Ascend fault code{suggestion}",
        hint="`aibrixctl diagnose list-checks` names the codes of every check; "
        "an XID is written 79 or 'XID 79', an Ascend code 80E01801",
        target=text,
    )


@cache
def catalogue() -> Mapping[str, Explanation]:
    """Return every finding code that is no XID and no Ascend fault code."""
    entries: dict[str, Explanation] = {}
    for file in sorted((resources.files("diagnose") / "data").iterdir(), key=lambda f: f.name):
        if file.name.startswith("findings-") and file.name.endswith(".toml"):
            entries.update(_entries(file.read_text(encoding="utf-8")))
    return entries


def _entries(text: str) -> Iterator[tuple[str, Explanation]]:
    import tomllib

    for code, body in tomllib.loads(text).items():
        yield code, Explanation(code=code, **body)


_FIELDS = {"severity": str, "meaning": str, "action": str, "move_workload": bool, "source": str}


def read_overrides(path: str | os.PathLike[str]) -> Overrides:
    """Return a user's own actions, by code.

    The file is TOML: ``[NV-XID-64]`` with any of ``severity``, ``meaning``, ``action``,
    ``move_workload`` and ``source``.

    Raises:
        DiagnoseUsageError: not TOML, an unknown code or key, or a value of the wrong kind.
    """
    import tomllib

    try:
        body = tomllib.loads(documents.read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise DiagnoseUsageError(
            "actions.not_toml", f"{path} is not TOML: {error}", target=str(path)
        ) from error
    return {_code(code, path): _checked(code, entry, path) for code, entry in body.items()}


def _code(text: str, path: str | os.PathLike[str]) -> str:
    try:
        return _built_in(text).code
    except DiagnoseUsageError as error:
        raise DiagnoseUsageError(
            "actions.unknown_code", f"{path}: {error.message}", hint=error.hint, target=str(path)
        ) from error


def _checked(code: str, entry: Any, path: str | os.PathLike[str]) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise _malformed(path, f"{code} is {entry!r}; expected a table [{code}]")
    for key, value in entry.items():
        if key not in _FIELDS:
            raise _malformed(path, f"[{code}] has key {key!r}; expected {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[key]):
            raise _malformed(path, f"[{code}] {key} is {value!r}; expected {_FIELDS[key].__name__}")
    severity = entry.get("severity", "info")
    if severity not in SEVERITIES:
        expected = ", ".join(SEVERITIES)
        raise _malformed(path, f"[{code}] severity is {severity!r}; expected {expected}")
    return entry


def _malformed(path: str | os.PathLike[str], what: str) -> DiagnoseUsageError:
    return DiagnoseUsageError("actions.malformed", f"{path}: {what}", target=str(path))
