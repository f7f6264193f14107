"""What a scan tells of a pool's hazards, kept in memory that does not grow with the pool."""

from collections import Counter
from collections.abc import Hashable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from kvpool import aibrix, lmcache
from kvpool.aibrix import BlockSpace
from kvpool.doctor.finding import Sample
from kvpool.entry import Entry
from kvpool.listing import length_faults
from kvpool.selection import age_s

MOST_GROUPS = 1000
"""Models, ranks and name spaces that are told apart; what comes later is only counted."""
MOST_SHAPES = 16
_SIGN_BIT = 1 << 63
_Name = TypeVar("_Name", bound=Hashable)
_Thing = TypeVar("_Thing")
Shape = tuple[str, tuple[tuple[int | None, ...], ...]]
"""Layout and dimensions of an entry, with None for the tokens."""
ShapeName = tuple[str, int | None, int | None, str | None, int | None]
"""Model, world size, rank, dtype and layer: entries of one such name must have one shape."""


@dataclass
class Hashes:
    """Chunk hashes of one model, by what they tell of the algorithm."""

    negative: Sample = field(default_factory=Sample)
    beyond_signed: Sample = field(default_factory=Sample)

    def add(self, entry: Entry) -> None:
        """Count an entry where its hash can be of one algorithm only."""
        text = entry.chunk_hash or "0"
        if text.startswith("-"):
            self.negative.add(entry)
        elif len(text) == 16 and int(text, 16) >= _SIGN_BIT:
            self.beyond_signed.add(entry)


@dataclass
class Space:
    """Blocks of one ``conn_id``.

    Attributes:
        space: the name, taken apart.
        sizes: blocks by length, the first ``MOST_SHAPES`` lengths apart.
        smallest, largest: of all its blocks.
    """

    space: BlockSpace
    sizes: Counter[int] = field(default_factory=Counter)
    smallest: Entry | None = None
    largest: Entry | None = None

    def add(self, entry: Entry) -> None:
        """Count a block."""
        if entry.bytes in self.sizes or len(self.sizes) < MOST_SHAPES:
            self.sizes[entry.bytes] += 1
        if self.smallest is None or entry.bytes < self.smallest.bytes:
            self.smallest = entry
        if self.largest is None or entry.bytes > self.largest.bytes:
            self.largest = entry


@dataclass
class Census:
    """What a scan found.

    Attributes:
        is_local: whether entries are files; lone halves are then temporary files.
        min_age_s: what is younger may still be at work on.
        scanned: entries of every state; whole: those that readers would take.
        in_flight: halves and temporary files younger than ``min_age_s``.
        orphans: the older ones; of unknown age too.
        without_header: whole LMCache entries whose header was not read.
        expiring, lasting: whole entries with and without an expiry.
        groups_left_out: entries of names beyond ``MOST_GROUPS``.
    """

    is_local: bool
    min_age_s: float
    scanned: int = 0
    whole: int = 0
    in_flight: int = 0
    half_data: Sample = field(default_factory=Sample)
    half_header: Sample = field(default_factory=Sample)
    temporary: Sample = field(default_factory=Sample)
    undecodable: Sample = field(default_factory=Sample)
    incomplete: Sample = field(default_factory=Sample)
    foreign: Sample = field(default_factory=Sample)
    length: Sample = field(default_factory=Sample)
    truncated: Sample = field(default_factory=Sample)
    dtype: Sample = field(default_factory=Sample)
    without_header: int = 0
    expiring: int = 0
    lasting: Sample = field(default_factory=Sample)
    shapes: dict[ShapeName, dict[Shape, Sample]] = field(default_factory=dict)
    hashes: dict[str, Hashes] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)
    groups_left_out: int = 0

    def add(self, batch: Sequence[Entry], now_s: float) -> None:
        """Count a batch of a scan."""
        self.scanned += len(batch)
        for entry in batch:
            match entry.state:
                case "orphan":
                    self._add_orphan(entry, now_s)
                case "undecodable":
                    self.undecodable.add(entry, entry.reason)
                case "foreign":
                    self.foreign.add(entry, entry.reason)
                case "whole":
                    self._add_whole(entry)

    def _add_orphan(self, entry: Entry, now_s: float) -> None:
        since_s = age_s(entry, now_s)
        # A writer puts the data down first: metadata alone is never at work on.
        may_be_written = self.is_local or entry.has_data
        if may_be_written and since_s is not None and since_s < self.min_age_s:
            self.in_flight += 1
        elif self.is_local:
            self.temporary.add(entry)
        elif entry.has_data and entry.has_header:
            self.incomplete.add(entry, entry.reason)
        elif entry.has_data:
            self.half_data.add(entry)
        else:
            self.half_header.add(entry)

    def _add_whole(self, entry: Entry) -> None:
        self.whole += 1
        if entry.expires_s is None:
            self.lasting.add(entry)
        else:
            self.expiring += 1
        if entry.namespace is not None:
            self._add_block(entry)
        elif entry.model is not None:
            self._add_chunk(entry, entry.model)

    def _add_chunk(self, entry: Entry, model: str) -> None:
        hashes = self._of(self.hashes, model, Hashes())
        if hashes is not None:
            hashes.add(entry)
        header = entry.header
        if header is None:
            self.without_header += 1
            return
        faults = list(length_faults(entry))
        if faults:
            is_short = entry.value_bytes is not None and entry.value_bytes < header.value_bytes
            (self.truncated if is_short else self.length).add(entry, faults[-1])
            return
        if header.layout in lmcache.BINARY_LAYOUTS:
            return
        stated = {group.dtype for group in header.groups}
        if entry.dtype not in stated:
            self.dtype.add(entry, f"its header says {', '.join(sorted(stated))}")
        self._add_shape(entry, model)

    def _add_shape(self, entry: Entry, model: str) -> None:
        assert entry.header is not None
        layer = entry.layers[0] if entry.layers and entry.layers[0] == entry.layers[1] else None
        name = (model, entry.world_size, entry.worker_id, entry.dtype, layer)
        shapes = self._of(self.shapes, name, {})
        if shapes is None:
            return
        token_dim = lmcache.TOKEN_DIM.get(entry.header.layout)
        dims = tuple(
            tuple(None if at == token_dim else size for at, size in enumerate(group.shape))
            for group in entry.header.groups
        )
        shape = (entry.header.layout, dims)
        if shape in shapes or len(shapes) < MOST_SHAPES:
            shapes.setdefault(shape, Sample()).add(entry)

    def _add_block(self, entry: Entry) -> None:
        assert entry.namespace is not None
        parsed = aibrix.parse_conn_id(entry.namespace)
        space = None if parsed is None else self._of(self.spaces, entry.namespace, Space(parsed))
        if space is None:
            return
        step = space.space.elements_per_head_dim
        if not space.space.has_tokens and (not entry.bytes or entry.bytes % step):
            self.truncated.add(entry, f"its {entry.bytes:,} bytes are no multiple of {step:,}")
            return
        space.add(entry)

    def _of(
        self, groups: MutableMapping[_Name, _Thing], name: _Name, fresh: _Thing
    ) -> _Thing | None:
        """Return the group of a name; None where there are too many already."""
        if name not in groups and len(groups) >= MOST_GROUPS:
            self.groups_left_out += 1
            return None
        return groups.setdefault(name, fresh)
