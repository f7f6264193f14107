"""The preload file: entered, undone to the byte, and never the machine's own."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import ToolError
from mockfail import preload
from mockfail.errors import MockError, MockUsageError
from mockfail.preload import Outcome, Places

OWN_NAMESPACE = ["unshare", "--mount", "--propagation", "private"]


def _may_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run([*OWN_NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "etc").mkdir()
    return Places(tmp_path / "etc" / "ld.so.preload", tmp_path / "kept")


@pytest.mark.parametrize("before", [None, b"", b"/lib/a.so\n", b"/lib/a.so /lib/b.so", b"\xff\n\n"])
def test_undo_restores_the_file_to_the_byte(places: Places, before: bytes | None):
    if before is not None:
        places.preload.write_bytes(before)
        places.preload.chmod(0o640)
        os.utime(places.preload, (1_000_000, 1_000_000))
    copies = preload.install(places)
    lines = places.preload.read_bytes().splitlines()
    assert lines[-2:] == [os.fsencode(path) for path in copies]
    assert all(
        path.parent == places.kept and path.stat().st_mode & 0o777 == 0o755 for path in copies
    )
    assert preload.in_force(places)
    assert preload.restore(places) == Outcome(restored=True)
    if before is None:
        assert not places.preload.exists()
    else:
        assert places.preload.read_bytes() == before
        assert places.preload.stat().st_mode & 0o777 == 0o640
    assert not places.kept.exists()
    assert preload.restore(places) == Outcome(restored=False)


def test_what_others_write_meanwhile_stays(places: Places):
    places.preload.write_bytes(b"/lib/a.so\n")
    preload.install(places)
    text = places.preload.read_bytes().replace(b"/lib/a.so\n", b"# mine\n/lib/a.so:/lib/c.so\n")
    places.preload.write_bytes(text + b"/lib/d.so")
    assert preload.restore(places) == Outcome(restored=True, edited=True)
    assert places.preload.read_bytes() == b"# mine\n/lib/a.so:/lib/c.so\n/lib/d.so"


def test_a_file_that_was_removed_meanwhile_is_not_made_again(places: Places):
    places.preload.write_bytes(b"/lib/a.so\n")
    preload.install(places)
    places.preload.unlink()
    assert preload.restore(places).edited
    assert not places.preload.exists()


def test_a_second_mock_is_refused_while_the_first_is_in_force(places: Places):
    preload.install(places)
    with pytest.raises(MockError, match="already holds a mock"):
        preload.install(places)
    assert len(places.preload.read_bytes().splitlines()) == 2
    preload.restore(places)


def test_a_library_that_would_not_load_changes_nothing(tmp_path: Path):
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"\x7fELF, but no library")
    with pytest.raises(MockError, match="would not load"):
        preload.check_loads([broken])
    with pytest.raises(MockError, match="relative"):
        preload.check_loads([Path("libbroken.so")])
    with pytest.raises(MockError, match="a space or a colon"):
        preload.check_loads([tmp_path / "a b.so"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's preload file reaches setuid programs")
def test_a_library_that_others_may_change_is_refused(places: Places):
    places.kept.mkdir()
    places.kept.chmod(0o777)
    with pytest.raises(MockError, match="changed by others"):
        preload.install(places)
    assert not places.preload.exists()
    assert not preload.in_force(places)


def test_an_install_that_is_killed_at_any_step_is_undone(places: Places):
    """Ended at each system call that changes a file; the undo needs no more than the disk."""
    places.preload.write_bytes(b"/lib/a.so\n")
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from mockfail import preload
        left = int(sys.argv[3])
        def counted(event, arguments):
            global left
            if event in ("os.rename", "os.mkdir", "os.remove"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), 9)
        sys.addaudithook(counted)
        preload.install(preload.Places(Path(sys.argv[1]), Path(sys.argv[2])))
    """)
    killed = 0
    for step in range(1, 12):
        words = [sys.executable, "-c", program, str(places.preload), str(places.kept), str(step)]
        ended = subprocess.run(words, check=False).returncode
        preload.restore(places)
        assert places.preload.read_bytes() == b"/lib/a.so\n"
        assert not preload.in_force(places)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        killed += 1
    else:
        pytest.fail("the install never ended")
    assert killed >= 4


