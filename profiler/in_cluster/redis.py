"""The Redis that AIBrix keeps its profiles in, found by its Service and reached for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.access import Access, connect, in_cluster
from cluster.api import ALL, Api, Object
from cluster.errors import ForbiddenError
from cluster.kinds import SERVICE
from cluster.objects import parse_name
from profiler.errors import EngineUnreachableError, ProfilerUsageError

NAME, NAMESPACE = "aibrix-redis-master", "aibrix-system"
PORT = 6379


@dataclass(frozen=True)
class RedisService:
    """A Service that leads to a Redis."""

    namespace: str
    name: str
    port: int

    @property
    def url(self) -> str:
        """By which pods reach it."""
        return f"redis://{self.name}.{self.namespace}.svc:{self.port}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def find(api: Api, given: str | None = None) -> RedisService:
    """Return AIBrix's Redis: the Service given as ``[NAMESPACE/]NAME``, or the one of its name.

    Raises:
        EngineUnreachableError: there is none.
        ProfilerUsageError: there are several, or its port is unclear.
        ClusterError: the cluster refuses, or ``given`` is no name.
    """
    if given is not None:
        namespace, name = parse_name(given, "--redis-service")
        return _service(api.get(SERVICE, name, namespace or NAMESPACE))
    usual = api.find(SERVICE, NAME, NAMESPACE)
    if usual is not None:
        return _service(usual)
    try:
        others = list(api.list(SERVICE, ALL, fields=f"metadata.name={NAME}"))
    except ForbiddenError:
        others = []
    if len(others) == 1:
        return _service(others[0])
    if others:
        listed = ", ".join(sorted(str(_service(one)) for one in others))
        raise ProfilerUsageError(
            "redis.several", f"there are several: {listed}", hint="choose one with --redis-service"
        )
    raise EngineUnreachableError(
        "redis.no_service",
        f"there is no Service {NAMESPACE}/{NAME}",
        hint="name AIBrix's Redis with --redis-service NAMESPACE/NAME",
        target=NAME,
    )


def _service(service: Object) -> RedisService:
    metadata = service["metadata"]
    ports = service["spec"].get("ports") or []
    fitting = [one for one in ports if one["port"] == PORT or one.get("name") == "redis"]
    chosen = fitting or ports
    if len(chosen) != 1:
        raise ProfilerUsageError(
            "redis.port",
            f"Service {metadata['namespace']}/{metadata['name']} has {len(ports)} ports, and not "
            f"one that is {PORT} or named redis",
        )
    return RedisService(metadata["namespace"], metadata["name"], int(chosen[0]["port"]))


@contextmanager
def redis_url(access: Access, given: str | None = None) -> Iterator[tuple[str, RedisService]]:
    """Give a URL that leads to AIBrix's Redis for the block, and the Service it is of.

    In a pod it names the Service; elsewhere it leads through a port-forward.

    Raises:
        ToolError: as :func:`find`; or it can't be forwarded to.
    """
    with connect(access) as api:
        service = find(api, given)
    if in_cluster():
        yield service.url, service
        return
    from cluster.forward import forwarded

    what = f"service/{service.name}"
    with forwarded(access, service.namespace, what, service.port) as port:
        yield f"redis://127.0.0.1:{port}", service
