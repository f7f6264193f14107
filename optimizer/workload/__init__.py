"""What users ask for: request sizes and arrivals, from traces, histograms and synthesis."""

from optimizer.workload.collect import Requests
from optimizer.workload.histogram import FORMAT as HISTOGRAM
from optimizer.workload.model import Demand, OutOfRange, SizeStats, Workload
from optimizer.workload.readers import FORMATS, detect, read, read_requests

__all__ = [
    "FORMATS",
    "HISTOGRAM",
    "Demand",
    "OutOfRange",
    "Requests",
    "SizeStats",
    "Workload",
    "detect",
    "read",
    "read_requests",
]
