"""What is profiled: named targets, each an engine or a simulated replica.

``l20=http://10.0.0.7:8000`` measures a running engine, ``l20=k8s:deployment/foo`` one in a cluster;
``a10=sim:a10`` and ``big=sim:a100-80gx4`` simulate one replica of one or four accelerators (tensor
parallel).
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from accelerators.catalog import Accelerator
from accelerators.errors import UsageError
from accelerators.names import resolve
from profiler.errors import ProfilerUsageError

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
_REPLICA = re.compile(r"^(?P<name>.+?)x(?P<gpus>\d{1,3})$")
_FORMS = (
    "write NAME=http://HOST:PORT, NAME=k8s:deployment/FOO or NAME=sim:ACCELERATOR[xGPUS], "
    "e.g. a10=sim:a10"
)


@dataclass(frozen=True)
class Target:
    """One thing to profile.

    Attributes:
        name: of the GPU type or deployment; names the table.
        where: URL of an engine, ``k8s:…`` or ``sim:NAME[xN]``.
        kind: ``http``, ``k8s`` or ``sim``.
        accelerator: the simulated type, or that of the node in a cluster; None when unknown.
        gpus: accelerators per replica.
        cost_usd_per_hour: of one replica; None when unknown.
        via: how one in a cluster is measured, ``job`` or ``port-forward``; None for others.
        notes: what a reader of its figures must know of the way they are measured.
    """

    name: str
    where: str
    kind: Literal["http", "k8s", "sim"]
    accelerator: Accelerator | None = None
    gpus: int = 1
    cost_usd_per_hour: float | None = None
    via: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the form shown to users."""
        return {
            "name": self.name,
            "where": self.where,
            "accelerator": self.accelerator and self.accelerator.name,
            "gpus_per_replica": self.gpus,
            "cost_usd_per_hour": self.cost_usd_per_hour,
        }

    def identity(self) -> dict[str, Any]:
        """Return what its measurement depends on: a price is not part of that."""
        figures: dict[str, Any] = {}
        if self.accelerator is not None:
            shown = self.accelerator.to_json()
            figures = {
                name: shown[name]
                for name in shown
                if not name.startswith("price") and name not in ("title", "aliases", "sources")
            }
        identity = {
            "where": self.where,
            "gpus_per_replica": self.gpus,
            "accelerator": figures or None,
        }
        return identity if self.via is None else identity | {"via": self.via}


def parse_targets(
    texts: Iterable[str],
    *,
    costs: Iterable[str] = (),
    gpus: Iterable[str] = (),
    types: Mapping[str, Accelerator] | None = None,
) -> tuple[Target, ...]:
    """Return the targets of ``NAME=WHERE`` texts, in the order given.

    Args:
        texts: one or more ``NAME=WHERE``.
        costs: ``NAME=USD_PER_HOUR,…`` of one replica; a simulated target without one costs the
            catalogue's price of its accelerators.
        gpus: ``NAME=N``, accelerators per replica of an engine.
        types: the catalogue; the built-in one by default.

    Raises:
        UsageError: a malformed text, a name given twice, an unknown accelerator or target.
    """
    targets: dict[str, Target] = {}
    for text in texts:
        target = _parse(text, types)
        if target.name in targets:
            raise ProfilerUsageError(
                "target.twice", f"target {target.name!r} is given twice", target=target.name
            )
        targets[target.name] = target
    if not targets:
        raise ProfilerUsageError("target.none", "no target is given", hint=_FORMS)
    for text in gpus:
        name, value = _assignment(text, targets, "gpus")
        targets[name] = _with_gpus(targets[name], value)
    targets = {name: _with_list_price(target) for name, target in targets.items()}
    for name, cost in parse_costs(costs, targets).items():
        targets[name] = replace(targets[name], cost_usd_per_hour=cost)
    return tuple(targets.values())


def check_name(name: str) -> str:
    """Return a target's name when it can name a file too; raises ProfilerUsageError otherwise."""
    if not _NAME.match(name):
        raise ProfilerUsageError(
            "target.name",
            f"target name {name!r} can't name a file",
            hint="use letters, digits, dots, dashes and underscores",
            target=name,
        )
    return name


