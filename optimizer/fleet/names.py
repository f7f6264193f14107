"""What the deployment of a type is called, where no cluster is asked."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.objects import is_name, is_namespace
from optimizer.errors import OptimizerUsageError

_AUTOSCALER = "podautoscaler-"


@dataclass(frozen=True)
class DeploymentName:
    """A deployment that may not be there.

    Attributes:
        namespace: of it.
        name: of it.
        assumed: whether nothing says the namespace, so that the usual one was taken.
    """

    namespace: str
    name: str
    assumed: bool = False

    @property
    def autoscaler(self) -> str:
        """Return the name of its PodAutoscaler."""
        return f"{_AUTOSCALER}{self.name}"

    def __str__(self) -> str:
        """Return ``default/foo``."""
        return f"{self.namespace}/{self.name}"


def names_of(kind: str, named: Mapping[str, str], measured: Mapping[str, str | None]) -> list[str]:
    """Return what the deployment of a type may be called, the likeliest first.

    Args:
        kind: name of the type.
        named: name of a type to ``[NAMESPACE/]NAME``; leaves no other.
        measured: the same, of what a type was measured on, before the type's own name.
    """
    if kind in named:
        return [named[kind]]
    return list(dict.fromkeys(filter(None, [measured.get(kind), kind])))


def deployment_name(
    kind: str,
    named: Mapping[str, str],
    measured: Mapping[str, str | None],
    namespace: str | None = None,
) -> DeploymentName:
    """Return the deployment of a type; ``namespace`` is for one whose name says none.

    Raises:
        OptimizerUsageError: Kubernetes can't have an object of that name, or such a namespace.
    """
    full = names_of(kind, named, measured)[0]
    place, slash, name = full.rpartition("/")
    found = DeploymentName(
        place if slash else namespace or "default", name, assumed=not slash and not namespace
    )
    if not is_namespace(found.namespace):
        raise _refused(kind, f"namespace {found.namespace!r}", "a namespace is of a-z, 0-9 and -")
    if not is_name(found.name) or not is_name(found.autoscaler):
        raise _refused(kind, f"deployment {found.name!r}", "a name is of a-z, 0-9, - and .")
    return found


def check_apart(kind: str, deployment: DeploymentName, of: Mapping[str, DeploymentName]) -> None:
    """Raise OptimizerUsageError where the deployment of a type is that ``of`` another, too."""
    for other, taken in of.items():
        if str(taken) == str(deployment):
            raise OptimizerUsageError(
                "fleet.twice",
                f"deployment {deployment} stands for two types, {other} and {kind}",
                hint="give each its own with --deployment TYPE=[NAMESPACE/]NAME",
                target=kind,
            )


def _refused(kind: str, what: str, rule: str) -> OptimizerUsageError:
    return OptimizerUsageError(
        "fleet.name",
        f"{kind} would be {what}, and Kubernetes can't have one of that name",
        hint=f"{rule}, as in --deployment {kind}=serving/llama-l20",
        target=kind,
    )
