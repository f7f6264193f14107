"""The rights that each command needs in a cluster, no more, and the manifests that give them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster import kinds
from cluster.api import Object
from cluster.errors import ClusterUsageError
from cluster.kinds import Kind

RBAC = "rbac.authorization.k8s.io"
WORKER = "aibrixctl-worker"
"""The service account of the Jobs that commands start."""


@dataclass(frozen=True)
class Right:
    """What may be done with one resource.

    Attributes:
        kind: the resource type.
        verbs: of RBAC.
        subresource: such as ``status``; empty for the object itself.
        everywhere: in every namespace; always so for what has none.
        within: a namespace of its own, in place of the one that the account works in.
    """

    kind: Kind
    verbs: tuple[str, ...]
    subresource: str = ""
    everywhere: bool = False
    within: str = ""

    @property
    def resource(self) -> str:
        """Return its name in a rule."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    @property
    def cluster_wide(self) -> bool:
        """Return whether a Role can't give it; a namespace itself is given within it."""
        return self.everywhere or not (self.kind.namespaced or self.kind == kinds.NAMESPACE)


@dataclass(frozen=True)
class Needs:
    """The rights of one command, and those of the Jobs that it starts."""

    rights: tuple[Right, ...]
    worker: tuple[Right, ...] = ()

    def everywhere(self) -> "Needs":
        """Return the same with what is only read in every namespace."""
        reads = {"get", "list", "watch"}
        wider = (
            replace(one, everywhere=True, within="") if reads.issuperset(one.verbs) else one
            for one in self.rights
        )
        return replace(self, rights=tuple(wider))


_AIBRIX = "aibrix-system"
_EVENTS_OF_NODES = "default"
_NAMESPACE = Right(kinds.NAMESPACE, ("get",))
"""Tells an empty namespace from none."""
_DELIVERS = Right(kinds.CONFIG_MAP, ("create", "patch"))
_JOBS = (
    Right(kinds.JOB, ("create", "delete", "get", "list", "watch")),
    Right(kinds.POD, ("list",)),
    Right(kinds.EVENT, ("list",)),
    Right(kinds.CONFIG_MAP, ("delete", "get", "list")),
)
_ENGINE = (
    Right(kinds.DEPLOYMENT, ("get",)),
    Right(kinds.SERVICE, ("get", "list")),
    Right(kinds.POD, ("list",)),
    Right(kinds.NODE, ("get",)),
)
_FORWARD = (
    Right(kinds.POD, ("get", "list")),
    Right(kinds.POD, ("create",), "portforward"),
    Right(kinds.SERVICE, ("get",)),
)
_AUTOSCALERS = (
    Right(kinds.POD_AUTOSCALER, ("list",)),
    Right(kinds.HORIZONTAL_POD_AUTOSCALER, ("list",)),
)
_CLOSES_NODES = (
    Right(kinds.NODE, ("get", "list", "patch")),
    Right(kinds.NODE, ("patch",), "status"),
)
_SCANS = (Right(kinds.NODE, ("list",)), *_JOBS)


def _lists(*listed: Kind) -> tuple[Right, ...]:
    return tuple(Right(kind, ("list",)) for kind in listed)


_RECALLS = Right(kinds.JOB, ("patch",))
_LOADS = Needs(
    (*_ENGINE, *_JOBS, _RECALLS),
    (Right(kinds.CONFIG_MAP, ("create", "get", "patch")),),
)
_LOADS_FROM_HERE = Needs((*_ENGINE, *_FORWARD))

