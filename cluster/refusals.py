"""Turn an API server's refusal into an error that says who may not do what, and what helps."""

import json
from typing import TYPE_CHECKING, Any

from cluster.errors import (
    ClusterError,
    ClusterUnreachableError,
    ClusterUsageError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    NotFoundError,
)

if TYPE_CHECKING:
    from cluster.transport import Deed


def refusal(deed: "Deed", status: int, body: bytes, host: str) -> ClusterError:
    """Return the error for an HTTP status of 400 or more.

    Args:
        deed: what was asked.
        status: of the answer.
        body: of the answer, a ``Status`` object where the API server wrote it.
        host: URL of the server.
    """
    answer = _status(body)
    said = answer.get("message") or body.decode(errors="replace").strip()[:500] or "no reason given"
    where = _where(deed)
    if status == 401:
        return ClusterUnreachableError(
            "cluster.unauthorized",
            f"the API server at {host} does not accept our credentials",
            hint="sign in again, or choose another --context",
            target=host,
        )
    if status == 403:
        return ForbiddenError(
            "cluster.forbidden",
            f"may not {deed.verb} {deed.resource}{where}: {said}",
            hint="`aibrixctl rbac print` writes the rights that each command needs",
            target=deed.resource,
        )
    if status == 404:
        return _not_found(deed, answer, where)
    if status == 409:
        return ConflictError(
            "cluster.conflict",
            f"cannot {deed.verb} {deed.resource}{where}: {said}",
            target=_of(deed),
        )
    if status == 410:
        return ExpiredError("cluster.expired", said, target=deed.resource)
    if status in (400, 413, 415, 422):
        return ClusterUsageError(
            "cluster.invalid",
            f"the API server refuses to {deed.verb} {deed.resource}{where}: {said}",
            target=_of(deed),
        )
    return ClusterError(
        "cluster.failed",
        f"cannot {deed.verb} {deed.resource}{where}: the API server answers {status}: {said}",
        target=_of(deed),
    )


def watch_error(deed: "Deed", answer: dict[str, Any], host: str) -> ClusterError:
    """Return the error that a watch reports in place of an event."""
    return refusal(deed, int(answer.get("code", 500)), json.dumps(answer).encode(), host)


def _status(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def _not_found(deed: "Deed", answer: dict[str, Any], where: str) -> NotFoundError:
    details = answer.get("details") or {}
    if details.get("kind") == "namespaces":
        itself = deed.resource == "namespaces"
        failed = "" if itself else f"cannot {deed.verb} {deed.resource}: "
        return NotFoundError(
            "cluster.no_namespace",
            f"{failed}there is no namespace {details.get('name')}",
            hint="`kubectl get namespaces` lists those that there are; choose one with --namespace",
            target=details.get("name"),
        )
    if deed.name and details.get("name"):
        return NotFoundError(
            "cluster.not_found", f"there is no {deed.resource}{where}", target=_of(deed)
        )
    return NotFoundError(
        "cluster.no_type",
        f"the cluster has no {deed.resource}",
        hint="is AIBrix installed there, and in this version?" if "aibrix" in deed.resource else "",
        target=deed.resource,
    )


def _of(deed: "Deed") -> str:
    return "/".join(part for part in (deed.namespace, deed.name) if part) or deed.resource


def _where(deed: "Deed") -> str:
    name = f" {deed.name}" if deed.name else ""
    return name + (f" in namespace {deed.namespace}" if deed.namespace else "")
