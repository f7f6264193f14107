"""What one client of a load recorded, as a document that loses nothing.

Document ``aibrixctl/load-shard/v1``. Arrays are exact: 64-bit values as the differences of their
bit patterns, their bytes sorted by significance (times that ascend differ in the low ones alone),
zlib, base64. The document holds the load that it is a part of, without its API key, so that parts
of different loads are never joined.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from accelerators import documents
from profiler.errors import ProfilerUsageError
from profiler.load.config import LoadConfig
from profiler.load.load_document import load_from_json, load_to_json
from profiler.load.part import Part
from profiler.load.recording import Recording

SCHEMA = "aibrixctl/load-shard/v1"
_FLOATS = ("scheduled_s", "sent_s", "read_s", "earliest_s", "loop_lag_s")
_INTS = ("reads", "events", "prompt_tokens", "output_tokens", "held_back")
_PER_REQUEST = ("scheduled_s", "sent_s", "reads", "prompt_tokens", "output_tokens", "held_back")
_PLAIN: Mapping[str, type | tuple[type, ...]] = {
    "cpu_share": (int, float),
    "elapsed_s": (int, float),
    "complete": bool,
    "cut": int,
    "resent": int,
    "without_usage": int,
    "engine": str,
    "engine_version": (str, type(None)),
}


def pack(values: npt.NDArray[Any]) -> str:
    """Return 64-bit values as text; :func:`unpack` gives the same bits back."""
    bits = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).view(np.uint64)
    steps = np.diff(bits, prepend=np.uint64(0))
    planes = steps.view(np.uint8).reshape(-1, 8).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()


def unpack(text: str, dtype: str) -> npt.NDArray[Any]:
    """Return what :func:`pack` was given; raises ValueError where it is not such text."""
    try:
        planes = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), np.uint8)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"an array can't be read: {error}") from error
    steps = np.ascontiguousarray(planes.reshape(8, -1).T).view(np.uint64).reshape(-1)
    bits: npt.NDArray[Any] = np.cumsum(steps, dtype=np.uint64).view(dtype)
    return bits


def to_json(config: LoadConfig, part: Part, recording: Recording) -> dict[str, Any]:
    """Return the document of one client's part of a load."""
    causes = sorted({error for error in recording.errors if error is not None})
    codes = {None: 0} | {cause: number for number, cause in enumerate(causes, 1)}
    arrays = {name: pack(getattr(recording, name)) for name in _FLOATS}
    arrays |= {name: pack(getattr(recording, name).astype(np.int64)) for name in _INTS}
    arrays["error"] = pack(np.array([codes[error] for error in recording.errors], dtype=np.int64))
    return {
        "schema": SCHEMA,
        "shard": {"index": part.index, "count": part.count},
        "load": load_to_json(config),
        "requests": len(recording),
        "arrays": arrays,
        "causes": causes,
        "messages": recording.messages,
        "notes": list(recording.notes),
        **{name: getattr(recording, name) for name in _PLAIN},
    }


def from_json(document: Any, source: str) -> tuple[LoadConfig, Part, Recording]:
    """Read a document back; ``source`` names it in errors.

    Raises:
        UsageError: another document or version.
        ProfilerUsageError: malformed; names the field.
    """
    body = documents.check_schema(document, "load-shard", 1, source)
    try:
        config = load_from_json(body["load"])
        part = Part(int(body["shard"]["index"]), int(body["shard"]["count"]))
        return config, part, _recording(body, part)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfilerUsageError(
            "load_shard.malformed",
            f"{source} {documents.fault(error)}",
            hint="measure again",
            target=source,
        ) from error


def _recording(body: Mapping[str, Any], part: Part) -> Recording:
    arrays: dict[str, Any] = {name: unpack(body["arrays"][name], "<f8") for name in _FLOATS}
    arrays |= {name: unpack(body["arrays"][name], "<i8") for name in _INTS}
    codes = unpack(body["arrays"]["error"], "<i8")
    requests = body["requests"]
    for name in _PER_REQUEST:
        if len(arrays[name]) != requests:
            raise ValueError(f"{name} has {len(arrays[name])} values for {requests} requests")
    reads = int(arrays["reads"].sum())
    if not reads == len(arrays["read_s"]) == len(arrays["earliest_s"]) == len(arrays["events"]):
        raise ValueError(f"{len(arrays['read_s'])} reads; expected {reads}")
    if len(codes) != requests:
        raise ValueError(f"error has {len(codes)} values for {requests} requests")
    causes = [None, *body["causes"]]
    arrays["held_back"] = arrays["held_back"].astype(bool)
    for name, kind in _PLAIN.items():
        if not isinstance(body[name], kind):
            raise TypeError(f"{name} is {body[name]!r}")
    return Recording(
        **arrays,
        errors=tuple(causes[code] for code in codes),
        messages=dict(body["messages"]),
        notes=tuple(body["notes"]),
        part=str(part),
        **{name: body[name] for name in _PLAIN},
    )
