"""``aibrixctl kv size``: how large a pool should be."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_bytes import BytesPerToken, Model, token_bytes
from aibrixctl.result import Problem, Result
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from aibrixctl.kv_size_view import Terms
    from kvpool.sizing.curve import Sizing
    from kvpool.sizing.trace import BlockTrace

_USUAL = "lru,s3fifo,sieve,arc"
_POLICIES = ("lru", "fifo", "s3fifo", "s3fifo-aibrix", "sieve", "arc", "opt")


@command(
    "kv size",
    examples=(
        (
            "aibrixctl kv size --trace blocks.jsonl --model llama-3-8b --hit-rate 30%",
            "the pool that spares 30% of the prefill",
        ),
        (
            "aibrixctl kv size --trace blocks.jsonl --policy lru,s3fifo-aibrix,opt --warmup 20%",
            "AIBrix's policy between LRU and the best possible, without the cold start",
        ),
        (
            "aibrixctl kv size --trace blocks.jsonl --bytes-per-token 64KiB --sizes 8GiB,32GiB "
            "--price-per-gib-month 2.5 --report size.html",
            "two sizes and what they cost, with a page of curves",
        ),
    ),
)
def size(
    trace: Annotated[
        str,
        typer.Option(
            "--trace", metavar="FILE", help="JSON Lines with hash_ids per request, e.g. Mooncake's."
        ),
    ],
    block_tokens: Annotated[
        int, typer.Option("--block-tokens", min=1, help="Tokens behind one id of the trace.")
    ] = 512,
    bytes_per_token: BytesPerToken = None,
    model: Model = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME,…",
            help=f"Eviction policies out of {', '.join(_POLICIES)}. By default {_USUAL}.",
            autocompletion=one_of(*_POLICIES),
        ),
    ] = None,
    hit_rate: Annotated[
        str | None,
        typer.Option("--hit-rate", metavar="SHARE", help="Find the least size that reaches this."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes", metavar="BYTES,…", help="Sizes to show, in place of powers of two."
        ),
    ] = None,
    price_per_gib_month: Annotated[
        float | None,
        typer.Option("--price-per-gib-month", metavar="USD", help="Price of the pool's memory."),
    ] = None,
    warmup: Annotated[
        str,
        typer.Option(
            "--warmup", metavar="SHARE", help="Requests that fill the pool and are not counted."
        ),
    ] = "0%",
    simulate: Annotated[
        int,
        typer.Option(
            "--simulate",
            metavar="ACCESSES",
            min=1000,
            help="Simulate about so many of a longer trace; LRU takes all of it.",
        ),
    ] = 1_000_000,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="Write an HTML page, too.")
    ] = None,
) -> Result:
    """Find how large a KV cache pool should be, from the blocks of a real trace.

    The hit rate is the share of prompt blocks that need no prefill: the block and all before it
    are in the pool. LRU is exact at every size; other policies are simulated, long traces in
    part. The model's bytes are those at 16 bits; give --bytes-per-token for another KV dtype.

    Exit code 11: no size reaches the hit rate that was asked for.
    """
    from aibrixctl import quantities
    from kvpool.sizing.curve import size_pool
    from kvpool.sizing.policies import parse_policies
    from kvpool.sizing.trace import read_trace

    wanted = None if hit_rate is None else quantities.fraction("--hit-rate", hit_rate)
    share = quantities.fraction("--warmup", warmup)
    terms = _terms(block_tokens, bytes_per_token, model, price_per_gib_month)
    asked = _sizes(sizes, terms)
    names = parse_policies([n for part in policy or [_USUAL] for n in part.split(",")])
    with interruptible() as stop, session().reporter.progress("reading the trace", 1) as bar:
        blocks = read_trace(trace, stop.is_set)
        if stop.is_set():
            problem = Problem("interrupted", "stopped while the trace was read", trace)
            return Result(None, status="error", exit_code=stop.exit_code, errors=(problem,))
        found = size_pool(
            blocks,
            names,
            sizes=asked,
            size_unit_blocks=terms.unit_blocks,
            wanted_hit_rate=wanted,
            warmup=share,
            simulated_accesses=simulate,
            stop=stop.is_set,
            progress=lambda text, done: bar.update(done, text=text),
        )
    document = {"trace": trace, "warmup_share": share, **terms.document(found)}
    if report:
        from accelerators.documents import write_text
        from aibrixctl.report.sizing_page import sizing_page

        write_text(report, sizing_page(document))
    return _result(document, found, wanted, stop, _warnings(blocks, block_tokens, found))


def _terms(
    block_tokens: int, bytes_per_token: str | None, model: str | None, price: float | None
) -> "Terms":
    """Return how blocks turn into bytes and dollars."""
    from accelerators.errors import UsageError
    from aibrixctl.kv_size_view import Terms

    each = token_bytes(bytes_per_token, model)
    if price is not None and each is None:
        raise UsageError("option.price", "--price-per-gib-month needs --model or --bytes-per-token")
    if price is not None and not 0 <= price < float("inf"):
        raise UsageError(
            "option.price", f"--price-per-gib-month is {price}; expected dollars, 0 or more"
        )
    return Terms(block_tokens, each, price)


def _sizes(text: str | None, terms: "Terms") -> list[int] | None:
    from accelerators.errors import UsageError
    from aibrixctl import quantities

    if text is None:
        return None
    if terms.bytes_per_block is None:
        raise UsageError("option.sizes", "--sizes needs --model or --bytes-per-token")
    blocks = [quantities.size("--sizes", part) // terms.bytes_per_block for part in text.split(",")]
    if not all(blocks):
        raise UsageError(
            "option.sizes",
            f"--sizes {text}: one holds less than a block of {terms.bytes_per_block} B",
        )
    return blocks


def _warnings(trace: "BlockTrace", block_tokens: int, found: "Sizing") -> tuple[Problem, ...]:
    from aibrixctl.kv_size_view import MOST_SAMPLE_ERROR

    warnings = []
    fitting = trace.fitting_block_tokens
    if fitting is not None and fitting != block_tokens:
        text = f"the trace's input_length fits blocks of {fitting} tokens, not {block_tokens}"
        hint = f"give --block-tokens {fitting}"
        warnings.append(Problem("kv.block_tokens", text, trace.source, hint))
    if found.sampled_share < 1:
        text = (
            f"all but LRU were simulated on {found.sampled_share:.1%} of the trace; LRU's own rate "
            f"is off by {found.sample_error:.1%} at most there, and theirs are corrected by that"
        )
        hint = "more of it with --simulate, which takes longer"
        if found.sample_error > MOST_SAMPLE_ERROR:
            text = (
                f"a sample stands badly for this trace: on {found.sampled_share:.1%} of it LRU's "
                f"own rate is off by up to {found.sample_error:.1%}; take the other policies' for "
                "hints only"
            )
            hint = f"--simulate {trace.accesses} takes all of it, and longer"
        warnings.append(Problem("kv.sampled", text, trace.source, hint))
    return tuple(warnings)


def _result(
    document: dict[str, Any],
    found: "Sizing",
    wanted: float | None,
    stop: StopFlag,
    warnings: tuple[Problem, ...],
) -> Result:
    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_size_view import draw

        draw(console, document)

    rows = [
        {"policy": curve["policy"], **point}
        for curve in document["curves"]
        for point in curve["points"]
    ]
    common: dict[str, Any] = {"rows": rows, "record": "point", "view": view, "warnings": warnings}
    target = document["trace"]
    if not found.complete:
        problem = Problem("interrupted", "stopped before every policy and size was tried", target)
        return Result(
            document, status="partial", exit_code=stop.exit_code, errors=(problem,), **common
        )
    if wanted is not None and wanted > found.best_hit_rate:
        problem = Problem(
            "kv.size.hit_rate",
            f"no pool hits {wanted:.1%} of this trace: first accesses miss, and "
            f"{found.best_hit_rate:.1%} is the most",
            target,
            "ask for less, or leave the cold start out with --warmup 20%",
        )
        return Result(
            document, status="error", exit_code=ExitCode.INFEASIBLE, errors=(problem,), **common
        )
    return Result(document, **common)
