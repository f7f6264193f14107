"""The whole throughput table, beside the GPU profile that was made of it in AIBrix's Redis.

A profile can't say that figures are simulated, on which accelerators and how many a replica runs,
or what percentiles were; and AIBrix refuses a profile with fields that it doesn't know. So the
table has a key of its own, with the digest of the profile: it holds while the profile is the same.
"""

import hashlib
import json
from typing import Any

from accelerators.errors import UsageError
from profiler import table as tables
from profiler.table import ThroughputTable


def table_key(profile_key: str) -> str:
    """Return the key of the table whose profile is under ``aibrix:profile_…``."""
    return "aibrixctl:table_" + profile_key.removeprefix("aibrix:profile_")


def digest(profile: bytes) -> str:
    """Return ``sha256:…`` of a profile as it stands in Redis."""
    return "sha256:" + hashlib.sha256(profile).hexdigest()


def wrap(table: ThroughputTable, profile: bytes) -> str:
    """Return what to store for the table of a profile."""
    body = {"profile": digest(profile), "table": table.to_json()}
    return json.dumps(body, sort_keys=True, allow_nan=False)


def unwrap(stored: bytes | None, profile: bytes) -> ThroughputTable | None:
    """Return the table of a profile; None without one, or where it is of another profile.

    Raises:
        UsageError: it belongs to this profile, and is damaged or of another version.
    """
    try:
        body: Any = json.loads(stored) if stored is not None else None
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("profile") != digest(profile):
        return None
    if not isinstance(body.get("table"), dict):
        raise UsageError("table.malformed", "it holds no table")
    return tables.parse(body["table"], "it")
