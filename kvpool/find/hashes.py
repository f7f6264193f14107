"""Hash a prompt's tokens as LMCache and AIBrix do.

LMCache hashes a chunk with the hash of the one before it, beginning with a root: 0 without vLLM;
with vLLM, the hash of PYTHONHASHSEED as text. Digests are cut to their first eight bytes. AIBrix
hashes each block and mixes it with the hash before it (rolling), hashes all tokens up to its end
(simple), or takes these tokens themselves (raw).

Sources: ``lmcache/v1/token_database.py`` of LMCache 0.5.6, ``vllm/v1/core/kv_cache_utils.py`` and
``vllm/utils/hashing.py`` of vLLM 0.32, ``l2/key_builders`` and ``utils.py`` of aibrix-kvcache
0.8.0.
"""

import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kvpool.errors import KvPoolError, KvPoolUsageError

Algorithm = Literal["builtin", "sha256_cbor"]
ALGORITHMS: tuple[Algorithm, ...] = ("builtin", "sha256_cbor")
DEFAULT_SEED = "0"
_NO_SEED = "vllm-none-hash"
"""What vLLM 0.32 hashes for a root where PYTHONHASHSEED is not set."""
_MASK_128 = (1 << 128) - 1
_PRIME_128 = 0x1000000000000000000013B
_HASH_BYTES = 16


@dataclass(frozen=True)
class Scheme:
    """A way to make the hashes of LMCache's chunks.

    Attributes:
        algorithm: of one hash.
        root: what the first chunk is hashed with.
        about: of the root, for a person.
    """

    algorithm: Algorithm
    root: int
    about: str


def schemes(seed: str, algorithms: Sequence[Algorithm] = ALGORITHMS) -> list[Scheme]:
    """Return the schemes that engines with a PYTHONHASHSEED may use.

    Raises:
        KvPoolUsageError: Python takes no such seed.
        KvPoolError: the package that the only algorithm needs is not installed; of several, those
            that need one are left out.
    """
    _check_seed(seed)
    found = []
    if "builtin" in algorithms:
        found.append(Scheme("builtin", 0, "without vLLM's root"))
        found.append(Scheme("builtin", _text_hash(seed), f"PYTHONHASHSEED={seed}"))
    if "sha256_cbor" in algorithms:
        try:
            one = _sha256_cbor()
        except KvPoolError:
            if found:
                return found  # what was tried is said, and this is not in it
            raise
        found.append(Scheme("sha256_cbor", one(seed), f"PYTHONHASHSEED={seed}"))
        found.append(Scheme("sha256_cbor", one(_NO_SEED), "PYTHONHASHSEED unset"))
    return found


def chunk_hashes(tokens: Sequence[int], chunk_tokens: int, scheme: Scheme) -> Iterator[str]:
    """Yield the hash of each chunk as it stands in LMCache's keys; the last may not be full."""
    one: Callable[[Any], int] = hash if scheme.algorithm == "builtin" else _sha256_cbor()
    before = scheme.root
    for start in range(0, len(tokens), chunk_tokens):
        # Python hashes numbers and tuples alike everywhere; only text depends on the seed.
        before = one((before, tuple(tokens[start : start + chunk_tokens]), ()))
        yield f"{before:x}"


def block_keys(tokens: Sequence[int], block_tokens: int, builder: str) -> Iterator[str]:
    """Yield the key of each full block of AIBrix, in hexadecimal.

    Args:
        tokens: of the whole prompt.
        block_tokens: of one block.
        builder: as a ``conn_id`` names it: ``ro``, ``sim``, ``raw`` or ``hex``.

    Raises:
        KvPoolError: the package that hashes is not installed.
    """
    data = struct.pack(f"<{len(tokens)}i", *tokens)
    step = 4 * block_tokens
    ends = range(step, len(data) + 1, step)
    if builder in ("raw", "hex"):
        # "hex" takes the hexadecimal text itself for the key.
        yield from (
            (data[:end] if builder == "raw" else data[:end].hex().encode()).hex() for end in ends
        )
        return
    farm_hash = _farm_hash()
    before: int | None = None
    for end in ends:
        if builder == "sim":
            now = farm_hash(data[:end])
        else:
            now = farm_hash(data[end - step : end])
            now = now if before is None else _combined(before, now)
            before = now
        yield now.to_bytes(_HASH_BYTES, "big").hex()


def slot_hash(key: str) -> int:
    """Return what AIBrix's clients choose the node of a block's key by, modulo the slots.

    Raises:
        KvPoolError: the package that hashes is not installed.
    """
    return int(_farmhash_module().FarmHash64(bytes.fromhex(key)))


def _combined(before: int, now: int) -> int:
    mixed = (before ^ (now + _PRIME_128 + (before << 24) + (before >> 4))) & _MASK_128
    return (mixed * _PRIME_128) & _MASK_128


def _check_seed(seed: str) -> None:
    if not (seed.isascii() and seed.isdigit() and int(seed) < 1 << 32):
        raise KvPoolUsageError(
            "kv.find.seed",
            f"{seed!r} is no PYTHONHASHSEED that can be shared; expected 0 to 4294967295",
            hint="with a random seed, no two engines find each other's entries",
            target=seed,
        )


def _text_hash(seed: str) -> int:
    """Return the builtin hash of a seed's text, which only a Python started with it can tell."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sys; print(hash(sys.argv[1]))", seed],
        env=os.environ | {"PYTHONHASHSEED": seed},
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout)


def _sha256_cbor() -> Callable[[Any], int]:
    """Return SHA-256 over canonical CBOR, cut to 64 bits."""
    try:
        import cbor2
    except ImportError as error:
        raise _missing("cbor2", "hashing as sha256_cbor does") from error

    def one(what: Any) -> int:
        digest = hashlib.sha256(cbor2.dumps(what, canonical=True)).digest()
        return int.from_bytes(digest[:8], "big")

    return one


def _farm_hash() -> Callable[[bytes], int]:
    module = _farmhash_module()

    def one(data: bytes) -> int:
        return int(module.FarmHash128(data))

    return one


def _farmhash_module() -> Any:
    try:
        import farmhash
    except ImportError as error:
        raise _missing("cityhash", "hashing as AIBrix does") from error
    return farmhash


def _missing(package: str, what: str) -> KvPoolError:
    return KvPoolError(
        "kv.find.package",
        f"{what} takes the package {package}, which is not installed",
        hint="pip install 'aibrixctl[find]'",
        target=package,
    )
