"""``aibrixctl profile shard``."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import CaFile, TokenFile
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from profiler.load.config import LoadConfig
    from profiler.load.part import Part
    from profiler.load.run import Gate


@command(
    "profile shard",
    examples=(
        ("aibrixctl profile shard load.json -o json --output-file shard.json", "all of a load"),
        (
            "aibrixctl profile shard load.json --part 2/4 -o json",
            "every fourth request from the second on, at once",
        ),
    ),
)
def shard(
    load: Annotated[
        str,
        typer.Argument(
            metavar="LOAD",
            help="The load: a file, - for standard input, k8s:configmap/NAME, or its JSON.",
        ),
    ],
    part: Annotated[
        str, typer.Option("--part", metavar="I/N", help="Which part of the load to send.")
    ] = "1/1",
    start_at: Annotated[
        float | None,
        typer.Option("--start-at", metavar="UNIX_S", help="When the load starts; else at once."),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            "--gate",
            metavar="k8s:configmap/NAME",
            help="ConfigMaps with names that begin so, by which all parts agree on the start.",
        ),
    ] = None,
    gate_timeout: Annotated[
        str,
        typer.Option("--gate-timeout", metavar="TIME", help="How long to wait for all parts."),
    ] = "5m",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> Result:
    """Send one part of a load and write what was observed, exactly: what pods of a load run.

    The result is a load-shard document. `profile load --shards` and `--target k8s:…` run this,
    and read the figures from the documents of all parts together.
    """
    from aibrixctl import quantities
    from aibrixctl.secret import read_secret

    share = _part(part)
    config = _load(load, read_secret("--token-file", token_file), ca_file)
    with interruptible() as stop:
        if gate is not None:
            timeout_s = quantities.duration("--gate-timeout", gate_timeout)
            return _through_gate(config, share, gate, timeout_s, stop)
        return _send(config, share, None if start_at is None else lambda: start_at, stop)


def _through_gate(
    config: "LoadConfig", part: "Part", gate: str, timeout_s: float, stop: StopFlag
) -> Result:
    import os

    from cluster import documents
    from cluster.access import connect
    from cluster.transport import PATIENT
    from profiler.in_cluster.gate import Gate as ClusterGate

    namespace, name = documents.parse_url(gate, "--gate")
    run = os.environ.get(documents.RUN)
    labels = {documents.RUN_LABEL: run} if run else {}
    with connect(limits=PATIENT) as api:
        agreed = ClusterGate(api, name, namespace or api.namespace, labels, documents.owners())
        return _send(config, part, lambda: agreed.wait(part, timeout_s, stop), stop)


def _send(config: "LoadConfig", part: "Part", gate: "Gate | None", stop: StopFlag) -> Result:
    from profiler.load.run import record_load
    from profiler.load.shard_document import to_json

    recording = record_load(config, part, gate=gate, stop=stop)
    failed = sum(error is not None for error in recording.errors)
    row = {
        "part": str(part),
        "requests": len(recording),
        "failed": failed,
        "elapsed_s": round(recording.elapsed_s, 3),
        "cpu_share": round(recording.cpu_share, 4),
        "complete": recording.complete,
    }
    stopped = not recording.complete
    problem = Problem("load.interrupted", "stopped early", config.base_url)
    return Result(
        to_json(config, part, recording),
        rows=[row],
        record="shard",
        status="partial" if stopped else "success",
        exit_code=stop.exit_code,
        errors=(problem,) if stopped else (),
    )


def _part(text: str) -> "Part":
    from accelerators.errors import UsageError
    from profiler.load.part import Part

    index, _, count = text.partition("/")
    if index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count) <= 10_000:
        return Part(int(index) - 1, int(count))
    raise UsageError("shard.part", f"--part is {text!r}; expected I/N such as 2/4", target="--part")


def _load(source: str, token: str | None, ca_file: str | None) -> "LoadConfig":
    from dataclasses import replace

    from profiler.load.load_document import load_from_json

    name = "the load" if source.startswith("{") else source
    return replace(load_from_json(_read(source, name), name), token=token, ca_file=ca_file)


def _read(source: str, name: str) -> object:
    import json
    import sys

    from accelerators.documents import read_json
    from accelerators.errors import UsageError

    if source.startswith("{"):
        text = source
    elif source.startswith("k8s:"):
        text = _fetch(source)
    elif source == "-":
        text = sys.stdin.read()
    else:
        return read_json(source)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError("file.not_json", f"{name} is not JSON: {error}") from error


def _fetch(source: str) -> str:
    from cluster.access import connect
    from cluster.documents import fetch, parse_url
    from cluster.errors import NotFoundError
    from cluster.transport import PATIENT

    namespace, name = parse_url(source, "LOAD")
    with connect(limits=PATIENT) as api:
        found = fetch(api, name, namespace)
    if found is None:
        raise NotFoundError("cluster.no_document", f"there is no {source}", target=source)
    return found.decode()
