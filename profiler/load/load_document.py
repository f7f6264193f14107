"""The configuration of a load as a document, for clients elsewhere; its secrets stay behind.

Document ``aibrixctl/load/v1``. The API key and the file of certificates belong to the place where
a client runs and are given to it there.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from accelerators import documents
from profiler.errors import ProfilerUsageError
from profiler.load.config import LoadConfig
from profiler.slo import Slo

SCHEMA = "aibrixctl/load/v1"
_LOCAL = ("token", "ca_file")
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "base_url": str,
    "model": str,
    "input_tokens": int,
    "output_tokens": int,
    "salt": str,
    "arrival": str,
    "endpoint": str,
    "seed": int,
    "ignore_eos": bool,
    "insecure": bool,
    "extra_body": dict,
}


def load_to_json(config: LoadConfig) -> dict[str, Any]:
    """Return the document of a load."""
    body = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _LOCAL}
    body["slos"] = [slo.to_json() for slo in config.slos]
    body["extra_body"] = dict(config.extra_body)
    return {"schema": SCHEMA, **body}


def load_from_json(
    document: Any, source: str = "the load", *, token: str | None = None
) -> LoadConfig:
    """Read a document back; ``profiler.load.config.check`` judges the numbers.

    Raises:
        UsageError: another document or version.
        ProfilerUsageError: a field is missing, unknown or of another type.
    """
    body = dict(documents.check_schema(document, "load", 1, source))
    del body["schema"]
    try:
        for name, kind in _TYPES.items():
            if not isinstance(body[name], kind):
                raise TypeError(f"{name} is {body[name]!r}")
        body["slos"] = tuple(Slo.from_json(slo) for slo in body["slos"])
        return replace(LoadConfig(**body), token=token)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfilerUsageError(
            "load.malformed", f"{source} {documents.fault(error)}", target=source
        ) from error
