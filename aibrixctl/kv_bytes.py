"""How many bytes the KV cache of a token has: told, or from a model's shape."""

from typing import Annotated

import typer

from aibrixctl.choices import models

BytesPerToken = Annotated[
    str | None,
    typer.Option(
        "--bytes-per-token", metavar="BYTES", help="KV cache of one token, over all ranks."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|FILE",
        help="Take the bytes from a known model or its config.json, at 16 bits.",
        autocompletion=models,
    ),
]


def token_bytes(bytes_per_token: str | None, model: str | None) -> int | None:
    """Return the bytes of a token's keys and values; None where neither option is given.

    Raises:
        UsageError: both are given, no bytes, or an unknown model.
    """
    from accelerators.errors import UsageError
    from aibrixctl import quantities

    if bytes_per_token is not None and model is not None:
        raise UsageError(
            "option.conflict", "--bytes-per-token and --model both give the bytes; leave out one"
        )
    if bytes_per_token is not None:
        each = quantities.size("--bytes-per-token", bytes_per_token)
        if each == 0:
            raise UsageError("option.bytes_per_token", "--bytes-per-token is 0; expected more")
        return each
    if model is None:
        return None
    from profiler.sim.models import load_shape

    return load_shape(model).kv_bytes_per_token
