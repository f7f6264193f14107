"""``optimize apply`` as an operator uses it, on a real API server."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from cluster.access import Access
from cluster.api import Api
from cluster.kinds import DEPLOYMENT, POD_AUTOSCALER
from optimizer.plan import save
from optimizer.rollout.journal import Journal
from tests import fleet
from tests.aibrixctl.test_kv_drain import screen_until
from tests.controllers import Starts, all_start, controllers
from tests.kube import Server
from tests.optimizer.rollout.test_draft import autoscaler, plan_of, planned

Cli = Callable[..., Any]
Controllers = Callable[..., Any]
APPLY = ("optimize", "apply", "plan.json", "-n")


@pytest.fixture(autouse=True)
def _reached(kube: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet of two types, a plan that moves a replica, and the cluster as the default one."""
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    for name, count in (("l20", 4), ("a10", 1), ("other", 5)):
        api.create(fleet.deployment(name, count))
    save(planned(api, {"l20": 3, "a10": 2}), "plan.json")


@pytest.fixture
def run_controllers(kube: Server, namespace: str) -> Controllers:
    @contextmanager
    def run(starts: Starts = all_start) -> Iterator[None]:
        with controllers(Access(str(kube.kubeconfig), namespace=namespace), starts):
            yield

    return run


def running(api: Api) -> dict[str, int]:
    found = api.list(DEPLOYMENT)
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in found}


def tidy(api: Api, text: str) -> str:
    return text.replace(api.namespace, "NAMESPACE").replace(api.host, "HOST")


BEFORE, AFTER = {"l20": 4, "a10": 1, "other": 5}, {"l20": 3, "a10": 2, "other": 5}


def test_applies_a_plan(
    cli: Cli, api: Api, run_controllers: Controllers, snapshot: SnapshotAssertion
) -> None:
    shown = cli(*APPLY, api.namespace, "--dry-run")
    assert shown.code == 0
    assert tidy(api, shown.out) == snapshot(name="dry run")
    assert running(api) == BEFORE
    with run_controllers():
        done = cli(*APPLY, api.namespace, "--yes")
    assert done.code == 0, done.err
    assert tidy(api, done.out) == snapshot(name="applied")
    assert running(api) == AFTER
    again = cli(*APPLY, api.namespace, "--yes")
    assert (again.code, tidy(api, again.out)) == (0, "HOST is as planned\n")
    back = cli(*APPLY, api.namespace, "--rollback", "--wait", "0s")
    assert back.code == 1
    assert "l20 has" in back.err
    with run_controllers():
        back = cli(*APPLY, api.namespace, "--rollback")
    assert back.code == 0, back.err
    assert running(api) == BEFORE


def test_json_says_what_each_step_did(
    cli_json: Cli, api: Api, run_controllers: Controllers
) -> None:
    dry = cli_json(*APPLY, api.namespace, "--dry-run")["data"]
    assert [(s["object"].rpartition("/")[2], s["state"], s["changes"]) for s in dry["steps"]] == [
        ("a10", "open", [{"path": "spec.replicas", "before": 1, "after": 2}]),
        ("l20", "open", [{"path": "spec.replicas", "before": 4, "after": 3}]),
    ]
    with run_controllers():
        done = cli_json(*APPLY, api.namespace, "--yes")["data"]
    assert (done["outcome"], [s["state"] for s in done["steps"]]) == ("applied", ["done", "done"])
    assert done["journal"] == "plan.json.journal"


def test_needs_a_word_where_there_is_nobody_to_ask(cli: Cli, api: Api) -> None:
    outcome = cli(*APPLY, api.namespace, "--no-input")
    assert outcome.code == 2
    assert "~ spec.replicas: 1 -> 2" in outcome.err
    assert "add --yes" in outcome.err
    assert running(api) == BEFORE
    assert not Path("plan.json.journal").exists()


@pytest.mark.parametrize(
    ("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0), (signal.SIGINT, 130)], ids=repr
)
def test_asks_before_it_changes_anything(
    api: Api, run_controllers: Controllers, answer: str | signal.Signals, code: int
) -> None:
    ours, theirs = pty.openpty()
    with (
        run_controllers(),
        subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", *APPLY, api.namespace],
            stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, start_new_session=True,
        ) as child,
        os.fdopen(ours, "rb", buffering=0) as terminal,
    ):  # fmt: skip
        os.close(theirs)
        screen = screen_until(terminal, b"[y/N] ")
        if isinstance(answer, str):
            os.write(ours, answer.encode())
        else:
            child.send_signal(answer)
        screen += screen_until(terminal, None)
    assert child.returncode == code, screen
    assert b"~ spec.replicas: 1 -> 2" in screen
    assert running(api) == (AFTER if code == 0 else BEFORE)
    assert Path("plan.json.journal").exists() is (code == 0)


