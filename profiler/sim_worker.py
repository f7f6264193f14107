"""Probe a simulated replica in a process of its own, so that several targets work at once.

The process answers one probe after the other over a pipe, and ends with it: when this process is
killed, the worker reads the end of the pipe.
"""

import sys
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from accelerators import children
from profiler.errors import ProfilerError
from profiler.probes import Measurement
from profiler.run_config import ProfileConfig
from profiler.targets import Target


class SimulatedWorker:
    """A :class:`profiler.probes.Prober` whose replica lives in a child process.

    Use it as a context manager; the process is gone when the block ends.
    """

    def __init__(self, target: Target, config: ProfileConfig):
        self._process, self._pipe = children.start("profiler.sim_worker")
        self._pipe.send((target, config))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def check(self) -> None:
        """Do nothing: a replica that is impossible was refused before this was made."""

    def probe(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> Measurement:
        """Have the child simulate load at a rate, or one request at a time for None.

        Raises:
            ProfilerError: the process is gone.
        """
        try:
            self._pipe.send((input_tokens, output_tokens, rate, seed))
            found: Measurement = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise ProfilerError(
                "sim.worker",
                f"the process that simulates {input_tokens}x{output_tokens} has ended",
                hint="--resume continues; if it ends again, the machine may lack memory",
            ) from error
        return found


def _serve(pipe: Connection) -> None:
    """Answer probes until the other end is closed."""
    from profiler.sim_probes import SimulatedReplica

    try:
        replica = SimulatedReplica(*pipe.recv())
        while True:
            pipe.send(replica.probe(*pipe.recv()))
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
