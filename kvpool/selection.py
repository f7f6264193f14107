"""Which entries a command is about."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from kvpool.entry import STATES, Entry, State
from kvpool.errors import KvPoolUsageError


@dataclass(frozen=True)
class Selection:
    """Entries that meet every condition that is set.

    Attributes:
        models: names or shell patterns, any of which may fit; empty: all entries. AIBrix's blocks
            carry no model and are compared by their namespace.
        states: empty: all.
        tags: pairs that an entry must carry.
        min_bytes, max_bytes: both included.
        older_than_s: seconds since it was stored or, where the pool keeps no such time, last used.
        expires_within_s: seconds until it vanishes.
    """

    models: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    min_bytes: int = 0
    max_bytes: int | None = None
    older_than_s: float | None = None
    expires_within_s: float | None = None

    def holds(self, entry: Entry, now_s: float) -> bool:
        """Tell whether an entry meets all conditions; an unknown age or expiry meets none."""
        if self.states and entry.state not in self.states:
            return False
        if self.models and not self._is_of_model(entry):
            return False
        if entry.bytes < self.min_bytes:
            return False
        if self.max_bytes is not None and entry.bytes > self.max_bytes:
            return False
        if self.tags and not set(self.tags) <= set(entry.tags):
            return False
        return self._is_due(entry, now_s)

    def _is_of_model(self, entry: Entry) -> bool:
        name = entry.model or entry.namespace or ""
        return any(name == text or fnmatch.fnmatchcase(name, text) for text in self.models)

    def _is_due(self, entry: Entry, now_s: float) -> bool:
        if self.older_than_s is not None:
            since_s = age_s(entry, now_s)
            if since_s is None or since_s < self.older_than_s:
                return False
        if self.expires_within_s is not None:
            return entry.expires_s is not None and entry.expires_s - now_s <= self.expires_within_s
        return True


def age_s(entry: Entry, now_s: float) -> float | None:
    """Return the seconds since an entry was stored or, failing that, last used."""
    moment_s = entry.stored_s if entry.stored_s is not None else entry.accessed_s
    return None if moment_s is None else max(0.0, now_s - moment_s)


def parse_states(names: Iterable[str]) -> tuple[State, ...]:
    """Return states by their names. Raises KvPoolUsageError for another word."""
    found = []
    for name in names:
        state = next((known for known in STATES if known == name), None)
        if state is None:
            raise KvPoolUsageError(
                "kv.state", f"{name!r} is no state; expected {', '.join(STATES)}", target=name
            )
        found.append(state)
    return tuple(found)


def parse_tags(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return tags from ``NAME=VALUE``. Raises KvPoolUsageError for another form."""
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise KvPoolUsageError(
                "kv.tag", f"{text!r} is no tag; expected NAME=VALUE", target=text
            )
        pairs.append((name, value))
    return tuple(pairs)
