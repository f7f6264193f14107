"""Find the accelerator that a loosely written name means.

Accepted are the canonical name, the names that drivers and Kubernetes labels give, and the words
of a name in any order with any punctuation: ``A100-80GB-SXM``, ``NVIDIA A100-SXM4-80GB``,
``h100``. A name that fits several types means the one that lists it under ``default_for``;
without one it is refused.
"""

import difflib
import re
from collections.abc import Mapping

from accelerators.catalog import Accelerator, load_catalog
from accelerators.errors import UsageError

_NOISE = {"nvidia", "tesla", "geforce", "huawei", "gpu", "npu", "edition", "hbm2", "hbm2e", "hbm3"}
_OPTIONAL = {"rtx", "ascend"}
_FORM = re.compile(r"^(sxm|pcie?|pci-?e)\d*$")
_MEMORY = re.compile(r"^(\d+)g(i?b)?$")


def words(name: str) -> frozenset[str]:
    """Return the words of a name that tell types apart, in one spelling each.

    ``NVIDIA A100-SXM4-80GB`` and ``a100 80g sxm`` both give a100, 80g and sxm.
    """
    spaced = re.sub(r"(rtx|ascend)(?=\d)", r"\1 ", name.lower())
    spaced = re.sub(r"(\d+)\s*gi?b\b", r" \1g ", spaced)
    found = set()
    for word in re.split(r"[^a-z0-9]+", spaced):
        form, memory = _FORM.match(word), _MEMORY.match(word)
        if form:
            found.add("sxm" if form[1] == "sxm" else "pcie")
        elif memory:
            found.add(f"{memory[1]}g")
        elif word and word not in _NOISE:
            found.add(word)
    return frozenset(found)


def _fits(query: frozenset[str], type_: Accelerator) -> bool:
    qualifiers = frozenset(type_.qualifiers)
    model = words(type_.name) - qualifiers
    return model - _OPTIONAL <= query <= model | qualifiers


def resolve(name: str, types: Mapping[str, Accelerator] | None = None) -> Accelerator:
    """Return the type that ``name`` means.

    Args:
        name: as a person, a driver or a label writes it.
        types: the catalogue; the built-in one by default.

    Raises:
        UsageError: no type fits (with the nearest names), or several do (with all of them).
    """
    known = load_catalog() if types is None else types
    query = words(name)
    for type_ in known.values():
        names = (type_.name, *type_.aliases, *type_.default_for)
        if name in names or query in map(words, names):
            return type_
    fitting = [type_ for type_ in known.values() if _fits(query, type_)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        candidates = ", ".join(type_.name for type_ in fitting)
        raise UsageError(
            "accelerators.ambiguous",
            f"{name!r} fits several accelerators: {candidates}",
            hint="name one of them",
            target=name,
        )
    raise UsageError("accelerators.unknown", _unknown(name, known), hint=_hint(), target=name)


def _hint() -> str:
    return "`aibrixctl accelerators list` shows all; a file can add more types"


def _unknown(name: str, known: Mapping[str, Accelerator]) -> str:
    spelled = "-".join(sorted(words(name)))
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    near = near or difflib.get_close_matches(spelled, known, n=3, cutoff=0.6)
    suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{name!r} is no known accelerator{suggestion}"
