"""Draw what a plan saw of its cluster."""

from collections.abc import Iterator, Mapping
from typing import Any


def cluster_lines(inputs: Mapping[str, Any]) -> list[str]:
    """Return where replicas and availability of a plan came from; empty without a cluster."""
    seen = inputs.get("cluster")
    if not seen:
        return []
    limits = inputs.get("limits", {}).get("available_gpus", {})
    lines = [f"cluster {seen['host']}:"]
    lines += [f"  {kind}: {_workload(found)}" for kind, found in seen["workloads"].items()]
    for name, origin in seen["available_from"].items():
        if origin == "option":
            lines.append(f"  available {name}: {_gpus(limits[name])} (--available)")
        else:
            lines.append(f"  available {name}: {'; '.join(_capacity(seen['accelerators'][name]))}")
    return lines


def _workload(found: Mapping[str, Any]) -> str:
    count = found["replicas"]
    return (
        f"{found['kind'].lower()} {found['namespace']}/{found['name']}, "
        f"{count} replica{'' if count == 1 else 's'}"
    )


def _capacity(found: Mapping[str, Any]) -> Iterator[str]:
    nodes = found["nodes"]
    yield (
        f"{_gpus(found['available_gpus'])} = {found['allocatable_gpus']} on {nodes} "
        f"node{'' if nodes == 1 else 's'} - {found['taken_gpus']} requested by other pods"
    )
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for node in found["left_out"]:
        reasons.setdefault(node["reason"], []).append(node)
    for reason, nodes_out in sorted(reasons.items()):
        names = [node["node"] for node in nodes_out]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"left out {_gpus(sum(n['gpus'] for n in nodes_out))} of {shown} ({reason})"


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"
