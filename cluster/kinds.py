"""Which resources the tool speaks of, and where the API server keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.errors import ClusterUsageError


@dataclass(frozen=True)
class Kind:
    """One resource type.

    Attributes:
        group: API group; empty for the core.
        version: of the group.
        plural: its name in URLs and in RBAC.
        kind: its name in objects.
        namespaced: False for what belongs to the whole cluster.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return ``group/version``, as objects have it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Return ``plural.group``, as kubectl and errors have it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the URL path of the collection, or of one object."""
        base = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{base}{within}/{self.plural}" + (f"/{name}" if name else "")


NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODE = Kind("", "v1", "nodes", "Node", namespaced=False)
POD = Kind("", "v1", "pods", "Pod")
SERVICE = Kind("", "v1", "services", "Service")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
EVENT = Kind("", "v1", "events", "Event")
SERVICE_ACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
REPLICA_SET = Kind("apps", "v1", "replicasets", "ReplicaSet")
HORIZONTAL_POD_AUTOSCALER = Kind(
    "autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
)
JOB = Kind("batch", "v1", "jobs", "Job")
CRD = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
ROLE = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE = Kind(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
POD_AUTOSCALER = Kind("autoscaling.aibrix.ai", "v1alpha1", "podautoscalers", "PodAutoscaler")
MODEL_ADAPTER = Kind("model.aibrix.ai", "v1alpha1", "modeladapters", "ModelAdapter")
_ORCHESTRATION = "orchestration.aibrix.ai"
KV_CACHE = Kind(_ORCHESTRATION, "v1alpha1", "kvcaches", "KVCache")
STORM_SERVICE = Kind(_ORCHESTRATION, "v1alpha1", "stormservices", "StormService")
ROLE_SET = Kind(_ORCHESTRATION, "v1alpha1", "rolesets", "RoleSet")
POD_SET = Kind(_ORCHESTRATION, "v1alpha1", "podsets", "PodSet")
RAY_CLUSTER_FLEET = Kind(_ORCHESTRATION, "v1alpha1", "rayclusterfleets", "RayClusterFleet")
RAY_CLUSTER_REPLICA_SET = Kind(
    _ORCHESTRATION, "v1alpha1", "rayclusterreplicasets", "RayClusterReplicaSet"
)
RAY_CLUSTER = Kind("ray.io", "v1", "rayclusters", "RayCluster")

KINDS: Mapping[tuple[str, str], Kind] = {
    (kind.api_version, kind.kind): kind for kind in list(globals().values()) if type(kind) is Kind
}
"""By ``apiVersion`` and ``kind`` of an object."""


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """Return the kind that an object states.

    Raises:
        ClusterUsageError: it states none, or one that the tool does not know.
    """
    stated = str(obj.get("apiVersion", "")), str(obj.get("kind", ""))
    if stated in KINDS:
        return KINDS[stated]
    raise ClusterUsageError(
        "cluster.kind",
        f"an object of apiVersion {stated[0]!r} and kind {stated[1]!r}; expected one of "
        + ", ".join(sorted(kind.kind for kind in KINDS.values())),
    )


def title(obj: Mapping[str, Any]) -> str:
    """Return how messages name an object: ``deployments.apps default/foo``."""
    metadata = obj.get("metadata", {})
    stated = str(obj.get("apiVersion", "")), str(obj.get("kind", ""))
    resource = KINDS[stated].resource if stated in KINDS else stated[1].lower()
    return f"{resource} {full_name(metadata)}"


def full_name(metadata: Mapping[str, Any]) -> str:
    """Return ``namespace/name``, or the name alone where there is no namespace."""
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata.get('name')}" if namespace else str(metadata.get("name"))
