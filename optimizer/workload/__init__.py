"""What users ask for: request sizes and arrivals, from traces, histograms and synthesis."""

from optimizer.workload.histogram import FORMAT as HISTOGRAM
from optimizer.workload.model import Demand, OutOfRange, SizeStats, Workload
from optimizer.workload.readers import FORMATS, detect, read

__all__ = [
    "FORMATS",
    "HISTOGRAM",
    "Demand",
    "OutOfRange",
    "SizeStats",
    "Workload",
    "detect",
    "read",
]
