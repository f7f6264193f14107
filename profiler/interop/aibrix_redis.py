"""Publish a GPU profile where AIBrix looks for it: Redis, key ``aibrix:profile_{model}_{name}``.

First a plan, read-only, that says what would change and what AIBrix would make of it; then the
write, which happens only while the key still holds what the plan saw.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from accelerators.errors import UnreachableError
from profiler.errors import EngineUnreachableError, ProfilerError, ProfilerUsageError
from profiler.interop.whole_table import table_key, wrap

if TYPE_CHECKING:
    import redis

    from profiler.table import ThroughputTable

_PREFIX = "aibrix:profile_"
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class PushPlan:
    """What a push would do.

    Attributes:
        key: in Redis.
        document: the profile.
        before: the profile there now; None when there is none or it isn't JSON.
        raw_before: the bytes there now, as the write expects them.
        changes: differences, one readable line each; empty when only the time changes.
        refusals: why the push should not happen.
        warnings: what AIBrix will get wrong.
        table: that the profile was made of.
    """

    key: str
    document: dict[str, Any]
    before: dict[str, Any] | None
    raw_before: bytes | None
    changes: tuple[str, ...]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    table: "ThroughputTable"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "key": self.key,
            "action": "replace" if self.raw_before is not None else "create",
            "changes": list(self.changes),
            "refusals": list(self.refusals),
            "profile": self.document,
        }


@contextmanager
def connected(url: str, password: str | None = None) -> "Iterator[redis.Redis]":
    """Connect to ``redis://[user@]host[:port][/db]`` (``rediss://`` for TLS) for the block.

    Raises:
        ProfilerUsageError: the URL is malformed or holds a password.
        EngineUnreachableError: nothing answers, or access is refused.
    """
    import redis

    parts = urlsplit(url)
    client = _client(url, password)
    place = f"{parts.hostname}:{parts.port or 6379}"
    try:
        client.ping()
        yield client
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise EngineUnreachableError(
            "redis.refused",
            f"Redis at {place} refuses access: {error}",
            hint="give the password with --password-file, the user in the URL",
            target=place,
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise _unreachable(place, str(error)) from error
    except redis.RedisError as error:
        raise ProfilerError(
            "redis.failed", f"Redis at {place} answers: {error}", target=place
        ) from error
    finally:
        client.close()


def _unreachable(place: str, why: str) -> UnreachableError:
    return EngineUnreachableError(
        "redis.unreachable",
        f"no Redis answers at {place}: {why}",
        hint="in a cluster: kubectl -n aibrix-system port-forward svc/aibrix-redis-master 6379",
        target=place,
    )


def _client(url: str, password: str | None) -> "redis.Redis":
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    form = "write redis://[USER@]HOST[:PORT][/DB], or rediss:// for TLS"
    parts = urlsplit(url)
    if parts.password is not None:
        raise ProfilerUsageError(
            "redis.secret",
            "the Redis URL holds a password",
            hint="put it into a file and name it with --password-file",
        )
    database = parts.path.strip("/") or "0"
    try:
        port = parts.port or 6379
    except ValueError:
        port = 0
    known = parts.scheme in ("redis", "rediss") and parts.hostname
    if not known or not port or not database.isdigit():
        raise ProfilerUsageError("redis.url", f"{url!r} is no Redis URL", hint=form, target=url)
    return redis.Redis(
        host=str(parts.hostname),
        port=port,
        db=int(database),
        username=unquote(parts.username) if parts.username else None,
        password=password,
        ssl=parts.scheme == "rediss",
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def profile_key(model: str, deployment: str) -> str:
    """Return the key of a profile; AIBrix leaves the namespace out of it."""
    return f"{_PREFIX}{model}_{deployment.rpartition('/')[2]}"


def plan_pushes(
    client: "redis.Redis", profiles: "Sequence[tuple[dict[str, Any], str, ThroughputTable]]"
) -> list[PushPlan]:
    """Return what writing profiles together would do; changes nothing.

    Args:
        client: an open connection.
        profiles: a profile, as ``profiler.interop.aibrix.to_profile`` makes it, the name under
            which AIBrix serves its model (``model.aibrix.ai/name``), and the profile's table.

    Raises:
        ProfilerUsageError: two of the profiles have the same key.
    """
    together: dict[str, dict[str, Any]] = {}
    for document, model, _ in profiles:
        key = profile_key(model, str(document["gpu"]))
        if key in together:
            raise ProfilerUsageError(
                "push.twice",
                f"two of the tables would be written to {key}",
                hint="push them one by one, with --deployment for one of them",
                target=key,
            )
        together[key] = document
    everyone = sorted((_profiles(client) | together).items())
    return [_plan(client, *profile, everyone) for profile in profiles]


def _plan(
    client: "redis.Redis",
    document: dict[str, Any],
    model: str,
    table: "ThroughputTable",
    everyone: Sequence[tuple[str, dict[str, Any] | None]],
) -> PushPlan:
    """Return the plan for one profile among all that will be there."""
    key = profile_key(model, str(document["gpu"]))
    raw: Any = client.get(key)
    before = _parsed(raw)
    refusals, warnings = [], []
    if raw is not None and before is None:
        warnings.append(f"{key} holds no JSON object now; it will be replaced")
    created = before.get("created") if before else None
    if isinstance(created, int | float) and created >= document["created"]:
        now = document["created"]
        refusals.append(f"{key} was created at {created:.3f}, not before this profile ({now:.3f})")
    for name, other in everyone:
        if name == key:
            continue
        served = _model_of(name, other)
        if served == model:
            refusals += _unlike(key, document, name, other)
        elif served is not None:
            warnings += _mixed_up(model, served, name)
    return PushPlan(
        key=key,
        document=document,
        before=before,
        raw_before=raw,
        changes=tuple(_changes(before or {}, document)),
        refusals=tuple(refusals),
        warnings=tuple(warnings),
        table=table,
    )


def push(client: "redis.Redis", plan: PushPlan) -> None:
    """Write the profile of a plan, and its table beside it, both or neither.

    Raises:
        ProfilerError: the key no longer holds what the plan saw.
    """
    import redis

    text = json.dumps(plan.document, sort_keys=True, allow_nan=False)
    with client.pipeline() as pipe:
        try:
            pipe.watch(plan.key)  # type: ignore[no-untyped-call]
            if pipe.get(plan.key) != plan.raw_before:
                raise redis.WatchError
            pipe.multi()
            pipe.set(plan.key, text)
            pipe.set(table_key(plan.key), wrap(plan.table, text.encode()))
            pipe.execute()
        except redis.WatchError as error:
            raise ProfilerError(
                "redis.changed",
                f"{plan.key} changed in the meantime; nothing was written",
                hint="look at it with --dry-run, then push again",
                target=plan.key,
            ) from error


def _parsed(raw: Any) -> dict[str, Any] | None:
    try:
        document = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _profiles(client: "redis.Redis") -> dict[str, dict[str, Any] | None]:
    """Return every string under AIBrix's prefix, as JSON; None where it isn't an object."""
    keys: Any = client.scan_iter(f"{_PREFIX}*", _type="string")
    return {key.decode("utf-8", "replace"): _parsed(client.get(key)) for key in keys}


def _model_of(key: str, document: dict[str, Any] | None) -> str | None:
    """Return the model of another profile's key; None when its ``gpu`` doesn't tell."""
    gpu = str((document or {}).get("gpu", "")).rpartition("/")[2]
    rest = key.removeprefix(_PREFIX)
    return rest.removesuffix(f"_{gpu}") if gpu and rest.endswith(f"_{gpu}") else None


def _unlike(
    key: str, document: dict[str, Any], name: str, other: dict[str, Any] | None
) -> list[str]:
    if other is None or other.get("indexes") == document["indexes"]:
        return []
    return [
        f"{name} has buckets {other.get('indexes')}, {key} would have {document['indexes']}: "
        "AIBrix skips a GPU whose buckets differ from the model's others"
    ]


def _mixed_up(model: str, served: str, name: str) -> list[str]:
    """Warn where AIBrix's scan for one model finds the profiles of another."""
    if served.startswith(f"{model}_"):
        return [f"AIBrix scans {_PREFIX}{model}_*, so it will take {name} for model {model!r} too"]
    if model.startswith(f"{served}_"):
        return [f"AIBrix scans {_PREFIX}{served}_*, so it will take this for model {served!r} too"]
    return []


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if name == "created" or old == new:
            continue
        if old is not None and new is not None and isinstance(new, list) and name != "indexes":
            lines.append(f"{name}: {_cells_changed(old, new)}")
        else:
            lines.append(f"{name}: {_short(old)} -> {_short(new)}")
    return lines


def _cells_changed(old: Any, new: list[list[float]]) -> str:
    flat_old = [value for row in old for value in row] if _is_matrix(old) else []
    flat_new = [value for row in new for value in row]
    if len(flat_old) != len(flat_new):
        return "another shape"
    pairs = list(zip(flat_old, flat_new, strict=True))
    moved = [(a, b) for a, b in pairs if a != b]
    worst = max(moved, key=lambda pair: abs(pair[1] - pair[0]))
    return f"{len(moved)} of {len(pairs)} cells, most {worst[0]:g} -> {worst[1]:g}"


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and all(isinstance(x, int | float) for x in row) for row in value
    )


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