def _parse(text: str, types: Mapping[str, Accelerator] | None) -> Target:
    name, found, where = text.partition("=")
    if not found or not where:
        raise ProfilerUsageError("target.form", f"{text!r} is not a target", hint=_FORMS)
    check_name(name)
    if where.startswith("sim:"):
        accelerator, gpus = _replica(where.removeprefix("sim:"), types)
        return Target(name, where, "sim", accelerator, gpus)
    if where.startswith("k8s:"):
        from profiler.in_cluster.place import parse_ref

        parse_ref(where)
        return Target(name, where, "k8s")
    try:
        parts = urlsplit(where)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = parts.password is not None
        _ = parts.port
    except ValueError:
        valid, secret = False, False
    if not valid:
        raise ProfilerUsageError(
            "target.where", f"{name!r} points to {where!r}", hint=_FORMS, target=name
        )
    if secret:
        raise ProfilerUsageError(
            "target.secret",
            f"the URL of {name!r} holds a password",
            hint="put the key into a file and name it with --token-file",
            target=name,
        )
    return Target(name, where.rstrip("/"), "http")


def _replica(text: str, types: Mapping[str, Accelerator] | None) -> tuple[Accelerator, int]:
    """Return type and count of ``NAME`` or ``NAMExN``; a name that itself ends so wins."""
    match = _REPLICA.match(text)
    try:
        return resolve(text, types), 1
    except UsageError:
        if match is None:
            raise
    accelerator = resolve(match["name"], types)
    gpus = int(match["gpus"])
    if gpus < 1:
        raise ProfilerUsageError("target.gpus", f"{text!r} has no accelerator; expected x1 or more")
    return accelerator, gpus


def _assignment(text: str, names: Iterable[str], what: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``; refuses a name that isn't among ``names``."""
    known = list(names)
    name, found, value = text.partition("=")
    if not found:
        raise ProfilerUsageError(
            f"target.{what}", f"{text!r} is not NAME=VALUE", hint=f"e.g. --{what} a10=1"
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ProfilerUsageError(
            f"target.{what}",
            f"--{what} names {name!r}, but the targets are {', '.join(known)}",
            hint=f"did you mean {near[0]}?" if near else "",
            target=name,
        )
    return name, value


def _with_gpus(target: Target, value: str) -> Target:
    if not value.isdigit() or not 1 <= int(value) <= 999:
        raise ProfilerUsageError(
            "target.gpus", f"{target.name} has {value!r} GPUs; expected a whole number from 1"
        )
    if target.kind == "sim" and target.gpus not in (1, int(value)):
        raise ProfilerUsageError(
            "target.gpus", f"{target.where} and --gpus {target.name}={value} contradict each other"
        )
    return replace(target, gpus=int(value))


def _with_list_price(target: Target) -> Target:
    price = target.accelerator.price_usd_per_hour if target.accelerator else None
    cost = None if price is None else round(price * target.gpus, 6)
    return replace(target, cost_usd_per_hour=cost)


def parse_costs(texts: Iterable[str], names: Iterable[str]) -> dict[str, float]:
    """Return dollars per hour by name for texts such as ``a10=0.9,l20=1.1``.

    Args:
        texts: assignments, one or several in each; the last one of a name counts.
        names: that there are.

    Raises:
        ProfilerUsageError: malformed, another name, or a cost that is not above 0.
    """
    known = list(names)
    return dict(_parse_cost(item.strip(), known) for text in texts for item in text.split(","))


def _parse_cost(text: str, names: Iterable[str]) -> tuple[str, float]:
    name, value = _assignment(text, names, "cost")
    try:
        cost = float(value.removeprefix("$"))
    except ValueError:
        cost = -1.0
    if not 0 < cost < 1e6:
        raise ProfilerUsageError(
            "target.cost",
            f"the cost of {name} is {value!r}; expected US dollars per hour and replica",
            hint="e.g. --cost a10=0.9",
        )
    return name, cost
