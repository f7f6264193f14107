"""Ascend NPUs: the checks, and which of their findings another one explains."""

from collections.abc import Mapping

from diagnose.ascend.checks import CHECKS

_DRIVER = frozenset(
    {"ASCEND-LIBRARY-MISSING", "ASCEND-NO-PERMISSION", "ASCEND-DRIVER-INIT", "DRIVER-HANG"}
)

CAUSES: Mapping[str, frozenset[str]] = {
    "ASCEND-COUNT": _DRIVER,
    "ASCEND-PCIE": frozenset({"ASCEND-FAULT-80B98000", "ASCEND-LOST"}),
    "ASCEND-OUTLIER": frozenset({"ASCEND-TEMPERATURE"}),
    # the port's link went down, for which the vendor's handling is to wait
    "ASCEND-FAULT-81078603": frozenset({"ASCEND-NETWORK"}),
    # the same event in the driver's two lists (Huawei's public NPU driver)
    "ASCEND-FAULT-A8028802": frozenset({"ASCEND-FAULT-80E01801"}),
    "ASCEND-FAULT-A8028801": frozenset({"ASCEND-FAULT-80E18402"}),
    "ASCEND-FAULT-A4028801": frozenset({"ASCEND-FAULT-80E18401"}),
    "ASCEND-FAULT-A607FFFF": frozenset({"ASCEND-FAULT-80FA4E00"}),
    "ASCEND-FAULT-A4025081": frozenset({"ASCEND-FAULT-8C0A4E00"}),
    "ASCEND-FAULT-A60250A1": frozenset({"ASCEND-FAULT-8C204E00"}),
    "ASCEND-FAULT-A4025021": frozenset({"ASCEND-FAULT-8C084E00"}),
    "ASCEND-FAULT-A4025041": frozenset({"ASCEND-FAULT-8C0E4E00"}),
    "ASCEND-FAULT-A40250E1": frozenset({"ASCEND-FAULT-8C104E00"}),
    "ASCEND-FAULT-A4025061": frozenset({"ASCEND-FAULT-8C0C4E00"}),
    "ASCEND-FAULT-A4025101": frozenset({"ASCEND-FAULT-8C124E00"}),
}
"""Consequence to the findings that explain it, on the same device or on the whole node."""

__all__ = ["CAUSES", "CHECKS"]
