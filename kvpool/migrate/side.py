"""What a migration asks of a pool: one lane's session with it, for reading or for writing.

A session handles a few entries at a time. ``look`` starts to watch them; whatever anybody else
does to them from there on makes ``commit`` or ``leave`` answer False, and then nothing was
written or removed on the word of what is no longer true.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

BATCH_BYTES: Final = 3 << 20
"""Most bytes of values that are under way in one lane; a larger value goes in pieces of it."""
BATCH_ENTRIES: Final = 256
BUFFER_BYTES: Final = BATCH_BYTES + 32 * BATCH_ENTRIES
"""A batch with its framing."""
_CLOCKS_MS: Final = 1000
"""By how much two expiries may differ: an old server tells only what time is left."""


class Look(NamedTuple):
    """What stands under a key just now.

    Attributes:
        value_bytes: length of the value.
        header: what describes it; empty for backends that keep none.
        data_expires_ms, header_expires_ms: when the halves vanish, in milliseconds since the
            epoch; 0: never.
        stamp: changes when the entry does and outlives the session; empty where there is none.
    """

    value_bytes: int
    header: bytes
    data_expires_ms: int = 0
    header_expires_ms: int = 0
    stamp: str = ""

    @property
    def expires(self) -> bool:
        """True when either half will vanish."""
        return bool(self.data_expires_ms or self.header_expires_ms)

    def describes_same(self, other: "Look") -> bool:
        """Return whether length and header are those of another entry."""
        return (self.value_bytes, self.header) == (other.value_bytes, other.header)

    @property
    def version(self) -> str:
        """Return what tells this state of the entry from others, as far as looking can."""
        return self.stamp or f"{self.value_bytes}:{zlib.crc32(self.header):08x}"

    def expires_with(self, other: "Look") -> bool:
        """Return whether both halves vanish when those of another entry do."""
        pairs = (
            (self.data_expires_ms, other.data_expires_ms),
            (self.header_expires_ms, other.header_expires_ms),
        )
        return all(bool(a) == bool(b) and abs(a - b) <= _CLOCKS_MS for a, b in pairs)


class Piece(NamedTuple):
    """A part of a value: ``length`` bytes from ``offset``; ``whole`` when that is all of it."""

    key: str
    offset: int
    length: int
    whole: bool = True


class Side(Protocol):
    """A session with one pool; errors are those of ``kvpool.pool.Pool``."""

    keeps_expiry: bool
    """Whether entries of this pool can vanish by themselves at a set time."""

    def ask(self, keys: Sequence[str]) -> None:
        """Begin to watch entries; ``told`` must follow."""
        ...

    def told(self) -> list[Look | None]:
        """Return what each entry is that was asked about; None for none or half of one."""
        ...

    def look(self, keys: Sequence[str]) -> list[Look | None]:
        """Ask, and return what is told: for when there is nothing to do in between."""
        ...

    def fetch(self, pieces: Sequence[Piece], buffer: memoryview) -> list[memoryview]:
        """Read pieces into a buffer; returns each framed (``kvpool.resp``) within the buffer.

        Raises:
            OutOfStepError: a value is no longer as long; the session can go on.
        """
        ...

    def put(self, key: str, look: Look, framed: Iterable[memoryview]) -> None:
        """Prepare an entry: its value as one framed piece, or as pieces that follow each other.

        Nothing is visible before ``commit``. Pieces are used up when this returns, a single one
        when ``commit`` does.
        """
        ...

    def commit(self) -> bool:
        """Make what was put visible, each entry at once; False: someone else wrote one of them.

        After False single entries may have been written, and none of them in part.
        """
        ...

    def abandon(self) -> None:
        """Forget what was put, and stop watching."""
        ...

    def leave(self, remove: Sequence[str] = ()) -> bool:
        """Stop watching, after removing entries if nothing changed; False: something did."""
        ...

    def close(self) -> None:
        """End the session; what was put and not committed is dropped."""
        ...
