"""Schedules as AIBrix reads them: its rules, and the schema of its CRD."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.api import Api
from cluster.kinds import POD_AUTOSCALER
from optimizer.fleet.names import DeploymentName
from optimizer.schedule.podautoscaler import by_minute, pod_autoscaler, schedules
from optimizer.schedule.schedule import DAYS, Cost, Hour, Schedule

A10 = DeploymentName("serving", "llama-a10")
RINGS = st.sampled_from([24, 168]).flatmap(
    lambda hours: st.lists(st.integers(0, 3), min_size=hours, max_size=hours)
)


def schedule_of(replicas: list[int], timezone: str = "UTC") -> Schedule:
    weekly = len(replicas) > 24
    hours = tuple(
        Hour(DAYS[h // 24] if weekly else None, h % 24, 1.0, {"a10": n}, float(n), {})
        for h, n in enumerate(replicas)
    )
    cost = Cost(float(sum(replicas)), 0.0)
    return Schedule(
        hours, timezone, {"a10": 0.0}, cost, cost, cost, 0.0, "optimal", "m", 0.0, {}, ()
    )


def bounds(spec: dict[str, Any], day: str, minute: int) -> tuple[int, int]:
    """Return the bounds that hold, by AIBrix's rule; fails where two schedules overlap."""
    at = f"{minute // 60:02d}:{minute % 60:02d}"
    active = [
        entry
        for entry in spec["schedules"]
        if day in entry.get("daysOfWeek", DAYS) and entry["startTime"] <= at < entry["endTime"]
    ]
    assert len(active) <= 1
    chosen = active[0] if active else spec
    return chosen["minReplicas"], chosen["maxReplicas"]


@given(RINGS, st.sampled_from([0, 300, 3600, 5000]))
def test_every_minute_has_its_replicas(replicas: list[int], lead_s: int) -> None:
    spec = pod_autoscaler(schedule_of(replicas), "a10", A10, lead_s=lead_s)["spec"]
    assert len({entry["name"] for entry in spec["schedules"]}) == len(spec["schedules"])
    for entry in spec["schedules"]:
        assert entry["startTime"] < entry["endTime"]
        assert 0 <= entry["minReplicas"] <= entry["maxReplicas"] > 0
    ring, lead = len(replicas), -(-lead_s // 60)
    for day_number, day in enumerate(DAYS):
        for minute in range(0, 1440, 7):
            here = day_number * 1440 + minute
            soon = [replicas[(here + m) // 60 % ring] for m in range(0, lead + 1)]
            low, high = bounds(spec, day, minute)
            assert low == max(soon)
            assert high == max(low, 1)
        low, _ = bounds(spec, day, 1439)
        assert low >= replicas[(day_number * 24 + 23) % ring]


def test_days_that_are_alike_share_a_schedule() -> None:
    work = [0] * 8 + [3] * 10 + [1] * 6
    minutes = by_minute(work * 5 + [1] * 48, 300)
    assert schedules(minutes, "Europe/Berlin")[0] == {
        "name": "mon-tue-wed-thu-fri-0000-0755",
        "startTime": "00:00",
        "endTime": "07:55",
        "minReplicas": 0,
        "maxReplicas": 1,
        "daysOfWeek": ["mon", "tue", "wed", "thu", "fri"],
        "timezone": "Europe/Berlin",
    }
    assert schedules(by_minute([2] * 168), "UTC") == [
        {
            "name": "daily-0000-2359",
            "startTime": "00:00",
            "endTime": "23:59",
            "minReplicas": 2,
            "maxReplicas": 2,
        }
    ]


def test_aibrix_crd_takes_it() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data" / "aibrix-crds"
    if not folder.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    text = (folder / "autoscaling.aibrix.ai_podautoscalers.yaml").read_text()
    version = yaml.safe_load(text)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    replicas = [h % 5 for h in range(168)]
    made = pod_autoscaler(schedule_of(replicas, "Asia/Tokyo"), "a10", A10, lead_s=300)
    again = yaml.safe_load(yaml.safe_dump(made))
    jsonschema.Draft202012Validator(_closed(schema)).validate(again)
    assert again == made


def test_a_cluster_keeps_every_field_of_it(api: Api) -> None:
    schedule = schedule_of([h % 5 for h in range(168)], "Asia/Tokyo")
    made = pod_autoscaler(schedule, "a10", DeploymentName(api.namespace, "llama-a10"), lead_s=300)
    api.apply(made)
    assert api.get(POD_AUTOSCALER, "podautoscaler-llama-a10")["spec"] == made["spec"]


def _closed(schema: Any) -> Any:
    """Return the schema with every object closed, as a cluster drops what it does not know."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _closed(value) for name, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("type") == "object":
        made["additionalProperties"] = False
    return made
