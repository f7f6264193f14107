"""``aibrixctl optimize serve``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.plan_options import PROFILES, Available, Cost, Headroom, Maximum, Minimum, limits_of
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Result
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from aibrixctl.plan_inputs import RedisChoice
    from optimizer.live.control import Decision
    from optimizer.live.service import ModelLoop, Settings, Tables
    from optimizer.live.traffic import Traffic
    from optimizer.solver import Solver

_SHORTEST_S = 0.1


@command(
    "optimize serve",
    examples=(
        (
            "aibrixctl optimize serve --profiles redis://127.0.0.1:6379/0 "
            "--workload redis://127.0.0.1:6379/0 --port 0 --duration 2s",
            "in place of AIBrix's GPU optimizer, on a free port, for two seconds",
        ),
        (
            "aibrixctl optimize serve --profiles redis://127.0.0.1:6379/0 "
            "--workload redis://127.0.0.1:6379/0 --model m --state state.json "
            "--available a10=8,l20=4 --min a10=1 --port 0 --duration 2s",
            "with the GPUs there are, and a memory that outlives a restart",
        ),
    ),
)
def serve(
    profiles: Annotated[list[str], PROFILES],
    workload: Annotated[
        str,
        typer.Option("--workload", metavar="redis://…", help="Redis of AIBrix's gateway."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="By AIBrix's name; all that have profiles else. Repeatable."),
    ] = None,
    password_file: PasswordFile = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8080,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Between re-plans.")
    ] = "1m",
    window: Annotated[
        str, typer.Option("--window", metavar="TIME", help="Of traffic that a plan is for.")
    ] = "3m",
    cooldown: Annotated[
        str,
        typer.Option(
            "--cooldown", metavar="TIME", help="A smaller plan must hold so long before it counts."
        ),
    ] = "10m",
    max_changes_per_hour: Annotated[
        int,
        typer.Option(
            "--max-changes-per-hour",
            min=2,
            help="Beyond it there is no change but a scale-up that the demand needs.",
        ),
    ] = 6,
    min_saving: Annotated[
        str,
        typer.Option(
            "--min-saving", metavar="SHARE", help="Leave a mix that serves unless this is saved."
        ),
    ] = "5%",
    available: Available = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    headroom: Headroom = "10%",
    cost: Cost = None,
    current: Annotated[
        list[str] | None,
        typer.Option(
            "--current", metavar="NAME=N,…", help="Replicas to report until the first plan."
        ),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace", metavar="NAME", help="Of deployments whose profile names none."
        ),
    ] = "default",
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="FILE", help="Keep the last plan there, over restarts."),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="Stop after this time; else on a signal."),
    ] = None,
) -> Result:
    """Serve AIBrix's optimizer interface: what each deployment's PodAutoscaler should want.

    Every --interval the gateway's traffic of the last --window is read and planned for. More
    replicas are wanted at once, fewer once the smaller plan has held for --cooldown; another mix
    starts its replicas before the others stop. When Redis, the traffic or a profile goes away,
    the last plan stays and is marked stale: a slot without data is not zero traffic.

    GET /metrics/NAMESPACE/NAME gives a deployment's vllm:deployment_replicas in hundredths of a
    replica, as AIBrix does, so that its samples with targetValue "100" work unchanged. PUT
    /scale/NAMESPACE/NAME {"replicas": N} reports N (300 is three replicas) until -1 lifts it.
    GET /update_profile/MODEL reads the profiles again; POST and DELETE /monitor/NAMESPACE/NAME
    plan for a deployment or no longer. GET /metrics is for Prometheus; /healthz, /readyz.

    A deployment is named as its profile is. Once connections are accepted, a line "serving … at
    URL" appears on stderr, with --quiet too. Being stopped by SIGINT or SIGTERM is the normal
    end: the exit code is 0, and the result says what is wanted.
    """
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from aibrixctl.assignments import numbers, whole_numbers
    from aibrixctl.plan_inputs import RedisChoice
    from aibrixctl.redis_access import is_redis, redis_password
    from optimizer.live.control import Policy
    from optimizer.live.service import Settings
    from optimizer.solver import Solver

    if not is_redis(workload):
        raise UsageError("option.workload", f"--workload is {workload!r}; expected redis://…")
    choice = RedisChoice(None, window, redis_password(password_file))
    settings = Settings(
        policy=Policy(
            quantities.duration("--cooldown", cooldown),
            max_changes_per_hour,
            quantities.fraction("--min-saving", min_saving),
        ),
        limits=limits_of(headroom, available, minimum, maximum, None),
        interval_s=_interval_s(interval),
        costs=numbers("--cost", cost),
        initial=whole_numbers("--current", current),
    )
    run_s = None if duration is None else quantities.duration("--duration", duration)
    with Solver() as solver, interruptible() as stop:
        loops = _loops(profiles, workload, model, namespace, choice, settings, solver, state)
        url = _run(loops, state, host, port, stop, run_s)
    return _result(url, loops)


def _interval_s(text: str) -> float:
    from accelerators.errors import UsageError
    from aibrixctl.quantities import duration

    found_s = duration("--interval", text)
    if found_s < _SHORTEST_S:
        raise UsageError(
            "option.interval",
            f"--interval is {text}; expected {_SHORTEST_S * 1e3:g}ms or more",
            hint="the gateway writes its traffic every 10s",
            target="--interval",
        )
    return found_s


def _loops(
    profiles: Sequence[str],
    workload: str,
    models: list[str] | None,
    namespace: str,
    choice: "RedisChoice",
    settings: "Settings",
    solver: "Solver",
    state: str | None,
) -> "list[ModelLoop]":
    """Return a loop per model, checked as far as what it reads is there."""
    from accelerators.errors import UnreachableError
    from optimizer.live.replan import Replanner
    from optimizer.live.service import ModelLoop
    from optimizer.live.state import load

    memories = load(state) if state else {}
    named = models or _models(profiles, choice, sorted(memories))
    loops = [
        ModelLoop(
            name,
            _tables_reader(profiles, choice, name, namespace),
            _traffic_reader(workload, choice, name),
            Replanner(solver),
            settings,
            memories.get(name),
        )
        for name in dict.fromkeys(named)
    ]
    for loop in loops:
        try:
            loop.check()
        except UnreachableError as error:
            session().reporter.say(f"{loop.model}: {error.message}")
    return loops


def _models(profiles: Sequence[str], choice: "RedisChoice", known: Sequence[str]) -> list[str]:
    """Return the models that have profiles; those of the run before while Redis is away."""
    from accelerators.errors import UnreachableError, UsageError
    from aibrixctl.plan_inputs import load_sources
    from aibrixctl.redis_access import is_redis, open_redis, redis_source
    from profiler.interop.aibrix_stored import list_profiles

    found: list[str] = []
    for url in filter(is_redis, profiles):
        try:
            with open_redis(url, choice.password) as client:
                found += list_profiles(client)
        except UnreachableError:
            if not known:
                raise
            return list(known)
        if not found:
            raise UsageError("profiles.none", f"{redis_source(url)} holds no GPU profiles")
    return found or [load_sources(profiles, choice)[0].table.model]


def _tables_reader(
    profiles: Sequence[str], choice: "RedisChoice", model: str, namespace: str
) -> "Callable[[], Tables]":
    from dataclasses import replace

    from aibrixctl.plan_inputs import load_sources
    from optimizer.live.service import Tables

    own = replace(choice, model=model)

    def read() -> Tables:
        sources = load_sources(profiles, own)
        served = {(source.deployment or source.table.target): source.table.target
                  for source in sources}  # fmt: skip
        return Tables(
            sources,
            {name if "/" in name else f"{namespace}/{name}": kind for name, kind in served.items()},
        )

    return read


def _traffic_reader(workload: str, choice: "RedisChoice", model: str) -> "Callable[[], Traffic]":
    from accelerators.errors import UsageError
    from aibrixctl.redis_access import open_redis, redis_source
    from optimizer.live.gateway import read_recent

    window_s, source = choice.window_s, redis_source(workload)
    if window_s is None:
        raise UsageError("option.window", "--window is needed")

    def read() -> "Traffic":
        with open_redis(workload, choice.password) as client:
            return read_recent(client, source, model, window_s)

    return read


def _run(
    loops: "list[ModelLoop]",
    state: str | None,
    host: str,
    port: int,
    stop: Any,
    run_s: float | None,
) -> str:
    import time

    from accelerators.errors import ToolError
    from optimizer.live.face import Face, listening
    from optimizer.live.service import run
    from optimizer.live.state import save

    def save_now() -> None:
        if state:
            save({loop.model: loop.memory for loop in loops}, state)

    lost: set[str] = set()

    def remember() -> None:
        """Save, and go on serving where that fails: AIBrix reads silence as no replicas."""
        try:
            save_now()
            lost.clear()
        except ToolError as error:
            if error.message not in lost:
                reporter.line(f"error: {error.message}; serving goes on, a restart would forget")
            lost.add(error.message)

    reporter = session().reporter
    save_now()

    face = Face(loops, changed=remember)

    stale: set[str] = set()

    def on_step(loop: "ModelLoop", decision: "Decision") -> None:
        face.beat_s = time.monotonic()
        _tell_staleness(loop, stale)
        _tell(loop, decision)
        remember()

    with listening(face, host, port) as url:
        names = ", ".join(loop.model for loop in loops)
        reporter.line(f"serving the plan of {names} at {url}")
        run(loops, stop, on_step=on_step, until_s=run_s)
    return url


def _tell_staleness(loop: "ModelLoop", stale: set[str]) -> None:
    """Say once when a model's plan becomes stale, and once when it no longer is.

    Args:
        loop: after its step.
        stale: models that were stale before it; brought up to date.
    """
    problem, reporter = loop.standing.state.problem, session().reporter
    if problem is None and loop.model in stale:
        stale.discard(loop.model)
        reporter.line(f"{loop.model}: no longer stale")
    elif problem is not None and loop.model not in stale:
        stale.add(loop.model)
        kept = "there is no plan yet" if loop.standing.state.replicas is None else "the plan stays"
        reporter.line(f"warning: {loop.model} is stale, {kept}: {problem}")


def _tell(loop: "ModelLoop", decision: "Decision") -> None:
    """Say what changed; with --verbose, every step."""
    wanted = ", ".join(f"{name} {n}" for name, n in sorted((decision.replicas or {}).items()))
    text = f"{loop.model}: {wanted or 'no plan yet'} ({decision.reason})"
    reporter = session().reporter
    (reporter.detail if decision.direction == "none" else reporter.say)(text)


def _result(url: str, loops: "list[ModelLoop]") -> Result:
    models = [_summary(loop) for loop in loops]

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        console.print(table_of([_row(summary) for summary in models]))

    return Result({"url": url, "models": models}, rows=models, record="model", view=view)


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    replicas, cost = summary["replicas"], summary["usd_per_hour"]
    wanted = ", ".join(f"{name} {n}" for name, n in sorted((replicas or {}).items()))
    return summary | {
        "replicas": wanted or None,
        "usd_per_hour": None if cost is None else f"{cost:,.2f}",
        "stale": "yes" if summary["stale"] else None,
    }


def _summary(loop: "ModelLoop") -> dict[str, Any]:
    standing = loop.standing
    counts = standing.counts
    return {
        "model": loop.model,
        "replicas": standing.state.replicas,
        "usd_per_hour": standing.usd_per_hour,
        "stale": standing.state.problem,
        "steps": counts.get("steps", 0),
        "changes": sum(n for name, n in counts.items() if name.startswith("change ")),
        "errors": sum(n for name, n in counts.items() if name.startswith("error ")),
    }
