"""Unmodified programs of others, and how each is run."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mockfail.client_outputs import (
    Readings,
    blocks,
    by_device,
    c_line,
    flat,
    hwloc_devices,
    nvidia_smi_csv,
    nvidia_smi_links,
    nvidia_smi_log,
    nvidia_smi_xml,
)
from tests.mockfail.client_sessions import Exporter, Nvtop, OneShot, Session
from tests.mockfail.obtain import (
    c_client,
    debian_clients,
    debian_libraries,
    go_client,
    python_clients,
)
from tests.mockfail.programs import HERE, MockFolder


@dataclass(frozen=True)
class Client:
    """A column of the table: a program, where it comes from and how it reaches the library."""

    name: str
    origin: str
    reaches: str
    obtain: Callable[[], Path]
    session: Callable[[MockFolder], Session]
    accelerators: tuple[str, ...] = ("nvidia",)
    mocks_at_a_time: int = 1  # of a client that mostly sleeps

    @contextmanager
    def under(self, mock: MockFolder) -> Iterator[Session]:
        """Run it under a mock until the end of the block."""
        session = self.session(mock)
        try:
            yield session
        finally:
            session.close()


def _smi(
    *commands: Sequence[str], parse: Callable[[str], Readings]
) -> Callable[[MockFolder], Session]:
    def session(mock: MockFolder) -> Session:
        program = debian_clients() / "usr/lib/nvidia/current/nvidia-smi"
        return OneShot(mock, [[program, *words] for words in commands], parse)

    return session


def _python(
    program: str, *words: str | Path, parse: Callable[[str], Readings], **variables: str
) -> Callable[[MockFolder], Session]:
    def session(mock: MockFolder) -> Session:
        return OneShot(mock, [[python_clients() / program, *words]], parse, **variables)

    return session


def _lstopo(mock: MockFolder) -> Session:
    root = debian_clients()
    plugins = next(root.glob("usr/lib/*/hwloc"))
    return OneShot(
        mock,
        [[root / "usr/bin/lstopo-no-graphics", "--verbose"]],
        hwloc_devices,
        LD_LIBRARY_PATH=debian_libraries(),
        HWLOC_PLUGINS_PATH=str(plugins),
    )


def _compiled(obtain: Callable[[], Path], *words: str) -> Callable[[MockFolder], Session]:
    return lambda mock: OneShot(mock, [[obtain(), *words]], c_line, stdin="\n")


def _gpustack(text: str) -> Readings:
    return by_device(json.loads(text[max(text.find("["), text.rfind("[H") + 2) :]))


def _gpustat(text: str) -> Readings:
    said = json.loads(text)
    return by_device(said["gpus"]) | {"driver_version": said["driver_version"]}


FIELDS = (
    "name,driver_version,temperature.gpu,temperature.memory,fan.speed,pstate,power.draw,"
    "clocks.sm,clocks.mem,memory.used,persistence_mode,mig.mode.current,ecc.mode.current,"
    "ecc.mode.pending,ecc.errors.corrected.volatile.total,ecc.errors.uncorrected.volatile.total,"
    "ecc.errors.uncorrected.volatile.dram,ecc.errors.uncorrected.aggregate.total,"
    "ecc.errors.uncorrected.aggregate.sram,retired_pages.single_bit_ecc.count,"
    "retired_pages.double_bit.count,retired_pages.pending,pcie.link.gen.current,"
    "pcie.link.width.current,clocks_throttle_reasons.active,"
    "clocks_throttle_reasons.hw_thermal_slowdown,clocks_throttle_reasons.hw_power_brake_slowdown,"
    "clocks_throttle_reasons.hw_slowdown,clocks_throttle_reasons.sw_power_cap"
)
ROWS = (
    "remapped_rows.correctable,remapped_rows.uncorrectable,remapped_rows.pending,"
    "remapped_rows.failure"
)
_READER = HERE / "clients" / "nvml_reader.py"
_GPUSTACK = {
    "GPUSTACK_RUNTIME_DETECT_NO_PCI_CHECK": "1",
    "GPUSTACK_RUNTIME_DETECT_NO_HEALTH_CHECK": "0",
}
_DEBIAN, _PYPI = "Debian", "PyPI"

CLIENTS = (
    Client(
        "nvidia-smi",
        _DEBIAN,
        "dlopen",
        debian_clients,
        _smi([], parse=lambda text: blocks(text, r"\|  +(\d+)  [A-Z].* (?:On|Off) ", 3)),
    ),
    Client("nvidia-smi -q", _DEBIAN, "dlopen", debian_clients, _smi(["-q"], parse=nvidia_smi_log)),
    Client(
        "nvidia-smi -q -x",
        _DEBIAN,
        "dlopen",
        debian_clients,
        _smi(["-q", "-x"], parse=nvidia_smi_xml),
    ),
    Client(
        "nvidia-smi --query",
        _DEBIAN,
        "dlopen",
        debian_clients,
        _smi(
            [f"--query-gpu={FIELDS}", "--format=csv"],
            [f"--query-remapped-rows={ROWS}", "--format=csv"],
            ["--query-compute-apps=pid,used_memory", "--format=csv"],
            parse=nvidia_smi_csv,
        ),
    ),
    Client(
        "nvidia-smi nvlink",
        _DEBIAN,
        "dlopen",
        debian_clients,
        _smi(["nvlink", "-s"], ["nvlink", "-e"], parse=nvidia_smi_links),
    ),
    Client("nvtop", _DEBIAN, "dlopen", debian_clients, Nvtop),
    Client("lstopo", _DEBIAN, "linked plug-in", debian_clients, _lstopo),
    Client(
        "pynvml",
        _PYPI,
        "ctypes",
        python_clients,
        _python("python", _READER, "pynvml", parse=lambda t: flat(json.loads(t))),
    ),
    Client(
        "py3nvml",
        _PYPI,
        "ctypes",
        python_clients,
        _python("python", _READER, "py3nvml", parse=lambda t: flat(json.loads(t))),
    ),
    Client(
        "nvitop",
        _PYPI,
        "ctypes",
        python_clients,
        _python(
            "nvitop", "-1", parse=lambda text: blocks(text, r"│ +(\d+)  [A-Z]", 2), COLUMNS="79"
        ),
    ),
    Client("nvitop-exporter", _PYPI, "ctypes", python_clients, Exporter),
    Client(
        "gpustat", _PYPI, "ctypes", python_clients, _python("gpustat", "--json", parse=_gpustat)
    ),
    Client(
        "gpustack-runtime",
        _PYPI,
        "ctypes",
        python_clients,
        _python("gpustack-runtime", "detect", "--format", "json", parse=_gpustack, **_GPUSTACK),
        ("ascend",),
    ),
    Client(
        "C",
        "tests/mockfail/clients/client.c",
        "dlopen",
        c_client,
        _compiled(c_client, "libnvidia-ml.so.1"),
    ),
    Client(
        "Go",
        "tests/mockfail/clients/client.go",
        "cgo",
        go_client,
        _compiled(go_client, "libnvidia-ml.so.1"),
    ),
)
