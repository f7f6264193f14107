import os
import time
from pathlib import Path

import pytest

from accelerators.errors import UsageError
from accelerators.mocked import Mock
from diagnose import kernel_log

XID = "NVRM: Xid (PCI:0000:18:00): 79, pid=1, name=x, GPU has fallen off the bus."


def test_a_file_that_the_user_names(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt"
    path.write_text(f"[ 10.0] {XID}\n")
    log = kernel_log.read(path, None)
    assert (log.source, log.error) == (str(path), None)
    assert [event.number for event in log.events] == [79]
    with pytest.raises(UsageError, match="none"):
        kernel_log.read(tmp_path / "none", None)


def test_the_log_of_a_mock_stands_for_the_machines(tmp_path: Path) -> None:
    mock = Mock(tmp_path)
    assert kernel_log.read(None, mock) == kernel_log.KernelLog(str(mock.kernel_log))
    mock.kernel_log.write_text(f"[ 10.0] {XID}\n")
    assert len(kernel_log.read(None, mock).events) == 1


def test_only_the_last_seconds_count_when_asked(tmp_path: Path) -> None:
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    mock = Mock(tmp_path)
    old, new = XID, XID.replace("): 79", "): 48")
    mock.kernel_log.write_text(f"[{now_s - 500:12.6f}] {old}\n[{now_s - 5:12.6f}] {new}\n")
    assert [event.number for event in kernel_log.read(None, mock, 60).events] == [48]
    assert len(kernel_log.read(None, mock).events) == 2


def test_a_log_that_is_a_folder_is_not_a_clean_one(tmp_path: Path) -> None:
    Mock(tmp_path).kernel_log.mkdir()
    assert "kernel.log" in str(kernel_log.read(None, Mock(tmp_path)).error)


def test_the_machines_own_log_is_read_or_said_why_not() -> None:
    log = kernel_log.read(None, None)
    assert (log.source is None) == (log.error is not None)


def test_a_log_need_not_be_text_of_one_encoding(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt"
    path.write_bytes(b"[ 1.0] ACPI: \xff\xfe\n[ 10.0] " + XID.encode() + b"\n")
    assert [event.number for event in kernel_log.read(path, None).events] == [79]


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg can't be read here")
def test_the_kernels_own_device_may_be_named(tmp_path: Path) -> None:
    assert kernel_log.read(Path("/dev/kmsg"), None).source == "/dev/kmsg"
