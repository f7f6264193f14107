"""What objects of every kind have in common: conditions, and how people name one."""

import re
from collections.abc import Mapping
from typing import Any

from cluster.errors import ClusterUsageError

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)
_LONGEST = 253
Conditions = Mapping[str, Mapping[str, Any]]


def conditions(obj: Mapping[str, Any]) -> Conditions:
    """Return the conditions of an object's status, by type."""
    listed = (obj.get("status") or {}).get("conditions") or ()
    return {one["type"]: one for one in listed}


def said(condition: Mapping[str, Any]) -> str:
    """Return what a condition gives as its reason, as one text."""
    parts = (condition.get("reason"), condition.get("message"))
    return ": ".join(str(part) for part in parts if part)


def is_namespace(text: str) -> bool:
    """Return whether a namespace can be called so: a label of RFC 1123."""
    return _NAMESPACE.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Return whether an object can be called so: a subdomain of RFC 1123, of 253 letters at most.

    Kinds that take a label only, as Services do, are stricter.
    """
    return len(text) <= _LONGEST and _SUBDOMAIN.fullmatch(text) is not None


def check_namespace(text: str) -> None:
    """Raise ClusterUsageError where no namespace can be called so."""
    if not is_namespace(text):
        raise ClusterUsageError(
            "cluster.name",
            f"--namespace is {text!r}; no namespace can be called that",
            hint="names of namespaces are of a-z, 0-9 and -, 63 at most",
            target="--namespace",
        )


def split_name(text: str) -> tuple[str | None, str] | None:
    """Return the namespace, where one is given, and the name of ``[NAMESPACE/]NAME``; else None."""
    place, slash, name = text.rpartition("/")
    if not is_name(name) or (slash and not is_namespace(place)):
        return None
    return place or None, name


def parse_name(text: str, option: str) -> tuple[str | None, str]:
    """Return the namespace, where one is given, and the name of ``[NAMESPACE/]NAME``.

    Args:
        text: as somebody wrote it.
        option: that it was given with.

    Raises:
        ClusterUsageError: it names nothing that can be in a cluster.
    """
    found = split_name(text)
    if found is None:
        raise ClusterUsageError(
            "cluster.name",
            f"{option} is {text!r}; expected [NAMESPACE/]NAME",
            hint="names are of a-z, 0-9, - and .",
            target=option,
        )
    return found
