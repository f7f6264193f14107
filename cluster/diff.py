"""What a write would change: two states of an object, field by field."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_BOOKKEEPING = frozenset(
    {"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"}
)
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """One field that differs.

    Attributes:
        path: such as ``spec.replicas`` or ``spec.taints[0].key``.
        before, after: its values; None where it is absent.
    """

    path: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"path": self.path, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.path}: {self.after}"
        if self.after is None:
            return f"- {self.path}: {self.before}"
        return f"~ {self.path}: {self.before} -> {self.after}"


def differences(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Difference, ...]:
    """Return the fields that differ, in order of their paths, without the server's bookkeeping.

    Args:
        before: the object as it is; None when there is none.
        after: the object as it would be, say from a dry run; None when it would be gone.
    """
    return tuple(_compare("", _content(before), _content(after)))


def _content(obj: Mapping[str, Any] | None) -> dict[str, Any]:
    if obj is None:
        return {}
    content = dict(obj)
    metadata = content.get("metadata") or {}
    content["metadata"] = {k: v for k, v in metadata.items() if k not in _BOOKKEEPING}
    return content


def _compare(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            inner = f"{path}.{name}" if path else name
            yield from _compare(inner, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            yield from _compare(f"{path}[{index}]", _at(before, index), _at(after, index))
    elif before is _ABSENT and isinstance(after, Mapping) and after:
        yield from _compare(path, {}, after)
    elif after is _ABSENT and isinstance(before, Mapping) and before:
        yield from _compare(path, before, {})
    elif before != after:
        yield Difference(path, *(None if v is _ABSENT else v for v in (before, after)))


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else _ABSENT
