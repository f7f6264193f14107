"""One of several clients of a load, in a process of its own on this machine.

It takes the load and its part over a pipe, tells when it is ready, starts when it is told and
sends back what it recorded. When the other end is closed, it stops.
"""

import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from accelerators.errors import ToolError
from profiler.load.config import LoadConfig, Progress
from profiler.load.part import Part


class _Worker:
    def __init__(self, pipe: Connection):
        self._pipe = pipe
        self._stop = threading.Event()
        self._start: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Take one part and send back a recording, or why there is none."""
        from profiler.load.run import record_load

        config: LoadConfig
        part: Part
        config, part = self._pipe.recv()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            found = record_load(
                config, part, gate=self._gate, stop=self._stop, on_progress=self._tell
            )
        except ToolError as error:
            fields = {"hint": error.hint, "target": error.target}
            self._pipe.send(("failed", (type(error), error.code, error.message, fields)))
        else:
            self._pipe.send(("recorded", found))

    def _gate(self) -> float | None:
        self._pipe.send(("ready", None))
        return self._start.get()

    def _tell(self, progress: Progress) -> None:
        self._pipe.send(("progress", progress))

    def _listen(self) -> None:
        """Take what the other end says until it is closed."""
        while True:
            try:
                word, value = self._pipe.recv()
            except (EOFError, OSError):
                word, value = "stop", None
            if word == "start":
                self._start.put(value)
                continue
            self._stop.set()
            self._start.put(None)
            return


def main(descriptor: int) -> None:
    """Serve the pipe of this descriptor."""
    pipe: Any = Connection(descriptor)
    try:
        _Worker(pipe).run()
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
