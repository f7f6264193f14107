"""Following objects of a real API server over breaks, compactions and a restart."""

import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.access import connect
from cluster.api import Api
from cluster.errors import ClusterError, ForbiddenError
from cluster.kinds import CONFIG_MAP
from cluster.watch import Event, follow
from tests.cluster.test_api import config_map
from tests.kube import Server, api_server


def take(events: Iterator[Event | None], count: int) -> list[tuple[str, str]]:
    """Return the next events by change and name."""
    real = (event for event in events if event is not None)
    return [(e.change, e.object["metadata"]["name"]) for e in itertools.islice(real, count)]


def soon() -> float:
    return time.monotonic() + 20


def test_follows_what_is_added_changed_and_deleted(api: Api) -> None:
    api.apply(config_map("a") | {"metadata": {"name": "a", "labels": {"mine": "yes"}}})
    api.apply(config_map("other"))
    events = follow(api, CONFIG_MAP, labels="mine=yes", until_s=soon())
    assert take(events, 1) == [("ADDED", "a")]
    api.apply(config_map("a", x="1") | {"metadata": {"name": "a", "labels": {"mine": "yes"}}})
    api.delete(CONFIG_MAP, "a")
    assert take(events, 2) == [("MODIFIED", "a"), ("DELETED", "a")]
    events.close()  # type: ignore[attr-defined]


def test_ends_at_a_flag_and_at_a_time(api: Api) -> None:
    stop = threading.Event()
    events = follow(api, CONFIG_MAP, stop=stop)
    assert next(events) is None
    stop.set()
    began = time.monotonic()
    assert list(events) == []
    assert list(follow(api, CONFIG_MAP, until_s=time.monotonic() + 0.5)) != []
    assert time.monotonic() - began < 5


def test_says_who_may_not_watch(kube: Server, api: Api) -> None:
    from cluster.access import Access

    rules: list[dict[str, Any]] = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    ]
    file = kube.account(api, "lister", rules, api.namespace)
    with (
        connect(Access(str(file))) as limited,
        pytest.raises(ForbiddenError, match="may not watch configmaps"),
    ):
        list(follow(limited, CONFIG_MAP, until_s=soon()))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    with api_server(tmp_path, crds=False) as server:
        yield server


def forget(server: Server) -> None:
    """Let etcd forget all but the newest version of everything."""
    url = next(a for a in server.commands[0] if a.startswith("--listen-client")).partition("=")[2]

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{url}/v3/kv/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed

    now = post("range", {"key": "AA=="})["header"]["revision"]
    post("compaction", {"revision": now, "physical": True})


def test_goes_on_over_a_restart_that_forgets(own: Server) -> None:
    with connect(own.access) as api:
        for name in ("a", "b"):
            api.apply(config_map(name))
        events = follow(api, CONFIG_MAP, "default", until_s=time.monotonic() + 60)
        assert sorted(take(events, 2)) == [("ADDED", "a"), ("ADDED", "b")]
        own.stop(only_api=True)
        own.start()
        with connect(own.access) as second:
            second.delete(CONFIG_MAP, "a")
            second.apply(config_map("b", x="1"))
            second.apply(config_map("c"))
            forget(own)
        found: set[tuple[str, str]] = set()
        while len(found) < 3:
            found |= set(take(events, 1))
        assert found == {("DELETED", "a"), ("MODIFIED", "b"), ("ADDED", "c")}
        events.close()  # type: ignore[attr-defined]


def test_a_list_begins_anew_when_its_next_page_is_forgotten(
    own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.api.PAGE", 2)
    with connect(own.access) as api:
        for number in range(5):
            api.apply(config_map(f"c{number}"))
        listed = api.list(CONFIG_MAP)
        first = [next(listed), next(listed)]
        api.apply(config_map("c4", x="1"))
        forget(own)
        names = [item["metadata"]["name"] for item in (*first, *listed)]
        assert sorted(names) == [f"c{number}" for number in range(5)]


def test_gives_up_on_a_server_that_stays_away(own: Server) -> None:
    from cluster.transport import Limits

    with connect(own.access, Limits(retry_s=1.0)) as api:
        events = follow(api, CONFIG_MAP)
        assert next(events) is None
        own.stop(only_api=True)
        with pytest.raises(ClusterError, match="no API server answers"):
            list(events)
