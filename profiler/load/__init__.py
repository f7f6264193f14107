"""The load client: one run of open-loop or closed-loop load against a streaming server.

``config`` what a run is · ``schedule`` when requests are due · ``prompts`` what they say ·
``preflight``, ``calibrate`` checks before the load · ``pool``, ``connection`` sockets, and one
timestamp per read · ``exchange``, ``http1``, ``tokens`` what the reads mean, parsed later ·
``driver`` the run · ``collect``, ``health``, ``notes`` its figures · ``run`` all of it in order.
"""

from profiler.load.config import LoadConfig, LoadRun, Progress
from profiler.load.run import run_load

__all__ = ["LoadConfig", "LoadRun", "Progress", "run_load"]