NEEDS: dict[str, Needs] = {
    "profile load": _LOADS,
    "profile load --port-forward": _LOADS_FROM_HERE,
    "profile run": _LOADS,
    "profile run --port-forward": _LOADS_FROM_HERE,
    "profile push": Needs(tuple(replace(right, within=_AIBRIX) for right in _FORWARD)),
    "optimize plan": Needs(
        (
            Right(kinds.DEPLOYMENT, ("get", "list")),
            Right(kinds.STORM_SERVICE, ("get",)),
            Right(kinds.NODE, ("list",)),
            Right(kinds.POD, ("list",), everywhere=True),
            _NAMESPACE,
        )
    ),
    "optimize apply": Needs(
        (
            Right(kinds.DEPLOYMENT, ("get", "list", "patch")),
            Right(kinds.STORM_SERVICE, ("get",)),
            *_AUTOSCALERS,
        )
    ),
    "optimize apply --target stormservice": Needs(
        (
            Right(kinds.DEPLOYMENT, ("get", "list")),
            Right(kinds.STORM_SERVICE, ("get", "patch")),
            *_AUTOSCALERS,
        )
    ),
    "optimize apply --target podautoscaler": Needs(
        (
            Right(kinds.DEPLOYMENT, ("get", "list", "patch")),
            Right(kinds.STORM_SERVICE, ("get", "patch")),
            *_AUTOSCALERS,
            Right(kinds.POD_AUTOSCALER, ("get", "patch")),
        )
    ),
    "optimize doctor": Needs(
        (
            *_lists(kinds.DEPLOYMENT, kinds.STORM_SERVICE),
            *_AUTOSCALERS,
            Right(kinds.DEPLOYMENT, ("list",), within=_AIBRIX),
        )
    ),
    "diagnose cluster": Needs(_SCANS, (_DELIVERS,)),
    "diagnose cluster --apply": Needs(
        (
            *_SCANS,
            *_CLOSES_NODES,
            Right(kinds.EVENT, ("create", "get", "patch"), within=_EVENTS_OF_NODES),
        ),
        (_DELIVERS,),
    ),
    "diagnose cluster --undo": Needs(_CLOSES_NODES),
    "diagnose fleet": Needs(
        (
            *_lists(
                kinds.DEPLOYMENT,
                kinds.STORM_SERVICE,
                kinds.ROLE_SET,
                kinds.POD_SET,
                kinds.RAY_CLUSTER_FLEET,
                kinds.RAY_CLUSTER_REPLICA_SET,
                kinds.RAY_CLUSTER,
                kinds.MODEL_ADAPTER,
                kinds.POD_AUTOSCALER,
                kinds.KV_CACHE,
                kinds.POD,
            ),
            Right(kinds.NODE, ("list",)),
            _NAMESPACE,
        )
    ),
    "kv pools": Needs((*_lists(kinds.KV_CACHE, kinds.POD, kinds.SERVICE), _NAMESPACE)),
    "kv doctor": Needs(
        (
            Right(kinds.KV_CACHE, ("get", "list"), everywhere=True),
            Right(kinds.POD, ("list",), everywhere=True),
            Right(kinds.SERVICE, ("list",), everywhere=True),
            Right(kinds.NODE, ("get",)),
        )
    ),
}
"""By command."""


def needs_of(commands: Sequence[str]) -> dict[str, Needs]:
    """Return the needs of commands, of all of them when none is named.

    Raises:
        ClusterUsageError: no such command, or one that needs no rights.
    """
    for command in commands:
        if command not in NEEDS:
            raise ClusterUsageError(
                "rbac.command",
                f"no rights are known for {command!r}; expected one of {', '.join(NEEDS)}",
                target=command,
            )
    return {command: NEEDS[command] for command in commands or NEEDS}


def manifests(needs: Iterable[Needs], *, namespace: str, account: str) -> list[Object]:
    """Return a service account with these rights, and that of the Jobs where it needs them.

    Args:
        needs: what it is to do.
        namespace: where it lives, works and starts Jobs.
        account: its name; also that of its roles.
    """
    needs = tuple(needs)
    rights = _merged(right for one in needs for right in one.rights)
    made = list(_account(account, namespace, rights))
    worker = _merged(right for one in needs for right in one.worker)
    return made + list(_account(WORKER, namespace, worker)) if worker else made


def _merged(rights: Iterable[Right]) -> list[Right]:
    """Return one right a resource and scope, its verbs joined."""
    joined: dict[Right, set[str]] = {}
    for right in rights:
        scope = replace(right, verbs=(), everywhere=right.cluster_wide)
        joined.setdefault(scope, set()).update(right.verbs)
    merged = (replace(scope, verbs=tuple(sorted(verbs))) for scope, verbs in joined.items())
    return sorted(merged, key=lambda one: (one.kind.group, one.resource))


def _account(name: str, namespace: str, rights: Sequence[Right]) -> Iterator[Object]:
    yield {
        "apiVersion": "v1",
        "kind": kinds.SERVICE_ACCOUNT.kind,
        "metadata": {"name": name, "namespace": namespace},
    }
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    # What is not in the account's own namespace bears that in its name: there may be several of us.
    title = f"{namespace}-{name}"
    within = {right.within or namespace for right in rights if not right.cluster_wide}
    for place in sorted(within, key=lambda one: (one != namespace, one)):
        metadata = {"name": name if place == namespace else title, "namespace": place}
        chosen = [one for one in rights if (one.within or namespace) == place]
        local = [one for one in chosen if not one.cluster_wide]
        yield from _role(kinds.ROLE, kinds.ROLE_BINDING, metadata, local, subject)
    wide = [right for right in rights if right.cluster_wide]
    if wide:
        binding = kinds.CLUSTER_ROLE_BINDING
        yield from _role(kinds.CLUSTER_ROLE, binding, {"name": title}, wide, subject)


def _role(
    role: Kind, binding: Kind, metadata: Object, rights: Sequence[Right], subject: Object
) -> Iterator[Object]:
    yield {
        "apiVersion": role.api_version,
        "kind": role.kind,
        "metadata": metadata,
        "rules": [_rule(right) for right in rights],
    }
    yield {
        "apiVersion": binding.api_version,
        "kind": binding.kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": role.kind, "name": metadata["name"]},
        "subjects": [subject],
    }


def _rule(right: Right) -> Object:
    return {
        "apiGroups": [right.kind.group],
        "resources": [right.resource],
        "verbs": list(right.verbs),
    }
