"""What the commands on KV pools have in common: their options, and the way into a pool."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kvpool.pool import Pool
    from kvpool.selection import Selection

PoolArgument = Annotated[
    str,
    typer.Argument(
        metavar="POOL", help="URL of the pool, e.g. lmcache+redis://HOST:6379/0, lmcache+file:DIR."
    ),
]
ReadHeaders = Annotated[
    bool,
    typer.Option(
        "--headers",
        help="Read every header even where that counts as use: Redis before 7.2.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Of this model, or of names that fit a pattern such as 'org/*'. Repeatable.",
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than",
        metavar="TIME",
        help="Stored at least so long ago, or last used where only that is known.",
    ),
]
MinSize = Annotated[
    str | None, typer.Option("--min-size", metavar="BYTES", help="At least so large, e.g. 64KiB.")
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="With this tag. Repeatable."),
]


def opened(
    url: str,
    *,
    password_file: str | None = None,
    ca_file: str | None = None,
    insecure: bool = False,
    option: str = "--password-file",
) -> "Pool":
    """Open a pool with the password of a file or of AIBRIXCTL_REDIS_PASSWORD.

    Raises:
        ToolError: what ``kvpool.pool.open_pool`` raises; UsageError for an unreadable file.
    """
    from aibrixctl.redis_access import redis_password
    from kvpool.pool import open_pool

    password = redis_password(password_file, option)
    return open_pool(url, password=password, ca_file=ca_file, insecure=insecure)


def selection(
    *,
    models: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    min_size: str | None = None,
    older_than: str | None = None,
) -> "Selection":
    """Return the entries that options are about. Raises UsageError that names the option."""
    from aibrixctl import quantities
    from kvpool.selection import Selection, parse_states, parse_tags

    return Selection(
        models=tuple(models or ()),
        states=parse_states(states or ()),
        tags=parse_tags(tags or ()),
        min_bytes=0 if min_size is None else quantities.size("--min-size", min_size),
        older_than_s=(
            None if older_than is None else quantities.duration("--older-than", older_than)
        ),
    )
