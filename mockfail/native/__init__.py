"""The native libraries, and how a program gets them: NVML and DCMI that answer from a mock's state.

``pip install`` compiles them; ``python -m mockfail.native`` compiles them in place.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from accelerators import mocked
from mockfail.errors import MockError

FILES = {"nvml": "libnvidia-ml.so.1", "dcmi": "libdcmi.so"}  # by library; also its SONAME
_HERE = Path(__file__).parent


def library_paths() -> tuple[Path, ...]:
    """Return the native libraries, NVML's first.

    Raises:
        MockError: they were not compiled, as there was no C compiler.
    """
    paths = tuple(_HERE / name for name in FILES.values())
    for path in paths:
        if not path.is_file():
            raise MockError(
                "mock.native",
                "the native library of mock-fail was not compiled with this installation",
                hint="install a C compiler (Debian: apt-get install gcc libc6-dev), then run "
                f"{sys.executable} -m mockfail.native",
                target=str(path),
            )
    return paths


def preload_environment(
    folder: Path, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables that put a program under the mock in a folder.

    Args:
        folder: of the mock.
        environment: what the program would have had; its other preloaded libraries stay.

    Raises:
        MockError: there are no native libraries, or their path can't stand in LD_PRELOAD.
    """
    libraries = [str(path) for path in library_paths()]
    if bad := next((path for path in libraries if any(c in path for c in " :\t\n")), None):
        raise MockError(
            "mock.native",
            "LD_PRELOAD can't name a file with a space or a colon in its path",
            hint="install aibrixctl in another folder",
            target=bad,
        )
    others = [p for p in environment.get("LD_PRELOAD", "").replace(" ", ":").split(":") if p]
    kept = [path for path in others if path not in libraries]
    return {
        mocked.VARIABLE: str(folder.absolute()),
        "LD_PRELOAD": ":".join([*libraries, *kept]),
    }
