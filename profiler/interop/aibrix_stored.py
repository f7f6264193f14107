"""Read the GPU profiles that AIBrix's Redis holds, as throughput tables.

AIBrix scans ``aibrix:profile_{model}_*`` and so mixes up ``m`` with ``m_x``. Here a key is taken
apart from its end: a deployment's name holds no underscore. Where ``profile push`` left the table
that a profile was made of, that is returned.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from accelerators.errors import UsageError
from accelerators.names import resolve, words
from profiler.errors import ProfilerError, ProfilerUsageError
from profiler.interop.aibrix import from_profile, is_profile
from profiler.interop.checks import Imported
from profiler.interop.whole_table import digest, table_key, unwrap
from profiler.table import ThroughputTable

if TYPE_CHECKING:
    import redis

_KEY = re.compile(r"aibrix:profile_(.+)_([^_]+)", re.DOTALL)


@dataclass(frozen=True)
class StoredProfile:
    """One profile in Redis.

    Attributes:
        key: in Redis.
        namespace: that the profile's ``gpu`` names; None when it names none.
        table: the same as a table; its target is the deployment.
        digest: ``sha256:…`` of the value.
        warnings: what a table can't say, or what AIBrix will make of it.
    """

    key: str
    namespace: str | None
    table: ThroughputTable
    digest: str
    warnings: tuple[str, ...] = ()


def parse_key(key: str) -> tuple[str, str] | None:
    """Return the model and the deployment that a key names; None for other keys."""
    match = _KEY.fullmatch(key)
    return None if match is None else (match[1], match[2])


def list_profiles(client: "redis.Redis") -> dict[str, list[str]]:
    """Return the keys of the profiles that there are, by model."""
    found: dict[str, list[str]] = {}
    keys: Any = client.scan_iter("aibrix:profile_*", count=1000, _type="string")
    for key in {key.decode("utf-8", "replace") for key in keys}:
        if named := parse_key(key):
            found.setdefault(named[0], []).append(key)
    return {model: sorted(keys) for model, keys in sorted(found.items())}


def read_profiles(
    client: "redis.Redis", source: str, *, model: str | None = None
) -> tuple[StoredProfile, ...]:
    """Return the profiles of exactly one model, in order of key.

    Args:
        client: an open connection.
        source: how to name the Redis.
        model: as AIBrix names it; may be None where there are profiles of only one.

    Raises:
        ProfilerError: there is no profile at all.
        ProfilerUsageError: none of this model, several models and none named, or a value that is
            no profile.
    """
    keys = _keys_of(list_profiles(client), model, source)
    values: Any = client.mget([*keys, *map(table_key, keys)])
    profiles, wholes = values[: len(keys)], values[len(keys) :]
    return tuple(
        _read(key, raw, whole, source)
        for key, raw, whole in zip(keys, profiles, wholes, strict=True)
        if raw is not None
    )


def _keys_of(found: dict[str, list[str]], model: str | None, source: str) -> list[str]:
    names = ", ".join(found)
    if not found:
        raise ProfilerError(
            "profiles.none",
            f"{source} holds no GPU profiles",
            hint="publish tables with `aibrixctl profile push`",
            target=source,
        )
    if model is None and len(found) > 1:
        raise ProfilerUsageError(
            "profiles.model",
            f"{source} holds profiles of {len(found)} models: {names}",
            hint="name one with --model",
            target=source,
        )
    if model is not None and model not in found:
        raise ProfilerUsageError(
            "profiles.model",
            f"{source} holds no profiles of {model!r}; it holds those of {names}",
            hint="publish its tables with `aibrixctl profile push --model`",
            target=source,
        )
    return found[model] if model is not None else next(iter(found.values()))


def _read(key: str, raw: bytes, whole: bytes | None, source: str) -> StoredProfile:
    named = parse_key(key)
    assert named is not None
    model, deployment = named
    where = f"{source} {key}"
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise _no_profile(where, f"is not JSON: {error}") from error
    if not is_profile(document):
        raise _no_profile(where, "lacks gpu, tputs or indexes")
    namespace, _, gpu = str(document["gpu"]).rpartition("/")
    imported = _imported(document, raw, whole, where, model, deployment)
    warnings = list(imported.warnings)
    if gpu != deployment:
        warnings.append(
            f"{key} says gpu {document['gpu']!r}: AIBrix matches it with that deployment, not "
            f"with {deployment}"
        )
    return StoredProfile(
        key=key,
        namespace=namespace or None,
        table=replace(imported.table, target=deployment, model=model),
        digest=digest(raw),
        warnings=tuple(warnings),
    )


def _imported(
    document: Any, raw: bytes, whole: bytes | None, where: str, model: str, deployment: str
) -> Imported:
    """Return the table that the profile was made of, or what the profile itself says."""
    accelerator = accelerator_in(deployment)
    said = from_profile(document, where, model=model, accelerator=accelerator)
    try:
        table = unwrap(whole, raw)
    except UsageError as error:
        warning = f"the table beside {where} is not used: {error.message}"
        return replace(said, warnings=(*said.warnings, warning))
    if table is None:
        return said
    return Imported(replace(table, accelerator=table.accelerator or accelerator), said.warnings)


def _no_profile(where: str, what: str) -> ProfilerUsageError:
    return ProfilerUsageError(
        "profiles.malformed",
        f"{where} {what}",
        hint="publish the table again with `aibrixctl profile push`",
        target=where,
    )


def accelerator_in(deployment: str) -> str | None:
    """Return the accelerator that words of a deployment's name mean; None when none does.

    ``deepseek-coder-7b-l20`` means an L20. The longest run of words that names a type counts.
    """
    parts = deployment.split("-")
    runs = sorted(
        ((end - start, start, end) for start in range(len(parts)) for end in range(start + 1,
         len(parts) + 1)),
        key=lambda run: (-run[0], -run[1]),
    )  # fmt: skip
    return next((name for name in map(_named, _texts(parts, runs)) if name), None)


def _texts(parts: list[str], runs: Iterable[tuple[int, int, int]]) -> Iterable[str]:
    return ("-".join(parts[start:end]) for _, start, end in runs)


def _named(text: str) -> str | None:
    """Return the type that a text means, if it says a model with letters and digits."""
    if not any(re.search(r"[a-z]", word) and re.search(r"\d", word) for word in words(text)):
        return None
    try:
        return resolve(text).name
    except UsageError:
        return None
