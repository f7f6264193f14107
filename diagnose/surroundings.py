"""What the process can see of the machine around it: its namespaces, and CUDA software."""

import json
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

# The kernel's first process namespace has this fixed inode (PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*=\s*'([\d.]+)'", re.MULTILINE)


def pids(*, mocked: bool) -> frozenset[int] | None:
    """Return the processes that exist; None in a container, which has numbers of its own.

    The processes of a mock are numbered as we see them, wherever we are.
    """
    try:
        if not mocked and os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:  # noqa: PTH116 - follows the link
            return None
        return frozenset(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    except OSError:
        return None


def given_only_some(environment: Mapping[str, str]) -> str | None:
    """Return why the PCI bus shows more devices than this process was given; None when it doesn't.

    A container sees the whole bus of its host in sysfs.
    """
    visible = environment.get("NVIDIA_VISIBLE_DEVICES", environment.get("ASCEND_VISIBLE_DEVICES"))
    if visible == "all":
        return None
    contained = any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
    if visible or contained or "KUBERNETES_SERVICE_HOST" in environment:
        return "a container sees the whole PCI bus but only the devices it was given"
    return None


def toolkits(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the CUDA versions that software in sight was built for, by what it is."""
    found = {}
    if version := environment.get("CUDA_VERSION"):
        found["CUDA_VERSION of the image"] = version
    if home := environment.get("CUDA_HOME"):
        try:
            body = json.loads((Path(home) / "version.json").read_text(encoding="utf-8"))
            found[home] = str(body["cuda"]["version"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no toolkit there, whatever the variable says
    if version := _torch():
        found["torch"] = version
    return found


def _torch() -> str | None:
    """Return the CUDA version of an installed torch, without importing it."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    match = _TORCH_CUDA.search(text)
    return match[1] if match else None
