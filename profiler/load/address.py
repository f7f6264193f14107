"""Where the server is, and the bytes that every request to it starts with."""

import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load.config import LoadConfig


@dataclass(frozen=True)
class Address:
    """A server: scheme, host, port, and the path below which its API stands."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL without a final slash."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


def parse_url(url: str) -> Address:
    """Return the address that a base URL names; a final ``/v1`` is dropped.

    Raises:
        ProfilerUsageError: not an http or https URL, or one with a password or a query.
    """
    hint = "write e.g. http://127.0.0.1:8000"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ProfilerUsageError("load.url", f"{url!r} is not a URL: {error}", hint=hint) from error
    if parts.username is not None or parts.password is not None:
        raise ProfilerUsageError(
            "load.url", "the URL holds a user name; give the API key in a file", hint=hint
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProfilerUsageError(
            "load.url", f"{url!r} is not an http or https URL", hint=hint, target=url
        )
    if parts.query or parts.fragment:
        raise ProfilerUsageError("load.url", f"{url!r} has a query", hint=hint, target=url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    default = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, parts.hostname, port if port is not None else default, path)


def resolve(address: Address) -> list[tuple[int, str]]:
    """Return (address family, IP address) pairs, each once, in the resolver's order.

    Raises:
        EngineUnreachableError: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise EngineUnreachableError(
            "load.dns",
            f"the name {address.host!r} does not resolve: {error}",
            hint="check the URL",
            target=address.url,
        ) from error
    return list(dict.fromkeys((int(family), str(where[0])) for family, _, _, _, where in found))


def tls_context(config: LoadConfig) -> ssl.SSLContext:
    """Return how to verify the server.

    Raises:
        ProfilerUsageError: the CA file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ProfilerUsageError(
            "load.ca_file", f"cannot use {config.ca_file}: {error}", target=config.ca_file
        ) from error
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def headers(address: Address, config: LoadConfig) -> dict[str, str]:
    """Return the headers of every request.

    Raises:
        ProfilerUsageError: the API key can't stand in a header.
    """
    common = {"Host": address.authority, "User-Agent": "aibrixctl", "Accept": "*/*"}
    if config.token:
        if not config.token.isascii() or not config.token.isprintable():
            raise ProfilerUsageError(
                "load.token", "the API key holds characters that a header can't carry"
            )
        common["Authorization"] = f"Bearer {config.token}"
    return common
