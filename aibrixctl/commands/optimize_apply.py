"""``aibrixctl optimize apply``: bring a cluster to a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command, session
from aibrixctl.exit_codes import OF_KIND, ExitCode
from aibrixctl.kube_options import Context, DryRun, Kubeconfig, Namespace
from aibrixctl.plan_cluster import Deployments
from aibrixctl.prompt import Yes
from aibrixctl.result import Problem, Result
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from cluster.api import Api
    from optimizer.rollout.draft import Draft
    from optimizer.rollout.journal import Head, Journal
    from optimizer.rollout.run import Patience, Report

_TARGETS = ("deployment", "podautoscaler", "stormservice")


@command(
    "optimize apply",
    examples=(
        ("aibrixctl optimize apply plan.json --dry-run", "what would change, as the server says"),
        ("aibrixctl optimize apply plan.json --yes --wait 5m", "scale up, wait, scale down"),
    ),
)
def apply(
    path: Annotated[str, typer.Argument(metavar="PLAN", help="File that `optimize plan` wrote.")],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="|".join(_TARGETS),
            help="What to write: replicas, or both bounds of the PodAutoscaler that sets them.",
            autocompletion=one_of(*_TARGETS),
        ),
    ] = "deployment",
    wait: Annotated[
        str, typer.Option("--wait", metavar="TIME", help="For new replicas to serve.")
    ] = "10m",
    deployment: Deployments = None,
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal", metavar="FILE", help="Where to note what is done; PLAN.journal by default."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a rollout that was cut short.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Undo the rollout that the journal holds.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> Result:
    """Bring a cluster to a plan: scale up, wait until all new replicas serve, then scale down.

    Shows the difference first, and asks. What is not ready in time, or is changed by somebody else
    meanwhile, is undone, and the exit code is 1. Refused when a deployment is not what the plan saw
    (made with --current k8s), and when an autoscaler would set it back. Only spec.replicas is
    written, or minReplicas and maxReplicas, and only of types that the plan has.

    Every step is in the journal before it is taken: cut short at any moment, even by kill -9,
    --resume continues and --rollback undoes.
    """
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from aibrixctl.kube_options import access
    from cluster.access import connect
    from optimizer.rollout.journal import Journal
    from optimizer.rollout.run import Patience

    if target not in _TARGETS:
        raise UsageError(
            "option.target", f"--target is {target!r}; expected one of {', '.join(_TARGETS)}"
        )
    if resume + rollback + dry_run > 1:
        raise UsageError("option.conflict", "give one of --resume, --rollback and --dry-run")
    patience = Patience(quantities.duration("--wait", wait))
    where = Path(journal) if journal else Path(f"{path}.journal")
    with connect(access(kubeconfig, context, namespace)) as api, interruptible() as stop:
        if dry_run:
            return _drafted(_draft(api, path, target, deployment), dry_run=True)
        with Journal(where) as opened:
            if resume or rollback:
                return _continue(api, path, opened, patience, stop, rollback=rollback)
            opened.refuse_unfinished()
            draft = _draft(api, path, target, deployment)
            if not draft.steps:
                return _drafted(draft)
            ending = _asked(draft, stop, yes=yes)
            return ending or _begin(api, path, opened, draft, patience, stop)


def _draft(api: "Api", path: str, target: str, deployment: list[str] | None) -> "Draft":
    from aibrixctl.plan_cluster import assigned
    from optimizer.plan import load
    from optimizer.problem import check_names
    from optimizer.rollout.draft import draft

    plan = load(path)
    named = assigned("--deployment", deployment)
    check_names("--deployment", named, plan.replicas)
    return draft(api, plan, target, named)  # type: ignore[arg-type]


def _asked(draft: "Draft", stop: StopFlag, *, yes: bool) -> Result | None:
    """Show the difference and ask; return the result that ends the command, if it ends here."""
    from aibrixctl.prompt import confirmed
    from aibrixctl.rollout_view import draft_lines

    for line in draft_lines(draft):
        session().reporter.say(line)
    answer = confirmed(f"change {len(draft.steps)} objects at {draft.host}?", stop, yes=yes)
    if answer:
        return None
    if answer is None:
        problem = Problem(
            "rollout.unconfirmed", "nothing was changed: there is nobody to ask", hint="add --yes"
        )
        return _drafted(draft, code=ExitCode.USAGE, errors=(problem,))
    problem = Problem("rollout.declined", "nothing was changed")
    code = stop.exit_code if stop.is_set() else ExitCode.FAILURE
    return _drafted(draft, code=code, errors=(problem,))


def _drafted(
    draft: "Draft",
    *,
    dry_run: bool = False,
    code: ExitCode = ExitCode.OK,
    errors: tuple[Problem, ...] = (),
) -> Result:
    outcome = "declined" if errors else "planned" if draft.steps else "unchanged"
    states = dict.fromkeys(range(len(draft.steps)), "open")

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.rollout_view import draft_lines

        for line in draft_lines(draft) if outcome != "declined" else ():
            console.print(line)

    rows = _rows(draft.steps, states)
    for row, changes in zip(rows, draft.changes, strict=True):
        row["changes"] = [change.to_json() for change in changes]
    return Result(
        {
            "target": draft.target,
            "host": draft.host,
            "dry_run": dry_run,
            "outcome": outcome,
            "steps": rows,
            "unchanged": list(draft.unchanged),
            "left": [],
            "journal": None,
        },
        rows=rows,
        record="step",
        view=view,
        status="error" if errors else "success",
        exit_code=code,
        errors=errors,
        warnings=tuple(Problem("rollout.note", note) for note in draft.notes),
    )


def _begin(
    api: "Api",
    path: str,
    journal: "Journal",
    draft: "Draft",
    patience: "Patience",
    stop: StopFlag,
) -> Result:
    from optimizer.rollout.journal import Head
    from optimizer.rollout.run import Rollout
    from optimizer.workload.collect import digest

    head = Head(digest(path), draft.target, draft.host, draft.steps)
    journal.begin(head)
    tell = session().reporter.say
    report = Rollout(api, journal, head.steps, patience, stop=stop, tell=tell).forth()
    return _ended(path, journal, head, report, stop, draft.unchanged)


def _continue(
    api: "Api",
    path: str,
    journal: "Journal",
    patience: "Patience",
    stop: StopFlag,
    *,
    rollback: bool,
) -> Result:
    from optimizer.rollout.journal import resumed, undoable
    from optimizer.rollout.run import Rollout
    from optimizer.workload.collect import digest

    head = (undoable if rollback else resumed)(journal, digest(path), api.host)
    tell = session().reporter.say
    rollout = Rollout(api, journal, head.steps, patience, stop=stop, tell=tell)
    goes_back = rollback or journal.undoing is not None
    report = rollout.back() if goes_back else rollout.forth()
    return _ended(path, journal, head, report, stop, (), asked=rollback)


def _ended(
    path: str,
    journal: "Journal",
    head: "Head",
    report: "Report",
    stop: StopFlag,
    unchanged: tuple[str, ...],
    *,
    asked: bool = False,
) -> Result:
    """Return the result of a rollout; ``asked``: that it be undone is what was wanted."""
    states = {
        number: _state(report.outcome, number in report.done) for number in range(len(head.steps))
    }

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.rollout_view import draw_report

        draw_report(console, head.steps, states, report.outcome)

    code, errors = _verdict(path, journal, report, stop, asked=asked)
    return Result(
        {
            "target": head.target,
            "host": head.host,
            "dry_run": False,
            "outcome": report.outcome,
            "steps": _rows(head.steps, states),
            "unchanged": list(unchanged),
            "left": list(report.left),
            "journal": str(journal.path),
        },
        rows=_rows(head.steps, states),
        record="step",
        view=view,
        status="success" if code == ExitCode.OK else "partial",
        exit_code=code,
        errors=errors,
    )


def _state(outcome: str, done: bool) -> str:
    if outcome == "undone":
        return "undone" if done else "untouched"
    return "done" if done else "open"


def _verdict(
    path: str, journal: "Journal", report: "Report", stop: StopFlag, *, asked: bool
) -> tuple[ExitCode, tuple[Problem, ...]]:
    problems = [Problem("rollout.left", f"not undone: {text}") for text in report.left]
    if report.error is not None:
        problems.insert(0, Problem.of(report.error))
    if report.outcome in ("stopped", "failed"):
        way = "" if str(journal.path) == f"{path}.journal" else f" --journal {journal.path}"
        hint = f"aibrixctl optimize apply {path}{way} --resume continues, --rollback undoes"
        problems.append(Problem("rollout.unfinished", "the rollout is not finished", path, hint))
        code = stop.exit_code if report.outcome == "stopped" else ExitCode.FAILURE
        if report.outcome == "failed" and report.error is not None:
            code = OF_KIND[report.error.kind]
        return code, tuple(problems)
    if report.outcome == "undone" and not asked:
        why = "the rollout was undone" + (", but for what is named" if report.left else "")
        problems.append(Problem("rollout.undone", why))
    return (ExitCode.FAILURE if problems else ExitCode.OK), tuple(problems)


def _rows(steps: Any, states: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "type": step.type,
            "object": step.object.title,
            "replicas_before": step.replicas_before,
            "replicas_after": step.replicas_after,
            "before": dict(step.before),
            "after": dict(step.after),
            "state": states[number],
        }
        for number, step in enumerate(steps)
    ]
