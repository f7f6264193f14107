"""Redis as an input: which texts name one, how it is opened, and where its password comes from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from aibrixctl.config import SECRET

if TYPE_CHECKING:
    import redis

PasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="File with the Redis password; - is standard input.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Model in Redis, by AIBrix's name, where it holds several."),
]


def is_redis(text: str) -> bool:
    """Return whether a text names a Redis, not a file."""
    return text.startswith(("redis://", "rediss://"))


def redis_password(password_file: str | None, option: str = "--password-file") -> str | None:
    """Return the password from the file, else from the environment; it is kept out of output.

    Args:
        password_file: a file, or - for standard input.
        option: that named it.

    Raises:
        UsageError: the file can't be read or holds nothing.
    """
    from aibrixctl.secret import hide, read_secret

    password = read_secret(option, password_file) or os.environ.get(SECRET)
    hide(password or "")
    return password


@contextmanager
def open_redis(url: str, password: str | None = None) -> "Iterator[redis.Redis]":
    """Connect to the Redis that a URL names, for the block.

    Raises:
        ToolError: the URL is malformed, nothing answers, or access is refused.
    """
    from profiler.interop.aibrix_redis import connected

    with connected(url, password) as client:
        yield client


def redis_source(url: str) -> str:
    """Return how a Redis is named in output and documents: its URL without the user."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
