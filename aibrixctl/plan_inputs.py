"""Tables and workloads of a plan, from files or from AIBrix's Redis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accelerators.errors import UsageError
from aibrixctl.redis_access import is_redis, open_redis, redis_source

if TYPE_CHECKING:
    from optimizer.from_tables import Source
    from optimizer.workload import Workload


@dataclass(frozen=True)
class RedisChoice:
    """What to take from a Redis: the model, the window, and how to get in."""

    model: str | None = None
    window: str | None = None
    password: str | None = None

    @property
    def window_s(self) -> float | None:
        """Seconds; None for all that is kept."""
        from aibrixctl import quantities

        if self.window is None:
            return None
        seconds = quantities.duration("--window", self.window)
        if seconds <= 0:
            raise UsageError("option.window", "--window is 0; expected more than 0")
        return seconds


def load_sources(places: Sequence[str], choice: RedisChoice) -> "tuple[Source, ...]":
    """Return throughput tables from files, folders and Redis, one per target.

    Raises:
        UsageError: unreadable, malformed, or two tables of one target.
        ToolError: a Redis does not answer or has no profile of the model.
    """
    from optimizer.from_tables import load_tables, one_per_target

    files = [place for place in places if not is_redis(place)]
    found = list(load_tables(files)) if files else []
    for url in places:
        if is_redis(url):
            found += stored_tables(url, choice)
    return one_per_target(found)


def stored_tables(url: str, choice: RedisChoice) -> "list[Source]":
    """Return AIBrix's profiles of the model as tables."""
    from optimizer.from_tables import Source
    from profiler.interop.aibrix_stored import read_profiles

    name = redis_source(url)
    with open_redis(url, choice.password) as client:
        profiles = read_profiles(client, name, model=choice.model)
    return [
        Source(
            stored.table,
            f"{name} {stored.key}",
            stored.digest,
            stored.warnings,
            f"{stored.namespace}/{stored.table.target}" if stored.namespace else None,
        )
        for stored in profiles
    ]


def of_one_model(
    choice: RedisChoice, places: Sequence[str], sources: "Sequence[Source]", workload: str
) -> RedisChoice:
    """Return the choice with the model whose tables were read, where none was named.

    Traffic of another model is then not planned for, be it the only one there.

    Raises:
        UsageError: a model is named, and nothing is read from a Redis.
    """
    if choice.model is not None and not any(map(is_redis, [*places, workload])):
        raise UsageError("option.model", "--model is for redis://, and only files are given")
    if choice.model is not None or not any(map(is_redis, [*places, workload])):
        return choice
    stored = (source for source in sources if is_redis(source.path))
    return replace(choice, model=next(stored, sources[0]).table.model)


def load_workload(
    place: str, choice: RedisChoice, *, format_name: str | None, request_rate: float | None
) -> "Workload":
    """Return a workload from a file, or from the gateway's live traces in a Redis.

    Raises:
        UsageError: unreadable or malformed, or options that are for the other kind.
        ToolError: a Redis does not answer or has no traffic.
    """
    if is_redis(place):
        return _live(place, choice, format_name, request_rate)
    if choice.window is not None:
        raise UsageError("option.window", f"--window is for redis://, and {place} is a file")
    from optimizer.workload import read

    return read(place, format_name=format_name, request_rate=request_rate)


def _live(
    url: str, choice: RedisChoice, format_name: str | None, request_rate: float | None
) -> "Workload":
    from optimizer.live.gateway import read_traffic
    from optimizer.live.traffic import workload

    if format_name is not None:
        raise UsageError("option.format", "a format is for files; live traces have their own")
    if request_rate is not None and not 0 < request_rate < float("inf"):
        raise UsageError("workload.rate", f"the rate is {request_rate:g}; expected more than 0")
    window_s = choice.window_s
    with open_redis(url, choice.password) as client:
        traffic = read_traffic(client, redis_source(url), model=choice.model, window_s=window_s)
    return workload(traffic, request_rate)
