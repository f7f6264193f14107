"""The families of accelerators: who reads them, and which checks judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from diagnose.ascend import CAUSES as ASCEND_CAUSES
from diagnose.ascend import CHECKS as ASCEND_CHECKS
from diagnose.checks import Check
from diagnose.nvidia import CAUSES as NVIDIA_CAUSES
from diagnose.nvidia import CHECKS as NVIDIA_CHECKS


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as ``--accelerator`` takes it.
        kind: of its devices.
        reader: module that :func:`diagnose.reading.read` starts; it ends in ``child.serve``.
        checks: in the order of the list.
        causes: consequence to the findings that explain it.
    """

    name: Literal["nvidia", "ascend"]
    kind: Literal["gpu", "npu"]
    reader: str
    checks: Sequence[Check]
    causes: Mapping[str, frozenset[str]]


FAMILIES: tuple[Family, ...] = (
    Family("nvidia", "gpu", "diagnose.nvidia.reader", NVIDIA_CHECKS, NVIDIA_CAUSES),
    Family("ascend", "npu", "diagnose.ascend.reader", ASCEND_CHECKS, ASCEND_CAUSES),
)
