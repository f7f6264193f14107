"""Read traces that name the blocks of every prompt, and cut small samples out of large ones.

A trace is JSON Lines with ``hash_ids``: one id per block of the prompt, equal ids for equal
prefixes. Sources: Mooncake's FAST'25 release (512 tokens a block), Alibaba's Qwen-Bailian traces
(16 tokens a block).
"""

import gzip
import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvpool.errors import KvPoolUsageError

Ints = NDArray[np.int64]
_LINES_PER_LOOK = 20_000
_MOST_OF_A_SAMPLE = 0.01
"""No group of requests that is sampled as a whole may be more of the sample, or chance rules,"""
_TURNS = 16
"""but the turns of one conversation are kept together."""
_BLOCK_TOKENS_KNOWN = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class BlockTrace:
    """The accesses to blocks, request by request.

    Attributes:
        source: the file.
        blocks: of every access, in order; ids run from 0 without holes.
        starts: index into ``blocks`` at which each request begins, and their number at the end.
        distinct: number of ids.
        fitting_block_tokens: tokens of a block that fit the trace's ``input_length``; None where
            no usual size does, or the trace has no lengths.
    """

    source: str
    blocks: Ints
    starts: Ints
    distinct: int
    fitting_block_tokens: int | None = None

    @property
    def accesses(self) -> int:
        """Number of accesses to blocks."""
        return len(self.blocks)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.starts) - 1

    @property
    def request_of(self) -> Ints:
        """Number of the request of every access."""
        return np.repeat(np.arange(self.requests), np.diff(self.starts))


def read_trace(path: str | os.PathLike[str], stop: Callable[[], bool] | None = None) -> BlockTrace:
    """Return the trace of a JSON Lines file, which gzip may have packed.

    Args:
        path: of the file.
        stop: asked now and then; where it says True, what was read so far is returned.

    Raises:
        KvPoolUsageError: unreadable, or a line is not JSON or has no whole numbers in
            ``hash_ids``; names the line. Also for a trace without a single block.
    """
    source = str(path)
    ids, lengths, inputs = array("q"), array("q"), array("q")
    with _opened(source) as file:
        for number, row in _rows(file, source):
            try:
                found = row["hash_ids"]
                ids.extend(found)
            except (KeyError, TypeError, OverflowError) as error:
                raise _refuse(source, number, error) from error
            lengths.append(len(found))
            size = row.get("input_length")
            inputs.append(size if isinstance(size, int) and 0 <= size < 1 << 62 else 0)
            if number % _LINES_PER_LOOK == 0 and stop is not None and stop():
                break
    if not ids:
        raise KvPoolUsageError(
            "kv.trace.empty", f"{source} names no blocks; expected hash_ids", target=source
        )
    distinct, blocks = _renumbered(np.frombuffer(ids, np.int64))
    sizes = np.frombuffer(lengths, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    fitting = _fitting(np.frombuffer(inputs, np.int64), sizes)
    return BlockTrace(source, blocks, starts, distinct, fitting)


def _renumbered(ids: Ints) -> tuple[int, Ints]:
    """Return how many distinct ids there are, and the ids numbered from 0 in their order."""
    low, high = int(ids.min()), int(ids.max())
    if high - low > 4 * len(ids):
        distinct, numbers = np.unique(ids, return_inverse=True)
        return len(distinct), numbers.astype(np.int64)
    present = np.zeros(high - low + 1, np.int64)
    present[ids - low] = 1
    numbers = np.cumsum(present) - 1
    return int(numbers[-1]) + 1, numbers[ids - low]


def _rows(file: BufferedIOBase, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import orjson

    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            cut = "" if line.endswith(b"\n") else "; the file is cut short there"
            raise KvPoolUsageError(
                "kv.trace.not_json",
                f"{source} line {number} is not JSON: {error}{cut}",
                hint="get the file again or delete the line",
                target=source,
            ) from error
        if not isinstance(row, dict):
            raise _refuse(source, number, TypeError("no JSON object"))
        yield number, row


def _refuse(source: str, number: int, error: Exception) -> KvPoolUsageError:
    found = "no hash_ids" if isinstance(error, KeyError) else str(error)
    return KvPoolUsageError(
        "kv.trace.columns",
        f"{source} line {number}: {found}; expected hash_ids with a whole number per block",
        hint="give a trace such as Mooncake's: JSON Lines with hash_ids",
        target=source,
    )


@contextmanager
def _opened(source: str) -> Iterator[BufferedIOBase]:
    try:
        with Path(source).open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            yield gzip.GzipFile(fileobj=raw) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise KvPoolUsageError(
            "kv.trace.damaged", f"{source}: {error}", hint="get the file again", target=source
        ) from error
    except OSError as error:
        raise KvPoolUsageError(
            "kv.trace.unreadable", f"cannot read {source}: {error.strerror}", target=source
        ) from error


def _fitting(input_tokens: Ints, blocks: Ints) -> int | None:
    """Return the block size at which nearly all prompts have as many blocks as ids."""
    told = (input_tokens > 0) & (blocks > 0)
    if not told.any():
        return None
    tokens, counts = input_tokens[told], blocks[told]
    for size in _BLOCK_TOKENS_KNOWN:
        fits = (counts == tokens // size) | (counts == -(-tokens // size))
        if fits.mean() > 0.95:
            return size
    return None


def sample(trace: BlockTrace, accesses: int, seed: int = 0) -> BlockTrace:
    """Return whole requests of a trace, about so many accesses, chosen by what they share.

    Sampling by block, as SHARDS does, would tear prompts apart and lose what a prefix hit is. So
    requests are grouped by the first block of theirs that few others have, and each group stays or
    goes as a whole, by a hash: everything that shares more than a common opening stays together.

    Source of sampling by hash: Waldspurger et al., "Cache Modeling and Optimization using
    Miniature Simulations", USENIX ATC 2017.
    """
    if trace.accesses <= accesses:
        return trace
    counts = np.bincount(trace.blocks, minlength=trace.distinct)
    share = accesses / trace.accesses
    few = max(share * trace.requests * _MOST_OF_A_SAMPLE, _TURNS)
    sizes = np.diff(trace.starts)
    filled = sizes > 0
    begins = trace.starts[:-1][filled]
    position = np.where(counts[trace.blocks] <= few, np.arange(trace.accesses), trace.accesses)
    first_rare = np.minimum.reduceat(position, begins)
    last = begins + sizes[filled] - 1
    group = trace.blocks[np.minimum(first_rare, last)]
    kept_groups = _hashed(group, seed) < share
    kept = np.zeros(trace.requests, bool)
    kept[np.flatnonzero(filled)[kept_groups]] = True
    return _only(trace, kept)


def _hashed(values: Ints, seed: int) -> NDArray[np.float64]:
    """Return evenly spread numbers in 0 to 1, the same for the same value (splitmix64)."""
    mixed = values.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % (1 << 64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed / float(1 << 64)


def _only(trace: BlockTrace, kept: NDArray[np.bool_]) -> BlockTrace:
    sizes = np.diff(trace.starts)
    distinct, blocks = _renumbered(trace.blocks[np.repeat(kept, sizes)])
    starts = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
    return BlockTrace(trace.source, blocks, starts, distinct, trace.fitting_block_tokens)
