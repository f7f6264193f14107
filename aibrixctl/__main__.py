"""Entry point of ``aibrixctl`` and ``python -m aibrixctl``."""

import signal
import sys


def main() -> None:
    """Run the command line of this process and exit with its code."""
    # Until the command line has its own handlers, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from aibrixctl.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
