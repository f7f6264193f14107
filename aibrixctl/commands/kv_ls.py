"""``aibrixctl kv ls | show``: the entries of a pool, and one of them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_options import MinSize, Models, OlderThan, PoolArgument, ReadHeaders, Tags
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import CaFile, Insecure
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.entry import Entry

_STATES = ("whole", "orphan", "foreign", "undecodable")
_SORTS = ("key", "size", "age", "expiry")


@command(
    "kv ls",
    examples=(
        ("aibrixctl kv ls lmcache+file:pool --sort size --limit 10", "the ten largest"),
        (
            "aibrixctl kv ls lmcache+file:pool --model 'demo/*' --older-than 1d -o jsonl",
            "what is older than a day, one record a line",
        ),
        ("aibrixctl kv ls lmcache+file:pool --state orphan -o wide", "what a dead writer left"),
    ),
)
def ls(
    pool: PoolArgument,
    model: Models = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="|".join(_STATES),
            help="In this state; whole by default. Repeatable.",
            autocompletion=one_of(*_STATES),
        ),
    ] = None,
    tag: Tags = None,
    min_size: MinSize = None,
    older_than: OlderThan = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="|".join(_SORTS),
            help="Largest, oldest, or soonest to expire first; key is alphabetical.",
            autocompletion=one_of(*_SORTS),
        ),
    ] = "key",
    limit: Annotated[
        int,
        typer.Option("--limit", min=0, help="At most so many; 0 for all, which stay in memory."),
    ] = 100,
    headers: ReadHeaders = False,
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> Result:
    """List the entries of a KV cache pool.

    The whole pool is scanned, and no more than --limit entries are kept at any time. Hashes are cut
    short in the table; -o wide has whole keys. `kv show` takes a key, or the start of a hash.
    """
    import time

    from aibrixctl.kv_options import opened, selection
    from kvpool.listing import first, parse_order
    from kvpool.pool import require

    order = parse_order(sort)
    chosen = selection(
        models=model,
        states=state or ("whole",),
        tags=tag,
        min_size=min_size,
        older_than=older_than,
    )
    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
        session().reporter.progress("listing") as bar,
    ):
        require(place, "scan")
        if older_than is not None:
            require(place, "age")
        found = first(
            place,
            chosen,
            order=order,
            limit=limit,
            depth="headers" if headers else "quiet",
            stop=stop,
            progress=lambda seen: bar.update(seen, text=f"{seen:,} entries"),
        )
    now_s = time.time()

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_view import draw_entries

        draw_entries(console, found.entries, now_s, wide=wide)

    warnings = []
    if len(found.entries) < found.matching:
        text = f"{len(found.entries):,} of {found.matching:,} entries shown"
        warnings.append(Problem("kv.limit", text, hint="--limit 0 shows all"))
    stopped = Problem("interrupted", "stopped before the whole pool was seen", pool)
    rows = [entry.to_json() for entry in found.entries]
    return Result(
        {"url": pool, "matching": found.matching, "complete": found.complete, "entries": rows},
        rows=rows,
        record="entry",
        view=view,
        status="success" if found.complete else "partial",
        exit_code=ExitCode.OK if found.complete else stop.exit_code,
        errors=() if found.complete else (stopped,),
        warnings=tuple(warnings),
    )


@command(
    "kv show",
    examples=(
        (
            "aibrixctl kv show lmcache+file:pool demo/code-3b@1@0@179543b08e23150c@half",
            "one entry by its key",
        ),
        ("aibrixctl kv show lmcache+file:pool 179543b0", "the start of its hash will do"),
    ),
)
def show(
    pool: PoolArgument,
    key: Annotated[
        str, typer.Argument(metavar="KEY|HASH", help="Whole key, or the start of its hash.")
    ],
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> Result:
    """Show one entry: where it comes from, shape, dtype, layers, tokens, expiry and a checksum.

    This reads the value, for its length and SHA-256, and for the tokens that AIBrix stores behind a
    block.
    """
    from aibrixctl.kv_options import opened
    from kvpool.listing import details_of, resolve

    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
    ):
        entry = resolve(place, key, stop=stop)
        if entry is None:
            problem = Problem("interrupted", "stopped before the key was found", pool)
            return Result(None, status="error", exit_code=stop.exit_code, errors=(problem,))
        details = details_of(place, entry)
        may_be_evicted = place.describe().evicts_lasting
    document = {"url": pool, "entry": entry.to_json(), **details.to_json()}

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_view import draw_entry

        draw_entry(console, entry, details, may_be_evicted=may_be_evicted)

    return Result(document, rows=[_flat(entry, details.to_json())], record="entry", view=view)


def _flat(entry: "Entry", more: dict[str, Any]) -> dict[str, Any]:
    return entry.to_json() | more
