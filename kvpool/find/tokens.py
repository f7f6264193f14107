"""A prompt's token ids: from a file of them, or from text and a tokenizer."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvpool.errors import KvPoolError, KvPoolUsageError

_MOST_ID = (1 << 31) - 1


def read_tokens(path: Path) -> list[int]:
    """Return token ids from a JSON list, or from numbers between spaces, commas or lines.

    Raises:
        KvPoolUsageError: the file can't be read, or holds something else.
    """
    text = _read(path)
    try:
        items: Any = json.loads(text) if text.lstrip()[:1] == "[" else re.split(r"[\s,]+", text)
        tokens = [_token(item) for item in items if item != ""]
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_tokens(path, str(error)) from error
    if not tokens:
        raise _no_tokens(path, "it is empty")
    if min(tokens) < 0 or max(tokens) > _MOST_ID:
        raise _no_tokens(path, "a token id is negative or beyond 31 bits")
    return tokens


def tokenize(path: Path, tokenizer: str, *, special: bool = True) -> list[int]:
    """Return the token ids of a text, as an engine's completion endpoint makes them.

    Args:
        path: of the prompt, UTF-8, as the engine gets it: a chat template is not applied.
        tokenizer: a tokenizer.json, a folder with one, or a name on the Hugging Face hub.
        special: whether to add the tokens that the tokenizer puts around a text.

    Raises:
        KvPoolUsageError: the prompt can't be read.
        KvPoolError: the tokenizer can't be had.
    """
    text = _read(path)
    tokens: Sequence[int] = _tokenizer(tokenizer).encode(text, add_special_tokens=special).ids
    if not tokens:
        raise _no_tokens(path, "it is empty")
    return list(tokens)


def _tokenizer(name: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise KvPoolError(
            "kv.find.package",
            "tokenizing takes the package tokenizers, which is not installed",
            hint="pip install 'aibrixctl[find]', or give token ids with --tokens",
            target="tokenizers",
        ) from error
    place = Path(name)
    file = place / "tokenizer.json" if place.is_dir() else place
    try:
        # Both raise plain exceptions for whatever is wrong.
        return Tokenizer.from_file(str(file)) if file.exists() else Tokenizer.from_pretrained(name)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KvPoolError(
            "kv.find.tokenizer",
            f"no tokenizer can be made of {name!r}: {reason}",
            hint="name a tokenizer.json, a folder with one, or a model on the Hugging Face hub",
            target=name,
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise KvPoolUsageError(
            "kv.find.file", f"cannot read {path}: {reason}", target=str(path)
        ) from error


def _token(item: Any) -> int:
    # int() would take 3.7 for 3 and true for 1, and the hashes of another prompt be looked for.
    if not isinstance(item, str) and type(item) is not int:
        raise TypeError(f"{item!r} is no whole number")
    return int(item)


def _no_tokens(path: Path, why: str) -> KvPoolUsageError:
    return KvPoolUsageError(
        "kv.find.tokens",
        f"{path} holds no token ids: {why}",
        hint="expected a JSON list of numbers, or numbers between spaces or lines",
        target=str(path),
    )
