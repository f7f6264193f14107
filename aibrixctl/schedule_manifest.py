"""A schedule as PodAutoscalers: which deployments they are for, and their text."""

from typing import TYPE_CHECKING, Any

from aibrixctl.result import Problem as Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimizer.fleet.names import DeploymentName
    from optimizer.from_tables import Source
    from optimizer.schedule.schedule import Schedule


def deployments(
    sources: "Sequence[Source]",
    named: "Mapping[str, str]",
    namespace: str | None,
    *,
    written: bool,
) -> "tuple[dict[str, DeploymentName], tuple[Message, ...]]":
    """Return the deployment of each type, as ``optimize plan`` takes it, and what to say of them.

    Args:
        sources: tables of the types.
        named: name of a type to ``[NAMESPACE/]NAME`` in place of what the tables say.
        namespace: of those whose name says none.
        written: whether a manifest is; else a type that can be no deployment is left out, and said.

    Raises:
        UsageError: ``named`` knows other types, two types have one deployment, or Kubernetes can
            have no deployment or namespace of that name.
    """
    from accelerators.errors import UsageError
    from optimizer.fleet.names import check_apart, deployment_name
    from optimizer.problem import check_names

    measured = {source.table.target: source.deployment for source in sources}
    check_names("--deployment", named, measured)
    found: dict[str, DeploymentName] = {}
    said: list[Message] = []
    for kind in measured:
        try:
            deployment = deployment_name(kind, named, measured, namespace)
            check_apart(kind, deployment, found)
        except UsageError as error:
            if written or kind in named:
                raise
            said.append(Message("schedule.deployment", error.message, error.target, error.hint))
        else:
            found[kind] = deployment
    if written:
        said += _assumed(found)
    return found, tuple(said)


def _assumed(found: "Mapping[str, DeploymentName]") -> list[Message]:
    names = [deployment.name for deployment in found.values() if deployment.assumed]
    if not names:
        return []
    text = f"nothing says the namespace of {', '.join(names)}: the manifest takes default"
    return [Message("schedule.namespace", text, hint="name it with --namespace")]


def scalers(
    found: "Schedule", deployments: "Mapping[str, DeploymentName]", lead_s: float
) -> dict[str, dict[str, Any]]:
    """Return the PodAutoscaler of each type; replicas start ``lead_s`` before their hour."""
    from optimizer.schedule.podautoscaler import pod_autoscaler

    return {
        kind: pod_autoscaler(found, kind, deployment, lead_s=lead_s)
        for kind, deployment in deployments.items()
    }


def to_yaml(scalers: "Mapping[str, dict[str, Any]]") -> str:
    """Return PodAutoscalers as one YAML text."""
    import yaml

    text: str = yaml.safe_dump_all(scalers.values(), sort_keys=False, allow_unicode=True)
    return text
