import re

from diagnose.checks import Sign, finding
from diagnose.findings import Device, Report
from diagnose.textfile import render

LINE = re.compile(r'^aibrixctl_diagnose_[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})? [0-9.]+$')


def test_every_line_is_in_prometheus_form_and_no_series_comes_twice() -> None:
    device = Device("gpu", 0, uuid='GPU-"quoted"\\\n', pci_bus_id="00000000:18:00.0")
    fans = [finding(Sign("NV-FAN", {"fan": n}), "fans", device, {}) for n in range(2)]
    text = render(Report((device,), tuple(fans)), finished_at_s=1700000000.5, took_s=0.25)
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.match(line) for line in samples)
    assert len(samples) == len(set(samples))
    assert "aibrixctl_diagnose_healthy 0" in samples
    assert 'aibrixctl_diagnose_devices{kind="gpu"} 1' in samples
    assert sum('code="NV-FAN",severity="degraded"' in line for line in samples) == 1
    assert text.endswith("\n")


def test_nothing_to_check_is_not_healthy() -> None:
    text = render(None, finished_at_s=0, took_s=0)
    assert "aibrixctl_diagnose_healthy 0\n" in text
    assert "aibrixctl_diagnose_finding{" not in text
    assert "aibrixctl_diagnose_healthy 1\n" in render(Report(), finished_at_s=0, took_s=0)