def test_undoes_what_is_not_ready_in_time(cli: Cli, api: Api, run_controllers: Controllers) -> None:
    with run_controllers(lambda name, wanted: 0):
        outcome = cli(*APPLY, api.namespace, "--yes", "--wait", "500ms")
    assert outcome.code == 1
    assert "after 500 ms deployment" in outcome.err
    assert "the rollout was undone" in outcome.err
    assert running(api) == BEFORE


def test_refuses_what_has_changed_and_what_is_autoscaled(cli: Cli, api: Api) -> None:
    api.create(autoscaler("p", "a10", 0, 10))
    outcome = cli(*APPLY, api.namespace, "--yes")
    assert outcome.code == 1
    assert "podautoscaler" in outcome.err
    assert "--target podautoscaler" in outcome.err
    api.patch(DEPLOYMENT, "l20", {"spec": {"replicas": 9}})
    outcome = cli(*APPLY, api.namespace, "--yes")
    assert outcome.code == 1
    assert "is not what the plan saw: 4 replicas then, 9 now" in outcome.err
    assert not Path("plan.json.journal").exists()


def test_sets_the_bounds_of_autoscalers(cli: Cli, api: Api, run_controllers: Controllers) -> None:
    for name in ("a10", "l20"):
        api.create(autoscaler(name, name, 0, 10))
    with run_controllers():
        outcome = cli(*APPLY, api.namespace, "--yes", "--target", "podautoscaler")
        assert outcome.code == 0, outcome.err
        assert api.get(POD_AUTOSCALER, "l20")["spec"]["maxReplicas"] == 3
        deadline = iter(range(600))
        while running(api) != AFTER and next(deadline, None) is not None:
            pass
    assert running(api) == AFTER


def test_a_signal_says_how_to_go_on(api: Api, run_controllers: Controllers) -> None:
    words = [sys.executable, "-m", "aibrixctl", *APPLY, api.namespace, "--yes"]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert any(line.startswith("waiting:") for line in child.stderr)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "optimize apply plan.json --resume continues, --rollback undoes" in err
    assert running(api) == {"l20": 4, "a10": 2, "other": 5}
    stuck = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (stuck.returncode, "was cut short" in stuck.stderr) == (2, True)
    with run_controllers():
        done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert running(api) == AFTER


def test_a_kill_while_it_waits_can_be_undone(cli: Cli, api: Api) -> None:
    words = [sys.executable, "-m", "aibrixctl", *APPLY, api.namespace, "--yes"]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert child.stderr is not None
    assert any(line.startswith("waiting:") for line in child.stderr)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(60)
    child.stderr.close()
    outcome = cli(*APPLY, api.namespace, "--rollback")
    assert outcome.code == 0, outcome.err
    assert running(api) == BEFORE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--resume",), "holds no unfinished rollout"),
        (("--rollback",), "holds no unfinished rollout"),
        (("--resume", "--rollback"), "give one of"),
        (("--target", "pod"), "expected one of deployment"),
        (("--deployment", "b10=x"), "--deployment names 'b10'"),
    ],
)
def test_refuses_what_makes_no_sense(cli: Cli, api: Api, words: tuple[str, ...], said: str) -> None:
    outcome = cli(*APPLY, api.namespace, *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_only_one_at_a_time(cli: Cli, api: Api) -> None:
    with Journal("plan.json.journal"):
        outcome = cli(*APPLY, api.namespace, "--yes")
    assert outcome.code == 2
    assert "another rollout is writing" in outcome.err


def test_a_plan_that_was_not_made_here_goes_by_names(cli: Cli, api: Api) -> None:
    save(plan_of({"a": 2}), "plan.json")
    outcome = cli(*APPLY, api.namespace, "--yes")
    assert outcome.code == 1
    assert "nothing runs that type: no deployment is named a\n" in outcome.err
    outcome = cli(*APPLY, api.namespace, "--dry-run", "--deployment", "a=a10")
    assert outcome.code == 0, outcome.err
    assert "spec.replicas: 1 -> 2" in outcome.out


def test_a_workload_of_another_model_is_named_with_what_helps(cli: Cli, api: Api) -> None:
    api.create(fleet.deployment("h100", 1, model="another"))
    save(planned(api, {"h100": 2}), "plan.json")
    outcome = cli(*APPLY, api.namespace, "--dry-run")
    assert outcome.code == 1
    assert f"deployment {api.namespace}/h100 serves another, not m\n" in outcome.err
    assert "--deployment h100=NAME" in outcome.err
    assert "and plan again" in outcome.err
    outcome = cli(*APPLY, api.namespace, "--dry-run", "--deployment", "h100=h100")
    assert outcome.code == 0, outcome.err


def test_what_cannot_be_taken_back_is_not_applied_by_the_hint(cli: Cli, api: Api) -> None:
    assert "leave out" not in cli(*APPLY, api.namespace, "--rollback").err
