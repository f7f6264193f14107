"""Printed figures against what the hardware implies: cores x rate x clock, and bus x pin rate."""

import pytest

from accelerators.catalog import load_catalog

# Type, SMs, dense FP16 operations per SM and clock with FP32 accumulation, boost clock in MHz.
TENSOR_RATES = [
    ("t4", 40, 1024, 1590),
    ("v100-16g-sxm2", 80, 1024, 1530),
    ("v100-32g-sxm2", 80, 1024, 1530),
    ("v100-16g-pcie", 80, 1024, 1380),
    ("v100-32g-pcie", 80, 1024, 1380),
    ("a10", 72, 1024, 1695),
    ("a10g", 80, 512, 1710),
    ("a30", 56, 2048, 1440),
    ("a40", 84, 1024, 1740),
    ("l4", 58, 1024, 2040),
    ("l20", 92, 512, 2520),
    ("l40s", 142, 1024, 2520),
    ("a100-40g-pcie", 108, 2048, 1410),
    ("a100-40g-sxm", 108, 2048, 1410),
    ("a100-80g-pcie", 108, 2048, 1410),
    ("a100-80g-sxm", 108, 2048, 1410),
    ("h100-pcie", 114, 4096, 1620),
    ("h100-sxm", 132, 4096, 1830),
    ("h200", 132, 4096, 1830),
    ("rtx-4090", 128, 512, 2520),
    ("rtx-pro-6000", 188, 1024, 2617),
    ("rtx-pro-6000-server", 188, 1024, 2494),
]

# Type, memory bus in bits, rate of one pin in Gbit/s.
MEMORY_BUSES = [
    ("t4", 256, 10),
    ("v100-16g-sxm2", 4096, 1.752),
    ("v100-32g-sxm2", 4096, 1.752),
    ("v100-16g-pcie", 4096, 1.752),
    ("v100-32g-pcie", 4096, 1.752),
    ("a10", 384, 12.5),
    ("a10g", 384, 12.5),
    ("a30", 3072, 2.43),
    ("a40", 384, 14.5),
    ("l4", 192, 12.5),
    ("l20", 384, 18),
    ("l40s", 384, 18),
    ("a100-40g-pcie", 5120, 2.43),
    ("a100-40g-sxm", 5120, 2.43),
    ("a100-80g-pcie", 5120, 3.024),
    ("a100-80g-sxm", 5120, 3.186),
    ("h20", 6144, 5.238),
    ("h100-pcie", 5120, 3.186),
    ("h100-sxm", 5120, 5.238),
    ("h200", 6144, 6.402),
    ("b200", 7680, 7.992),
    ("rtx-4090", 384, 21),
    ("rtx-pro-6000", 512, 28),
    ("rtx-pro-6000-server", 512, 25),
]


@pytest.mark.parametrize(("name", "sms", "operations", "mhz"), TENSOR_RATES)
def test_fp16_rate_follows_from_cores_and_clock(
    name: str, sms: int, operations: int, mhz: int
) -> None:
    assert load_catalog()[name].flops["fp16"] == pytest.approx(
        sms * operations * mhz * 1e6, rel=0.02
    )


@pytest.mark.parametrize(("name", "bits", "gbit_per_s"), MEMORY_BUSES)
def test_memory_bandwidth_follows_from_bus_and_pins(
    name: str, bits: int, gbit_per_s: float
) -> None:
    expected = bits / 8 * gbit_per_s * 1e9
    assert load_catalog()[name].memory_bandwidth_bytes_per_s == pytest.approx(expected, rel=0.03)


def test_only_types_without_a_public_tensor_clock_go_unchecked() -> None:
    """The H20's rate is capped; no sheet prints the tensor clock of the B200 and the 910B."""
    names = set(load_catalog())
    assert names - {row[0] for row in TENSOR_RATES} == {"h20", "b200", "ascend-910b"}
    assert names - {row[0] for row in MEMORY_BUSES} == {"ascend-910b"}
