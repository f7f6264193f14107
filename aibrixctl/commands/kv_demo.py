"""``aibrixctl kv demo-pool``: a small pool to try the others on."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command
from aibrixctl.result import Result

if TYPE_CHECKING:
    from rich.console import Console


@command(
    "kv demo-pool",
    examples=(
        ("aibrixctl kv demo-pool demo-pool", "some hundred entries of three models"),
        (
            "aibrixctl kv demo-pool cached --tokens prompt.json",
            "with a prompt for `kv find` to look up",
        ),
        ("aibrixctl kv demo-pool broken --hazards", "with faults for `kv doctor` to find"),
    ),
)
def demo_pool(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder to make.")],
    entries: Annotated[int, typer.Option("--entries", min=1, help="How many to write.")] = 240,
    seed: Annotated[int, typer.Option("--seed", help="Another one gives another pool.")] = 0,
    hazards: Annotated[
        bool, typer.Option("--hazards", help="Add an orphan and damaged and foreign files.")
    ] = False,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="FILE",
            help="Also write token ids of a prompt, most of which is cached, for `kv find`.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be written; write nothing.")
    ] = False,
) -> Result:
    """Fill a folder as LMCache's fs:// connector would after some conversations.

    Keys, headers and lengths are what LMCache writes; models, hashes and values are invented, and
    shapes are small. The same arguments give the same files.
    """
    import json
    from pathlib import Path

    from kvpool.demo import demo_files, demo_prompt, write_demo
    from kvpool.directory import write_whole

    files = demo_files(entries, seed, hazards=hazards)
    sizes = [len(file.data) for file in demo_files(entries, seed, hazards=hazards)]
    count = len(sizes) if dry_run else write_demo(Path(folder), files)
    if tokens is not None and not dry_run:
        write_whole(Path(tokens), (json.dumps(demo_prompt(entries, seed)).encode(),), durable=False)
    url = f"lmcache+file:{folder}"
    document = {
        "url": url,
        "files": count,
        "bytes": sum(sizes),
        "hazards": hazards,
        "dry_run": dry_run,
    }

    def view(console: "Console", wide: bool) -> None:
        from accelerators.units import format_bytes

        verb = "would write" if dry_run else "wrote"
        console.print(f"{verb} {count:,} files, {format_bytes(sum(sizes))}, to {folder}")
        if not dry_run:
            console.print(f"look at it with: aibrixctl kv stats {url}")

    return Result(document, view=view)
