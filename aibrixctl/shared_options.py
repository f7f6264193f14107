"""Options that several commands have, so that they read and behave alike."""

from typing import Annotated

import typer

Endpoint = Annotated[str, typer.Option("--endpoint", help="Or /v1/chat/completions.")]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file", metavar="FILE", help="File with the API key; - is standard input."
    ),
]
CaFile = Annotated[
    str | None, typer.Option("--ca-file", metavar="FILE", help="Certificates to trust.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Do not verify the server's certificate.")
]
ReadyTimeout = Annotated[
    str,
    typer.Option("--ready-timeout", metavar="TIME", help="Wait this long for a server to come up."),
]
OwnTypes = Annotated[
    str | None,
    typer.Option("--accelerators", metavar="FILE", help="Own prices and accelerator types (TOML)."),
]
Shards = Annotated[
    int,
    typer.Option(
        "--shards",
        metavar="N",
        min=1,
        max=256,
        help="Clients that send the load together: processes here, pods in a cluster.",
    ),
]
