"""Kernel-log lines, read by the code that reads the real log."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from accelerators.mocked import Mock
from diagnose import kernel_log as reader
from diagnose.kernel_events import events_of
from mockfail import kernel_log
from mockfail.layer import LogLine

GPU = {"pci_bus_id": "00000000:1B:00.0", "uuid": "GPU-1", "serial": "42"}


def test_a_gpu_is_named_once_and_every_xid_said():
    first, second = (kernel_log.xid_lines(xid, **GPU) for xid in (63, 79))
    lines = [LogLine(text, at_s) for at_s, texts in ((1.0, first), (2.5, second)) for text in texts]
    assert kernel_log.render(kernel_log.once_per_gpu(lines), 100.0).splitlines() == [
        "[  101.000000] NVRM: GPU at PCI:0000:1b:00: GPU-1",
        "[  101.000000] NVRM: GPU Board Serial Number: 42",
        "[  101.000000] NVRM: Xid (PCI:0000:1b:00): 63, pid='<unknown>', name=<unknown>, "
        "Row Remapper: New row (0x000000010e1f4000) marked for remapping, reset gpu to activate.",
        "[  102.500000] NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, "
        "GPU has fallen off the bus.",
        "[  102.500000] NVRM: GPU 0000:1b:00.0: GPU has fallen off the bus.",
    ]


def test_a_gpu_whose_names_only_the_driver_knows_is_named_by_its_address():
    address = "00000001:18:00.0"
    (line,) = kernel_log.xid_lines(
        43, pci_bus_id=address, uuid="", serial="", pid=7, process="vllm", detail="Ch 8"
    )
    assert line == "NVRM: Xid (PCI:0001:18:00): 43, pid=7, name=vllm, Ch 8"


@given(st.integers(1, 200))
def test_every_xid_is_read_back_as_one_event_of_its_gpu(xid: int):
    lines = [LogLine(line) for line in kernel_log.xid_lines(xid, **GPU)]
    text = kernel_log.render(lines, 12_345.678)
    (event,) = events_of(reader.parse(text.splitlines()))
    assert (event.kind, event.number, event.address) == ("xid", xid, "0000:1b:00.0")


def test_the_file_is_what_a_diagnosis_reads(tmp_path: Path):
    mock = Mock(tmp_path)
    lines = [LogLine(text) for text in kernel_log.xid_lines(79, **GPU)]
    kernel_log.update(mock.kernel_log, kernel_log.render(lines, 5.0))
    assert [event.number for event in reader.read(None, mock).events] == [79]
