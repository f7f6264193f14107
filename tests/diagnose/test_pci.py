from pathlib import Path

import pytest

from diagnose.pci import accelerators, address_of


def add(sysfs: Path, address: str, vendor: int, class_: int, driver: str | None = None) -> None:
    real = sysfs / "devices" / "pci0000:17" / "0000:17:01.0" / address
    real.mkdir(parents=True)
    (real / "vendor").write_text(f"0x{vendor:04x}\n")
    (real / "class").write_text(f"0x{class_:06x}\n")
    (real / "device").write_text("0x2330\n")
    if driver:
        (sysfs / "bus" / "pci" / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (real / "driver").symlink_to(sysfs / "bus" / "pci" / "drivers" / driver)
    folder = sysfs / "bus" / "pci" / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / address).symlink_to(real)


def test_only_accelerators_of_this_system_count(tmp_path: Path) -> None:
    add(tmp_path, "0000:18:00.0", 0x10DE, 0x030200, "nvidia")
    add(tmp_path, "0000:19:00.0", 0x10DE, 0x030000)  # a display, without a driver yet
    add(tmp_path, "0000:19:00.1", 0x10DE, 0x040300)  # its audio
    add(tmp_path, "0000:1a:00.0", 0x10DE, 0x030200, "vfio-pci")  # a virtual machine's
    add(tmp_path, "0000:1b:00.0", 0x1A03, 0x030000)  # the board's own display
    add(tmp_path, "0000:c1:00.0", 0x19E5, 0x120000)
    found = accelerators("nvidia", tmp_path)
    assert found is not None
    assert [each.address for each in found] == ["0000:18:00.0", "0000:19:00.0"]
    assert found[0].upstream == ("0000:17:01.0",)
    ascend = accelerators("ascend", tmp_path)
    assert ascend is not None
    assert [each.address for each in ascend] == ["0000:c1:00.0"]


def test_no_tree_is_not_an_empty_one(tmp_path: Path) -> None:
    assert accelerators("nvidia", tmp_path) is None
    (tmp_path / "bus" / "pci" / "devices").mkdir(parents=True)
    assert accelerators("nvidia", tmp_path) == ()


def test_a_device_that_vanishes_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "bus" / "pci" / "devices"
    (folder / "0000:18:00.0").mkdir(parents=True)
    assert accelerators("nvidia", tmp_path) == ()


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("00000000:18:00.0", "0000:18:00.0"),
        ("0000:18:00", "0000:18:00.0"),
        ("18:00.0", "0000:18:00.0"),
        ("00000009:C3:00.0", "0009:c3:00.0"),
        ("10000:01:00.0", "10000:01:00.0"),
        ("nonsense", "nonsense"),
    ],
)
def test_addresses_have_one_form(written: str, address: str) -> None:
    assert address_of(written) == address
