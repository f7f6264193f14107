"""What a mock lays out for the programs under it, and where: the contract of mock-fail's folder.

A mock is a folder. The native library of every program under it reads ``state``; whoever would
look at the machine itself looks at the folder's own PCI tree and kernel log instead.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "AIBRIXCTL_MOCK_DIR"
NODE_WIDE = Path("/run/aibrixctl/mock/node-wide")


@dataclass(frozen=True)
class Mock:
    """The folder of a mock that this process runs under."""

    folder: Path

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name

    @property
    def state(self) -> Path:
        """The file that the native library reads."""
        return self.folder / "state"

    @property
    def kernel_log(self) -> Path:
        """Its kernel log, in the form of ``dmesg``; there may be none."""
        return self.folder / "kernel.log"

    @property
    def sysfs(self) -> Path:
        """Its ``/sys``; not there when the real one stands for it, as in an overlay."""
        return self.folder / "sysfs"


def current(environment: Mapping[str, str] = os.environ) -> Mock | None:
    """Return the mock that this process runs under: its own, else the node's; None without one."""
    if named := environment.get(VARIABLE):
        return Mock(Path(named))
    return Mock(NODE_WIDE) if (NODE_WIDE / "state").exists() else None
