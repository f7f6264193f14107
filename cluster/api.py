"""Read, follow and write the objects of a cluster."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.errors import ExpiredError, NotFoundError
from cluster.kinds import Kind, kind_of
from cluster.transport import Deed, Transport

FIELD_MANAGER = "aibrixctl"
PAGE = 500
Object = dict[str, Any]


class AllNamespaces:
    """The type of ALL."""


ALL = AllNamespaces()
"""In place of a namespace: every one."""
Where = str | AllNamespaces | None
"""A namespace, ALL, or None for that of the connection."""


@dataclass(frozen=True)
class Listing:
    """One page of a list: its objects, and where the next one begins (None after the last)."""

    items: list[Object]
    version: str
    more: str | None


class Api:
    """One cluster, as :func:`cluster.access.connect` gives it.

    Attributes:
        transport: the connections.
        namespace: where objects are whose namespace is not given.
    """

    def __init__(self, transport: Transport, namespace: str):
        self.transport = transport
        self.namespace = namespace

    @property
    def host(self) -> str:
        """Return the API server's URL."""
        return self.transport.host

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """Return an object.

        Raises:
            NotFoundError: there is none of that name, or no such type.
            ClusterError: the server refuses or fails.
        """
        within = self._within(kind, namespace)
        deed = Deed("get", kind.resource, within, name)
        return self.transport.request(deed, "GET", kind.path(within, name))

    def find(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """Return an object; None where there is none. Raises ClusterError as ``get`` does."""
        try:
            return self.get(kind, name, namespace)
        except NotFoundError as error:
            if error.code == "cluster.no_type":
                raise
            return None

    def list(
        self, kind: Kind, namespace: Where = None, *, labels: str = "", fields: str = ""
    ) -> Iterator[Object]:
        """Yield the objects of a kind, a page in memory at a time.

        A list that the server no longer remembers in the middle (410) is begun anew; what was
        yielded is not yielded again.

        Args:
            kind: of the objects.
            namespace: one, ALL, or that of the connection.
            labels: selector, in the API's syntax.
            fields: the same for fields.

        Raises:
            ClusterError: the server refuses or fails.
        """
        seen: set[str] = set()
        more: str | None = None
        while True:
            try:
                page = self.page(kind, namespace, labels=labels, fields=fields, more=more)
            except ExpiredError:
                more = None
                continue
            for item in page.items:
                uid = item["metadata"].get("uid", "")
                if uid not in seen:
                    seen.add(uid)
                    yield item
            more = page.more
            if more is None:
                return

    def page(
        self,
        kind: Kind,
        namespace: Where = None,
        *,
        labels: str = "",
        fields: str = "",
        more: str | None = None,
    ) -> Listing:
        """Return one page of a list; raises ClusterError, ExpiredError for a stale ``more``."""
        within = self.within(kind, namespace)
        deed = Deed("list", kind.resource, within)
        query = {"limit": str(PAGE)} | _selectors(labels, fields)
        if more:
            query["continue"] = more
        answer = self.transport.request(deed, "GET", kind.path(within), query=query)
        items = answer.get("items") or []
        for item in items:  # A list leaves out what its own head says.
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        head = answer.get("metadata", {})
        return Listing(items, str(head.get("resourceVersion", "")), head.get("continue") or None)

    def apply(
        self,
        obj: Mapping[str, Any],
        *,
        dry_run: bool = False,
        force: bool = False,
        subresource: str | None = None,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Make the fields of an object ours, by server-side apply, and return the object.

        With ``metadata.resourceVersion`` in it, only where the object still has that version.

        Args:
            obj: apiVersion, kind, metadata.name and the fields to own.
            dry_run: let the server check and answer, and change nothing.
            force: take over fields that others own.
            subresource: such as ``status``.
            manager: owner of the fields.

        Raises:
            ConflictError: it has another version, or others own a field.
            ClusterError: the server refuses or fails.
        """
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return self._write(
            "patch", "PATCH", obj, query, dry_run, subresource, "application/apply-patch+yaml"
        )

    def create(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Create an object and return it; raises ConflictError where there is one already."""
        return self._write("create", "POST", obj, {"fieldManager": FIELD_MANAGER}, dry_run)

    def replace(
        self, obj: Mapping[str, Any], *, dry_run: bool = False, subresource: str | None = None
    ) -> Object:
        """Replace an object whole; raises ConflictError when it is no longer what was read."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._write("update", "PUT", obj, query, dry_run, subresource)

    def patch(
        self,
        kind: Kind,
        name: str,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        subresource: str | None = None,
        how: Literal["merge", "strategic-merge"] = "merge",
    ) -> Object:
        """Merge fields into an object, null taking one away, and return it.

        Raises:
            ConflictError: ``metadata.resourceVersion`` is in the body and no longer the object's.
            ClusterError: the server refuses or fails.
        """
        within = self._within(kind, namespace)
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        obj["metadata"] = {**body.get("metadata", {}), "name": name}
        if within:
            obj["metadata"]["namespace"] = within
        form = f"application/{how}-patch+json"
        query = {"fieldManager": FIELD_MANAGER}
        return self._write("patch", "PATCH", obj, query, dry_run, subresource, form)

    def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Delete an object and what it owns; return False where there was none.

        Raises:
            ConflictError: there is one of that name, but not of that ``uid``.
            ClusterError: the server refuses or fails.
        """
        within = self._within(kind, namespace)
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        if dry_run:
            options["dryRun"] = ["All"]
        deed = Deed("delete", kind.resource, within, name)
        try:
            self.transport.request(deed, "DELETE", kind.path(within, name), body=options)
        except NotFoundError:
            return False
        return True

    def _write(
        self,
        verb: str,
        method: str,
        obj: Mapping[str, Any],
        query: Mapping[str, str],
        dry_run: bool,
        subresource: str | None = None,
        content_type: str = "application/json",
    ) -> Object:
        kind, metadata = kind_of(obj), obj["metadata"]
        within = self._within(kind, metadata.get("namespace"))
        name = metadata["name"]
        path = kind.path(within, None if method == "POST" else name)
        path += f"/{subresource}" if subresource else ""
        resource = f"{kind.resource}/{subresource}" if subresource else kind.resource
        return self.transport.request(
            Deed(verb, resource, within, name),
            method,
            path,
            query={**query, "dryRun": "All"} if dry_run else query,
            body=obj,
            content_type=content_type,
        )

    def _within(self, kind: Kind, namespace: str | None) -> str | None:
        return (namespace or self.namespace) if kind.namespaced else None

    def within(self, kind: Kind, namespace: Where) -> str | None:
        """Return the namespace to ask; None for all, and for kinds that have none."""
        if isinstance(namespace, AllNamespaces):
            return None
        return self._within(kind, namespace)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    asked = {"labelSelector": labels, "fieldSelector": fields}
    return {name: text for name, text in asked.items() if text}
