"""``aibrixctl kv stats``: what is in a pool, counted."""

from typing import TYPE_CHECKING

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_options import PoolArgument, ReadHeaders
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import CaFile, Insecure
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.entry import PoolFacts


@command(
    "kv stats",
    examples=(
        ("aibrixctl kv stats lmcache+file:pool", "a directory of LMCache, by model"),
        ("aibrixctl kv stats lmcache+redis://127.0.0.1:6379/0 -o json", "a Redis, for a script"),
        ("aibrixctl kv stats aibrix+redis://127.0.0.1:6379/0", "which AIBrix node has which slots"),
    ),
)
def stats(
    pool: PoolArgument,
    headers: ReadHeaders = False,
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> Result:
    """Count what is in a KV cache pool: entries, bytes and tokens by model, tag, age and expiry.

    Values are never read, and a server is asked in small batches that leave its eviction order as
    it is. Orphaned halves, foreign keys and undecodable ones are counted apart. The hit rate is
    the server's own, over every client and key.
    """
    from accelerators.units import format_bytes
    from aibrixctl.kv_options import opened
    from kvpool.pool import require
    from kvpool.stats import collect

    reporter = session().reporter
    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
    ):
        if "scan" in place.limits:
            facts = place.describe()
            if not facts.nodes:
                require(place, "scan")
            return _facts_only(str(place.url), facts)
        with reporter.progress("counting") as bar:
            found = collect(
                place,
                depth="headers" if headers else "quiet",
                stop=stop,
                progress=lambda seen, states: bar.update(
                    seen,
                    text=f"{seen:,} entries, {format_bytes(sum(t.bytes for t in states.values()))}",
                ),
            )

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_view import draw_stats

        draw_stats(console, pool, found)

    document = {"url": pool, **found.to_json()}
    stopped = Problem("interrupted", "stopped before the whole pool was counted", pool)
    return Result(
        document,
        rows=document["groups"],
        record="group",
        view=view,
        status="success" if found.complete else "partial",
        exit_code=ExitCode.OK if found.complete else stop.exit_code,
        errors=() if found.complete else (stopped,),
    )


def _facts_only(url: str, facts: "PoolFacts") -> Result:
    """Return what a pool says of itself, for one whose entries can't be listed."""

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_view import draw_facts

        draw_facts(console, url, facts)

    described = facts.to_json()
    return Result(
        {"url": url, "pool": described}, rows=described["nodes"], record="node", view=view
    )
