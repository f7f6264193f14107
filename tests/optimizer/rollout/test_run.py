"""Rollouts on a real API server: killed at every moment, contended, forbidden, late, cut off."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.access import Access, connect
from cluster.api import Api
from cluster.errors import ForbiddenError
from cluster.kinds import DEPLOYMENT, POD_AUTOSCALER, STORM_SERVICE
from cluster.transport import Limits
from optimizer.rollout.draft import Target, draft
from optimizer.rollout.errors import ChangedError, JournalError, LateError, StoppedError
from optimizer.rollout.journal import Head, Journal, resumed
from optimizer.rollout.run import Patience, Report, Rollout
from tests import fleet
from tests.controllers import Starts, all_start, controllers, settle
from tests.kube import Server, api_server
from tests.optimizer.rollout.test_draft import autoscaler, plan_of

SOON = Patience(wait_s=60.0, glance_s=0.01)
LONG = Patience(wait_s=240.0, glance_s=0.1)
SHORT = Patience(wait_s=0.3, glance_s=0.01)


class Settling(threading.Event):
    """Waits by letting the controllers do their work once; no thread, so that one may fork."""

    def __init__(self, api: Api, starts: Starts = all_start):
        super().__init__()
        self.api, self.starts = api, starts

    def wait(self, timeout: float | None = None) -> bool:
        settle(self.api, self.starts)
        return self.is_set()


def replicas(api: Api, *names: str) -> dict[str, int]:
    return {name: api.get(DEPLOYMENT, name)["spec"]["replicas"] for name in names}


def begin(api: Api, wanted: Mapping[str, int], target: Target = "deployment") -> Head:
    """Return the head of a rollout to this plan."""
    made = draft(api, plan_of(dict(wanted)), target)
    return Head("digest", made.target, made.host, made.steps)


def carry_out(api: Api, path: Path, head: Head | None, *, back: bool = False) -> Report:
    """Begin a rollout, or go on with the one that the journal holds."""
    with Journal(path) as journal:
        if head is not None and journal.head is None:
            journal.begin(head)
        steps = resumed(journal, "digest", api.host).steps
        rollout = Rollout(api, journal, steps, SOON, stop=Settling(api))
        return rollout.back() if back or journal.undoing else rollout.forth()


def killed(access: Access, moment: int, work: Callable[[Api], Any]) -> bool:
    """Do work in a process that kills itself at its nth moment; return whether it came to that.

    A moment is before and after each line of a journal and each write to the server.
    """
    child = os.fork()
    if child == 0:
        try:
            left = moment

            def tick() -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            def ticking(inner: Callable[..., Any]) -> Callable[..., Any]:
                def call(*words: Any, **more: Any) -> Any:
                    tick()
                    answer = inner(*words, **more)
                    tick()
                    return answer

                return call

            Journal._add = ticking(Journal._add)  # type: ignore[method-assign]
            Api.apply = ticking(Api.apply)  # type: ignore[method-assign]
            with connect(access) as api:
                work(api)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) != 0


@pytest.fixture
def access(kube: Server, namespace: str) -> Access:
    return Access(str(kube.kubeconfig), namespace=namespace)


def test_scales_up_waits_and_scales_down(api: Api, tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 1)):
        api.create(fleet.deployment(name, count))
    lines: list[str] = []
    with Journal(tmp_path / "j") as journal:
        head = begin(api, {"a": 1, "b": 3})
        journal.begin(head)
        report = Rollout(
            api, journal, head.steps, SOON, stop=Settling(api), tell=lines.append
        ).forth()
    assert report.outcome == "applied"
    assert report.done == {0, 1}
    place = f"deployment {api.namespace}"
    assert lines == [
        f"{place}/b: replicas 1 -> 3",
        f"waiting: {place}/b has 0 of 3 ready",
        f"{place}/b: 3 ready",
        f"{place}/a: replicas 4 -> 1",
    ]
    owned = api.get(DEPLOYMENT, "a")["metadata"]["managedFields"]
    ours = [field for field in owned if field["operation"] == "Apply"]
    assert [(field["manager"], field["fieldsV1"]) for field in ours] == [
        ("aibrixctl", {"f:spec": {"f:replicas": {}}})
    ]


@pytest.mark.parametrize("back", [False, True], ids=["resumed", "undone"])
def test_a_kill_at_any_moment_loses_nothing(
    api: Api, access: Access, tmp_path: Path, back: bool
) -> None:
    """Deployments that trade places, and autoscalers from 0: more steps than any other."""
    for moment in range(200):
        a, b = f"a{moment}", f"b{moment}"
        path = tmp_path / f"{moment}"
        before = {a: 4, b: 0}
        for name, count in before.items():
            api.create(fleet.deployment(name, count))
        target: Target = "podautoscaler" if back else "deployment"
        if back:
            for name in before:
                api.create(autoscaler(name, name, None, 9))
        head = begin(api, {a: 1, b: 2}, target)

        def work(own: Api, path: Path = path, head: Head = head) -> None:
            carry_out(own, path, head)

        died = killed(access, moment, work)
        now = replicas(api, a, b)
        assert now[a] == 4 or api.get(DEPLOYMENT, b)["status"]["readyReplicas"] == 2
        if path.exists() and path.stat().st_size and died:
            with Journal(path) as journal:
                open_still = journal.unfinished
            if open_still:
                report = carry_out(api, path, None, back=back)
                assert report.outcome == ("undone" if back else "applied")
            settle(api)
            expected = before if back and open_still else {a: 1, b: 2}
            assert replicas(api, a, b) == expected, moment
            if back and open_still:
                for name in before:
                    spec = api.get(POD_AUTOSCALER, name)["spec"]
                    assert ("minReplicas" in spec, spec["maxReplicas"]) == (False, 9)
        if not died:
            assert moment > 14
            return
    pytest.fail("it never came to its end")


def test_kills_again_and_again_do_not_keep_it_from_its_end(
    api: Api, access: Access, tmp_path: Path
) -> None:
    for name, count in (("a", 4), ("b", 1), ("c", 0)):
        api.create(fleet.deployment(name, count))
    head = begin(api, {"a": 1, "b": 3, "c": 2})

    def work(own: Api) -> None:
        carry_out(own, tmp_path / "j", head)

    deaths = sum(1 for _ in iter(lambda: killed(access, 5, work), False))
    assert deaths >= 3
    assert replicas(api, "a", "b", "c") == {"a": 1, "b": 3, "c": 2}


def test_what_is_late_is_undone(api: Api, tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 1)):
        api.create(fleet.deployment(name, count))
    with Journal(tmp_path / "j") as journal:
        head = begin(api, {"a": 1, "b": 3})
        journal.begin(head)
        report = Rollout(
            api, journal, head.steps, SHORT, stop=Settling(api, lambda name, n: min(n, 2))
        ).forth()
    assert report.outcome == "undone"
    assert isinstance(report.error, LateError)
    assert "after 300 ms deployment" in report.error.message
    assert "2 of 3 ready" in report.error.message
    assert replicas(api, "a", "b") == {"a": 4, "b": 1}
    with Journal(tmp_path / "j") as journal:
        assert (journal.outcome, journal.unfinished) == ("undone", False)


def test_what_somebody_else_changes_ends_it_and_is_left_alone(api: Api, tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 1), ("c", 1)):
        api.create(fleet.deployment(name, count))

    def meddle(line: str) -> None:
        if "b: 3 ready" in line:
            api.patch(DEPLOYMENT, "a", {"spec": {"replicas": 7}})
            api.patch(DEPLOYMENT, "b", {"spec": {"replicas": 5}})

    with Journal(tmp_path / "j") as journal:
        head = begin(api, {"a": 1, "b": 3, "c": 2})
        journal.begin(head)
        report = Rollout(api, journal, head.steps, SOON, stop=Settling(api), tell=meddle).forth()
    assert report.outcome == "undone"
    assert isinstance(report.error, ChangedError)
    assert "a has replicas 7; expected replicas 4" in report.error.message
    assert report.left == (f"deployment {api.namespace}/b has replicas 5; expected replicas 3",)
    assert replicas(api, "a", "b", "c") == {"a": 7, "b": 5, "c": 1}


def test_a_new_version_of_the_same_spec_is_no_conflict(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create(fleet.deployment("b", 1))
    head = begin(api, {"b": 3})
    apply, disturbed = Api.apply, iter(range(3))

    def contended(own: Api, obj: Any, **more: Any) -> Any:
        if (number := next(disturbed, None)) is not None:
            own.patch(DEPLOYMENT, "b", {"metadata": {"annotations": {"n": str(number)}}})
        return apply(own, obj, **more)

    monkeypatch.setattr(Api, "apply", contended)
    assert carry_out(api, tmp_path / "j", head).outcome == "applied"
    assert next(disturbed, None) is None
    assert replicas(api, "b") == {"b": 3}


def test_a_missing_right_is_named_and_what_was_done_is_undone(
    kube: Server, api: Api, tmp_path: Path
) -> None:
    for name, count in (("a", 4), ("b", 1)):
        api.create(fleet.deployment(name, count))
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"],
         "resourceNames": ["b"]},
    ]  # fmt: skip
    head = begin(api, {"a": 1, "b": 3})
    with (
        connect(Access(str(kube.account(api, "half", rules, api.namespace)))) as limited,
        Journal(tmp_path / "j") as journal,
    ):
        journal.begin(head)
        report = Rollout(limited, journal, head.steps, SOON, stop=Settling(api)).forth()
    assert report.outcome == "undone"
    assert isinstance(report.error, ForbiddenError)
    assert "may not patch deployments.apps a" in report.error.message
    assert replicas(api, "a", "b") == {"a": 4, "b": 1}


def test_a_signal_stops_it_between_two_steps(api: Api, tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 1)):
        api.create(fleet.deployment(name, count))
    stop = Settling(api)
    with Journal(tmp_path / "j") as journal:
        head = begin(api, {"a": 1, "b": 3})
        journal.begin(head)
        report = Rollout(
            api, journal, head.steps, SOON, stop=stop, tell=lambda line: stop.set()
        ).forth()
    assert (report.outcome, type(report.error)) == ("stopped", StoppedError)
    assert replicas(api, "a", "b") == {"a": 4, "b": 3}
    assert carry_out(api, tmp_path / "j", None).outcome == "applied"
    assert replicas(api, "a", "b") == {"a": 1, "b": 3}


def test_storm_services_are_scaled_alike(api: Api, tmp_path: Path) -> None:
    api.create(fleet.storm_service("pd", 1))
    head = begin(api, {"pd": 2}, "stormservice")
    assert carry_out(api, tmp_path / "j", head).outcome == "applied"
    assert api.get(STORM_SERVICE, "pd")["spec"]["replicas"] == 2


def test_autoscalers_are_pinned_and_released(api: Api, tmp_path: Path) -> None:
    api.create(fleet.deployment("a", 4))
    api.create(autoscaler("p", "a", 0, 10))
    head = begin(api, {"a": 6}, "podautoscaler")
    assert carry_out(api, tmp_path / "j", head).outcome == "applied"
    spec = api.get(POD_AUTOSCALER, "p")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], replicas(api, "a")) == (6, 6, {"a": 6})


def test_only_one_at_a_time_and_only_what_belongs_together(api: Api, tmp_path: Path) -> None:
    api.create(fleet.deployment("a", 4))
    head = begin(api, {"a": 1})
    with Journal(tmp_path / "j") as journal:
        with pytest.raises(JournalError, match="another rollout is writing"):
            Journal(tmp_path / "j")
        journal.begin(head)
        with pytest.raises(JournalError, match="was cut short"):
            journal.begin(head)
        with pytest.raises(JournalError, match="is of another plan"):
            resumed(journal, "other", api.host)
        with pytest.raises(JournalError, match="is of another cluster"):
            resumed(journal, "digest", "https://elsewhere")
    with (tmp_path / "j").open("a") as file:
        file.write('{"type": "wri')
    with Journal(tmp_path / "j") as journal:
        journal.writing(0, "after")
    with Journal(tmp_path / "j") as journal:
        assert journal.begun == {0}
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(JournalError, match="is no journal of a rollout"):
        Journal(tmp_path / "other")
    with Journal(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    with api_server(tmp_path, crds=False) as server:
        yield server


def test_outlives_a_restart_of_the_server(own: Server, tmp_path: Path) -> None:
    """The server goes after the first write, with the wait and the last write to come."""
    starters: list[threading.Timer] = []

    def restart(line: str) -> None:
        if "1 -> 3" in line:
            own.stop(only_api=True)
            starters.append(threading.Timer(0.5, own.start))
            starters[-1].start()

    with (
        connect(own.access, Limits(retry_s=120.0)) as api,
        Journal(tmp_path / "journal") as journal,
    ):
        for name, count in (("a", 4), ("b", 1)):
            api.create(fleet.deployment(name, count))
        head = begin(api, {"a": 1, "b": 3})
        journal.begin(head)
        with controllers(own.access):
            report = Rollout(api, journal, head.steps, LONG, tell=restart).forth()
        for starter in starters:
            starter.join()
        assert (report.outcome, len(starters)) == ("applied", 1), report.error
        assert replicas(api, "a", "b") == {"a": 1, "b": 3}


def test_a_stop_while_the_server_is_away_does_not_wait_for_it(own: Server, tmp_path: Path) -> None:
    stop = threading.Event()

    def go_away(line: str) -> None:
        own.stop(only_api=True)
        threading.Timer(0.5, stop.set).start()

    with (
        connect(own.access, Limits(retry_s=600.0)) as api,
        Journal(tmp_path / "journal") as journal,
    ):
        for name, count in (("a", 4), ("b", 1)):
            api.create(fleet.deployment(name, count))
        head = begin(api, {"a": 1, "b": 3})
        journal.begin(head)
        began = time.monotonic()
        report = Rollout(api, journal, head.steps, LONG, stop=stop, tell=go_away).forth()
        assert time.monotonic() - began < 30
        assert (report.outcome, report.done) == ("stopped", {0})
        assert "no API server answers" in str(report.error)
        assert journal.unfinished
