"""The first signal asks, the second insists."""

import os
import signal
import subprocess
import sys

from aibrixctl.exit_codes import ExitCode
from aibrixctl.signals import interruptible


def test_first_signal_sets_the_flag_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        assert stop.exit_code is ExitCode.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_second_signal_ends_the_process_at_once() -> None:
    program = (
        "import time\n"
        "from aibrixctl.signals import interruptible\n"
        "with interruptible() as stop:\n"
        "    print('ready', flush=True)\n"
        # A signal that comes just before a wait does not cut it short.
        "    while not stop.wait(0.1):\n"
        "        pass\n"
        "    print('first', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal(signal.SIGTERM)
            assert child.stdout.readline() == "first\n"
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 143
        finally:
            child.kill()
