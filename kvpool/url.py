"""The URL that names a pool: which layout it has, and where it is.

lmcache+redis://[USER@]HOST[:PORT][/DB]         rediss for TLS
lmcache+file:///DIR, lmcache+file:DIR           what LMCache's fs:// connector writes
lm://HOST:PORT                                  LMCache's own server
aibrix+shfs:///ROOT, aibrix+rocksdb:///PATH     block stores of AIBrix's offloading
aibrix+redis://[USER@]HOST[:PORT][/DB]?key=KEY  placement metadata only
mooncake://HOST[:PORT][?rpc=PORT&metadata=URL&protocol=tcp]
                                                HTTP of the Mooncake master; what is behind ? is
                                                for its client, which reads and writes values
vineyard:///SOCKET                              IPC socket of vineyardd
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from kvpool.errors import KvPoolUsageError

Scheme = Literal[
    "lmcache+redis",
    "lmcache+file",
    "lm",
    "aibrix+shfs",
    "aibrix+rocksdb",
    "aibrix+redis",
    "mooncake",
    "vineyard",
]


@dataclass(frozen=True)
class _Form:
    """How the URLs of a scheme look."""

    example: str
    port: int | None = None
    database: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    says_defaults: bool = True

    @property
    def local(self) -> bool:
        """True where the URL names a path instead of a host."""
        return self.port is None


_FORMS: dict[Scheme, _Form] = {
    "lmcache+redis": _Form("lmcache+redis://HOST:6379/0", 6379, database=True),
    "lmcache+file": _Form("lmcache+file:///DIR"),
    "lm": _Form("lm://HOST:65432", 65432),
    "aibrix+shfs": _Form("aibrix+shfs:///ROOT"),
    "aibrix+rocksdb": _Form("aibrix+rocksdb:///PATH"),
    "aibrix+redis": _Form(
        "aibrix+redis://HOST:6379/0?key=kvcache_nodes",
        6379,
        database=True,
        options={"key": "kvcache_nodes"},
    ),
    "mooncake": _Form(
        "mooncake://HOST:9003",
        9003,
        options={"rpc": "50051", "metadata": "P2PHANDSHAKE", "protocol": "tcp"},
        says_defaults=False,
    ),
    "vineyard": _Form("vineyard:///SOCKET"),
}
_TLS: dict[str, Scheme] = {"lmcache+rediss": "lmcache+redis", "aibrix+rediss": "aibrix+redis"}
_MEANT = {
    "redis": "lmcache+redis (entries of LMCache) or aibrix+redis (placement metadata of AIBrix)",
    "rediss": "lmcache+rediss (entries of LMCache) or aibrix+rediss (placement of AIBrix)",
    "valkey": "lmcache+redis",
    "lmcache+valkey": "lmcache+redis",
    "file": "lmcache+file or aibrix+shfs",
    "fs": "lmcache+file",
    "lmcache+fs": "lmcache+file",
    "shfs": "aibrix+shfs",
    "aibrix+file": "aibrix+shfs",
    "rocksdb": "aibrix+rocksdb",
    "lmcache": "lm (LMCache's server), lmcache+redis or lmcache+file",
    "lmcache+lm": "lm",
    "aibrix": "aibrix+shfs, aibrix+rocksdb or aibrix+redis",
    "mooncakestore": "mooncake",
    "v6d": "vineyard",
    "k8s": "the URL that `aibrixctl kv pools` shows for it",
}
_RDMA = {"infinistore", "hpkv", "priskv", "aibrix+infinistore", "aibrix+hpkv", "aibrix+priskv"}
SCHEMES: tuple[str, ...] = (*_FORMS, *_TLS)


@dataclass(frozen=True)
class PoolUrl:
    """A pool's address, parsed.

    Attributes:
        scheme: the layout; never the TLS spelling.
        host, port: of the server; empty and 0 for a path.
        path: of a directory, a database or a socket; empty for a server.
        database: number, for Redis.
        username: for Redis ACLs; a password never stands in a URL.
        tls: whether to encrypt.
        options: what stood behind ``?``, with the defaults filled in.
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    database: int = 0
    username: str | None = None
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Return where it is, for messages: ``host:port`` or the path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path if not self.host else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True where the pool is a path on this machine."""
        return not self.host

    def __str__(self) -> str:
        """Return the one spelling that two URLs of the same pool share."""
        if self.is_local:
            path = quote(self.path, safe="/@:%+=,~")
            return f"{self.scheme}://{path}" if path.startswith("/") else f"{self.scheme}:{path}"
        form = _FORMS[self.scheme]
        scheme = {v: k for k, v in _TLS.items()}[self.scheme] if self.tls else self.scheme
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        database = f"/{self.database}" if form.database else ""
        query = "&".join(
            f"{name}={quote(value, safe='/:')}"
            for name, value in self.options.items()
            if form.says_defaults or value != form.options[name]
        )
        return f"{scheme}://{user}{self.place}{database}{'?' if query else ''}{query}"


def parse_pool_url(text: str) -> PoolUrl:
    """Return the address that a URL names.

    Raises:
        KvPoolUsageError: an unknown scheme (with the nearest), a part that is missing or does not
            belong there, or a password in it.
    """
    name, colon, rest = text.partition(":")
    scheme = _scheme(name.lower() if colon else "", text)
    form = _FORMS[scheme]
    try:
        parts = urlsplit(f"x:{rest}")
        port = parts.port
    except ValueError as error:
        raise _bad(text, f"has a malformed host or port ({error})", form) from error
    if parts.password is not None:
        raise KvPoolUsageError(
            "kv.url.secret",
            "the pool's URL holds a password",
            hint="put it into a file and name it with --password-file, or into "
            "AIBRIXCTL_REDIS_PASSWORD",
        )
    if parts.fragment:
        raise _bad(text, f"has a fragment, #{parts.fragment}", form)
    options = _options(text, parts.query, form)
    if form.local:
        return PoolUrl(scheme, path=_path(text, parts.netloc, parts.path, form), options=options)
    if not parts.hostname:
        raise _bad(text, "names no host", form)
    if parts.username is not None and not form.database:
        raise _bad(text, "names a user, which this kind of pool does not know", form)
    return PoolUrl(
        scheme,
        host=parts.hostname,
        port=_default_port(port, form, text),
        database=_database(text, parts.path, form),
        username=unquote(parts.username) if parts.username else None,
        tls=name.lower() in _TLS,
        options=options,
    )


def _scheme(name: str, text: str) -> Scheme:
    if name in _TLS:
        return _TLS[name]
    for scheme in _FORMS:
        if scheme == name:
            return scheme
    if name in _RDMA:
        raise KvPoolUsageError(
            "kv.url.rdma",
            f"the data of {name.removeprefix('aibrix+')} can only be reached over RDMA",
            hint="its placement metadata can be inspected: aibrix+redis://HOST:PORT/DB?key=KEY",
            target=text,
        )
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", name):
        what = f"{text!r} is no pool URL: it has no scheme"
        hint = f"a directory is lmcache+file:{text} or aibrix+shfs:{text}" if text else ""
        raise KvPoolUsageError("kv.url.scheme", what, hint=hint or _known(), target=text)
    near = difflib.get_close_matches(name, SCHEMES, 1, cutoff=0.7)
    meant = _MEANT.get(name) or (near[0] if near else "")
    raise KvPoolUsageError(
        "kv.url.scheme",
        f"{name!r} is no kind of pool{f'; did you mean {meant}?' if meant else ''}",
        hint=_known(),
        target=text,
    )


def _known() -> str:
    return f"known kinds: {', '.join(_FORMS)}"


def _bad(text: str, what: str, form: _Form) -> KvPoolUsageError:
    return KvPoolUsageError(
        "kv.url.malformed", f"{text!r} {what}", hint=f"expected {form.example}", target=text
    )


def _options(text: str, query: str, form: _Form) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in given.items():
        if name not in form.options:
            known = f"; known: {', '.join(form.options)}" if form.options else ""
            raise _bad(text, f"has an unknown option {name!r}{known}", form)
        if not value:
            raise _bad(text, f"leaves the option {name!r} empty", form)
    return {**form.options, **given}


def _path(text: str, host: str, path: str, form: _Form) -> str:
    if host not in ("", "localhost"):
        name = text.partition(":")[0]
        raise KvPoolUsageError(
            "kv.url.malformed",
            f"{text!r} names a host, {host!r}, where a path is expected",
            hint=f"write {name}:{host}{path} for a path from here, or {form.example}",
            target=text,
        )
    if not path or "\0" in unquote(path):
        raise _bad(text, "names no path", form)
    return str(PurePosixPath(unquote(path)))


def _default_port(port: int | None, form: _Form, text: str) -> int:
    if port == 0:
        raise _bad(text, "names port 0", form)
    assert form.port is not None
    return port or form.port


def _database(text: str, path: str, form: _Form) -> int:
    number = path.strip("/")
    if not form.database and number:
        raise _bad(text, f"has a path, {path!r}, which this kind of pool does not know", form)
    if number and not re.fullmatch(r"\d{1,9}", number, re.ASCII):
        raise _bad(text, f"has {number!r} where the number of a database is expected", form)
    return int(number or 0)
