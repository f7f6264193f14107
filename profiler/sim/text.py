"""A stand-in for a tokenizer: how many tokens a text is, and what generated tokens look like.

The rule: a word is one token for each started six letters or digits; every other visible
character is one token. English comes to about 1.3 tokens a word, as with common vocabularies.
"""

import re
from collections.abc import Sequence

_PIECE = re.compile(r"[^\W_]{1,6}|[^\w\s]|_")
# Eight tokens under the rule above; a generated text is these words over and over.
WORDS = (" and", " the", " engine", " that", " is", " not", " here", " said")


def count_tokens(text: str) -> int:
    """Return the tokens of a text; 0 for an empty one."""
    return sum(1 for _ in _PIECE.finditer(text))


def prompt_tokens(prompt: str | Sequence[int]) -> int:
    """Return the tokens of a prompt given as text or as token ids; a prompt has at least one."""
    return max(1, count_tokens(prompt) if isinstance(prompt, str) else len(prompt))


def generated_text(tokens: int) -> str:
    """Return the text of so many generated tokens."""
    cycles, rest = divmod(tokens, len(WORDS))
    return "".join(WORDS) * cycles + "".join(WORDS[:rest])
