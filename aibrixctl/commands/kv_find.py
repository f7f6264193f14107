"""``aibrixctl kv find``: how much of a prompt is cached, and where."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_options import PoolArgument, Tags
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import CaFile, Insecure
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.find.hashes import Algorithm
    from kvpool.find.lookup import Found, Query

_HASHES = ("auto", "builtin", "sha256_cbor")
_BUILDERS = ("ro", "sim", "raw", "hex")


@command(
    "kv find",
    examples=(
        (
            "aibrixctl kv find lmcache+file:pool --model demo/chat-8b --tokens tokens.json",
            "how much of this prompt an engine would not have to compute",
        ),
        (
            "aibrixctl kv find lmcache+file:pool --tokenizer tokenizer.json "
            "--prompt-file prompt.txt -o wide",
            "the same of a text, for every model, with a line for each block",
        ),
    ),
)
def find(
    pool: PoolArgument,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens", metavar="FILE", help="Token ids: a JSON list, or numbers between spaces."
        ),
    ] = None,
    prompt_file: Annotated[
        str | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE",
            help="Text of the prompt as the engine gets it, after any chat template.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="T",
            help="With --prompt-file: tokenizer.json, its folder, or a name on the HF hub.",
        ),
    ] = None,
    special_tokens: Annotated[
        bool,
        typer.Option(
            "--special-tokens/--no-special-tokens",
            help="Let the tokenizer add its own, such as BOS.",
        ),
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="M", help="Name or pattern; of the conn_id for AIBrix. Default: all."
        ),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option("--chunk-tokens", min=1, help="Per chunk; as the pool's entries have it."),
    ] = None,
    hash_: Annotated[
        str,
        typer.Option(
            "--hash",
            metavar="|".join(_HASHES),
            help="Of LMCache's chunks.",
            autocompletion=one_of(*_HASHES),
        ),
    ] = "auto",
    hash_seed: Annotated[
        str, typer.Option("--hash-seed", metavar="N", help="The engines' PYTHONHASHSEED.")
    ] = "0",
    world_size: Annotated[
        int | None,
        typer.Option(
            "--world-size",
            min=1,
            help="With --dtype and --model: ask for keys one by one instead of scanning.",
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="D", help="PyTorch's name, e.g. bfloat16.")
    ] = None,
    tag: Tags = None,
    key_builder: Annotated[
        str,
        typer.Option(
            "--key-builder",
            metavar="|".join(_BUILDERS),
            help="Of AIBrix's keys, for placement metadata; other pools tell.",
            autocompletion=one_of(*_BUILDERS),
        ),
    ] = "ro",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> Result:
    """Find out how much of a prompt's start a KV cache pool holds, in which blocks and where.

    The prompt is hashed as LMCache (builtin hash, or sha256_cbor) and AIBrix (rolling hash, simple
    hash, raw tokens) do; of LMCache's ways each is tried unless told. A block counts when
    every rank and layer of it is there. Of AIBrix's placement metadata only the node that each
    block belongs to is known.
    """
    from aibrixctl.kv_options import opened
    from kvpool.find.lookup import Query
    from kvpool.find.lookup import find as look_up
    from kvpool.selection import parse_tags

    prompt = _prompt(tokens, prompt_file, tokenizer, special=special_tokens)
    query = Query(
        prompt,
        model=model,
        chunk_tokens=chunk_tokens,
        seed=hash_seed,
        algorithms=_algorithms(hash_),
        world_size=world_size,
        dtype=_dtype(dtype),
        tags=parse_tags(tag or ()),
        builder=key_builder,
    )
    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
        session().reporter.progress("looking") as bar,
    ):
        found = look_up(
            place,
            query,
            stop=stop,
            progress=lambda seen: bar.update(seen, text=f"{seen:,} entries looked at"),
        )
    return _result(pool, query, found, stop)


def _prompt(
    tokens: str | None, prompt_file: str | None, tokenizer: str | None, *, special: bool
) -> list[int]:
    from pathlib import Path

    from kvpool.errors import KvPoolUsageError
    from kvpool.find.tokens import read_tokens, tokenize

    if (tokens is None) == (prompt_file is None):
        raise KvPoolUsageError(
            "kv.find.prompt",
            "expected either --tokens or --prompt-file",
            hint="--tokens FILE, or --prompt-file FILE with --tokenizer T",
        )
    if tokens is not None:
        return read_tokens(Path(tokens))
    if tokenizer is None:
        raise KvPoolUsageError(
            "kv.find.prompt", "--prompt-file needs --tokenizer", hint="name a tokenizer.json"
        )
    assert prompt_file is not None
    return tokenize(Path(prompt_file), tokenizer, special=special)


def _algorithms(name: str) -> tuple["Algorithm", ...]:
    from kvpool.errors import KvPoolUsageError
    from kvpool.find.hashes import ALGORITHMS

    chosen = tuple(algorithm for algorithm in ALGORITHMS if name in ("auto", algorithm))
    if not chosen:
        raise KvPoolUsageError(
            "kv.find.hash", f"{name!r} is no hash; expected {', '.join(_HASHES)}", target="--hash"
        )
    return chosen


def _dtype(name: str | None) -> str | None:
    from kvpool.errors import KvPoolUsageError
    from kvpool.lmcache import KEY_DTYPES

    if name is None or name in KEY_DTYPES.values():
        return name
    if name not in KEY_DTYPES:
        raise KvPoolUsageError(
            "kv.find.dtype",
            f"{name!r} is no dtype; expected {', '.join(sorted(set(KEY_DTYPES.values())))}",
            target="--dtype",
        )
    return KEY_DTYPES[name]


def _result(url: str, query: "Query", found: "Found", stop: StopFlag) -> Result:
    document = {
        "url": url,
        "prompt_tokens": len(query.tokens),
        "complete": found.complete,
        "tried": found.tried,
        "models": found.models,
        "groups": [group.to_json() for group in found.groups],
    }
    rows = [
        {"name": group["name"], "dtype": group["dtype"], "world_size": group["world_size"], **block}
        for group in document["groups"]  # type: ignore[attr-defined]
        for block in group["blocks"]
    ]

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_find_view import draw_found

        draw_found(console, url, len(query.tokens), found, wide=wide)

    stopped = Problem("interrupted", "stopped before the whole pool was looked at", url)
    return Result(
        document,
        rows=rows,
        record="block",
        view=view,
        status="success" if found.complete else "partial",
        exit_code=ExitCode.OK if found.complete else stop.exit_code,
        errors=() if found.complete else (stopped,),
        warnings=() if found.groups else (_nothing(query, found),),
    )


def _nothing(query: "Query", found: "Found") -> Problem:
    """Return what to think of where a pool holds nothing of a prompt."""
    if not found.models:
        name = "" if query.model is None else f" of {query.model}"
        return Problem("kv.find.no_model", f"the pool holds no entries{name}")
    return Problem(
        "kv.find.nothing",
        f"nothing of this prompt is cached; tried {'; '.join(found.tried)}",
        hint="another tokenizer, chat template, --chunk-tokens or --hash-seed gives other hashes",
    )