def test_a_damaged_journal_is_told_and_touches_nothing(places: Places):
    places.preload.write_bytes(b"/lib/a.so\n")
    preload.install(places)
    installed = places.preload.read_bytes()
    places.journal.write_text("{")
    with pytest.raises(MockError, match="damaged"):
        preload.restore(places)
    assert places.preload.read_bytes() == installed


def test_who_may_not_write_the_file_is_told_before_anything_is_made(tmp_path: Path):
    with pytest.raises(MockUsageError, match="can't be written"):
        preload.check_privilege(Places(tmp_path / "nowhere" / "ld.so.preload", tmp_path))
    with pytest.raises(ToolError):
        preload.install(Places(tmp_path / "nowhere" / "ld.so.preload", tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


@given(
    st.lists(st.sampled_from(["/a.so", "/ours.so", "# x", "/ours.so:/b.so", "", "/c.so /ours.so"])),
    st.booleans(),
)
def test_taking_entries_out_leaves_every_other_line(lines: list[str], ended: bool):
    text = "\n".join(lines).encode() + (b"\n" if ended and lines else b"")
    left = preload._without_entries(text, [b"/ours.so"])
    assert b"/ours.so" not in left
    others = [line for line in text.splitlines() if b"/ours.so" not in line]
    assert [line for line in left.splitlines() if line in others] == others


@pytest.mark.skipif(not _may_unshare(), reason="needs root and a mount namespace of its own")
def test_every_program_of_a_machine_is_under_a_node_wide_mock(tmp_path: Path):
    """In a namespace where /etc and /var/lib are copies: the machine's own files stay untouched."""
    script = textwrap.dedent("""
        set -e
        mkdir -p "$1/etc" "$1/lib" "$1/run"
        cp -a /etc/. "$1/etc/"
        mount --bind "$1/etc" /etc
        mount --bind "$1/lib" /var/lib
        mount --bind "$1/run" /run
        echo "# as it was" > /etc/ld.so.preload
        ask='import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetCount())'
        "$2" -m aibrixctl mock-fail start --node-wide --node a10x3 --for 30s -q
        grep -c /var/lib/aibrixctl/mock /etc/ld.so.preload
        "$2" -c "$ask"
        "$2" -m aibrixctl mock-fail set node-wide gpus.0.lost=true -q
        "$2" -m aibrixctl mock-fail status -o csv | grep -c gpus.0.lost
        "$2" -m aibrixctl mock-fail stop node-wide -q
        cat /etc/ld.so.preload
        ls /var/lib/aibrixctl /run/aibrixctl/mock
        "$2" -m aibrixctl mock-fail stop node-wide -q
        "$2" -m aibrixctl mock-fail start --node-wide --node a10x3 --for 30s -q
        rm -rf /run/aibrixctl  # as a restart would, and the guardian ends with its mock
        "$2" -m aibrixctl mock-fail start --node-wide --node a10x4 --for 30s -q
        "$2" -c "$ask"
        "$2" -m aibrixctl mock-fail stop node-wide -q
        cat /etc/ld.so.preload
    """)
    before = Path("/etc/ld.so.preload").exists()
    words = [*OWN_NAMESPACE, "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    stopped = "node-wide: stopped; the preload file is restored"
    assert done.stdout.split("\n") == [
        "2", "3", "node-wide: gpus.0.lost", "1", stopped, "# as it was",
        "/run/aibrixctl/mock:", "", "/var/lib/aibrixctl:", "node-wide: was not running",
        "4", stopped, "# as it was", "",
    ]  # fmt: skip
    assert Path("/etc/ld.so.preload").exists() == before
