from hypothesis import given
from hypothesis import strategies as st

from diagnose.kernel_events import Event, Line, events_of
from diagnose.kernel_log import parse


def events(*texts: str) -> tuple[Event, ...]:
    return events_of([Line(float(second), text) for second, text in enumerate(texts)])


def test_every_known_form_of_an_xid() -> None:
    forms = {
        "NVRM: Xid (PCI:0000:18:00): 79, pid=4711, name=python3, GPU has fallen off the bus.": (
            "0000:18:00.0", 79, 4711, "python3"),
        "NVRM: Xid (PCI:0000:cb:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp": (
            "0000:cb:00.0", 13, None, None),
        "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 43, pid=12, name=vllm, Ch 00000008": (
            "0000:01:00.0", 43, 12, "vllm"),
        "NVRM: Xid (PCI:0009:01:00): 62, 0000(0000) 00000000 00000000": (
            "0009:01:00.0", 62, None, None),
        "NVRM: Xid (0000:03:00): 31, Ch 00000010, engmask 00000101": (
            "0000:03:00.0", 31, None, None),
        "NVRM: Xid (PCI:0000:1a:00): 119, pid=99, name=a,b, Timeout after 6s of waiting for RPC": (
            "0000:1a:00.0", 119, 99, "a"),
    }  # fmt: skip
    for text, expected in forms.items():
        (event,) = events(text)
        assert event.kind == "xid"
        assert (event.address, event.number, event.pid, event.process) == expected


def test_switch_and_pcie_errors() -> None:
    found = events(
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20009, Non-fatal, Link 28 RX Short Error Rate",
        "nvidia-nvswitch0: SXid (PCI:0000:59:00.0): 23001, Fatal, Link 12",
        "nvidia 0000:18:00.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, (Receiver)",
        "nvidia 0000:18:00.0: AER: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Tr",
        "pcieport 0000:17:01.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction",
        "pcieport 0000:00:1d.0: AER: Multiple Corrected error received: 0000:00:1d.0",
        "pcieport 0000:00:1c.4: AER: Correctable error message received from 0000:07:00.0",
    )
    assert [(e.kind, e.address, e.number, e.grade) for e in found] == [
        ("sxid", "0000:c1:00.0", 20009, "Non-fatal"),
        ("sxid", "0000:59:00.0", 23001, "Fatal"),
        ("aer", "0000:18:00.0", None, "Corrected"),
        ("aer", "0000:18:00.0", None, "Non-fatal"),
        ("aer", "0000:17:01.0", None, "Fatal"),
        ("aer", "0000:00:1d.0", None, "Corrected"),
        ("aer", "0000:07:00.0", None, "Corrected"),
    ]


def test_lines_that_repeat_are_one_event_with_its_context() -> None:
    line = "NVRM: Xid (PCI:0000:cb:00): 13, pid='<unknown>', name=<unknown>, Graphics"
    (event,) = events("a", "b", "c", line, "d", line, "e", "f")
    assert (event.count, event.first_s, event.last_s) == (2, 3.0, 5.0)
    assert event.context == ("b", "c", line, "d", line)


def test_nvrm_lines_that_go_with_an_xid_are_no_event() -> None:
    xid = "NVRM: Xid (PCI:0000:18:00): 79, pid=1, name=x, GPU has fallen off the bus."
    same = "NVRM: GPU 0000:18:00.0: GPU has fallen off the bus."
    other = "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x1a:1227)"
    assert [event.kind for event in events(xid, same)] == ["xid"]
    assert [(e.kind, e.address) for e in events(other)] == [("nvrm", "0000:3b:00.0")]
    assert [event.kind for event in events(xid, other)] == ["xid", "nvrm"]


def test_what_is_only_information_is_no_event() -> None:
    assert not events(
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05",
        "NVRM: GPU at PCI:0000:18:00: GPU-0902c3a5-b542-f815-6c70-692ab3c49e22",
        "nvidia 0000:18:00.0: enabling device (0140 -> 0142)",
        "pcieport 0000:00:1c.0: AER: enabled with IRQ 26",
        "usb 1-1: new high-speed USB device",
    )


def test_stamps_of_dmesg_journal_and_syslog() -> None:
    assert parse(
        [
            "[   12.345678] NVRM: a",
            "<4>[   12.5] NVRM: b",
            "[   13.000000] [  T512] NVRM: c",
            "Nov 20 18:00:00 node7 kernel: [  14.0] NVRM: d",
            "Nov 20 18:00:00 node7 kernel: NVRM: e",
            "NVRM: f",
        ]
    ) == [
        Line(12.345678, "NVRM: a"),
        Line(12.5, "NVRM: b"),
        Line(13.0, "NVRM: c"),
        Line(14.0, "NVRM: d"),
        Line(None, "NVRM: e"),
        Line(None, "NVRM: f"),
    ]


STARTS = ["", "NVRM: Xid (PCI:", "SXid (PCI:0000:", "AER: ", "PCIe Bus Error: severity="]


@given(st.lists(st.builds(str.__add__, st.sampled_from(STARTS), st.text(max_size=60)), max_size=8))
def test_no_line_whatever_breaks_the_parser(texts: list[str]) -> None:
    events_of(parse(texts))
