"""Quantities as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import UsageError
from accelerators.units import (
    format_bytes,
    format_duration,
    parse_byte_rate,
    parse_bytes,
    parse_duration,
    parse_fraction,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        (" 1.5 s ", 1.5),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("2m30s", 150.0),
        ("250us", 250e-6),
        ("0", 0.0),
        ("1e-3s", 1e-3),
        ("1d", 86400.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_bare_number_takes_the_default_unit_or_is_refused() -> None:
    assert parse_duration("30", default_unit="s") == 30
    with pytest.raises(UsageError, match="no unit"):
        parse_duration("30")


@pytest.mark.parametrize("text", ["", "fast", "-1s", "5 parsecs", "nan s", "inf", "1s2", "s"])
def test_bad_durations_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_duration(text)
    assert repr(text) in error.value.message


def test_fractions() -> None:
    assert parse_fraction("30%") == pytest.approx(0.3)
    assert parse_fraction("0.3") == pytest.approx(0.3)
    for text in ("30", "101%", "-1%", "x", "3s"):
        with pytest.raises(UsageError):
            parse_fraction(text)


@given(st.floats(0, 1e7, allow_nan=False))
def test_a_printed_duration_keeps_three_digits(seconds: float) -> None:
    text = format_duration(seconds)
    assert parse_duration(text.replace(" ", "")) == pytest.approx(seconds, rel=0.01, abs=1e-9)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (64 << 20, "64 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 41, "2 TiB"),
    ],
)
def test_printed_sizes(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("64Mi", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5GB", 1_500_000_000),
        ("2k", 2000),
        ("0", 0),
        ("1 TiB", 1 << 40),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "-1", "5 parsecs", "12s", "MiB", "3MiB/s", "nan"])
def test_bad_sizes_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_bytes(text)
    assert repr(text) in error.value.message


@given(st.integers(0, 1 << 60))
def test_a_printed_size_keeps_three_digits(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.001)


def test_rates_of_bytes() -> None:
    assert parse_byte_rate("200MiB/s") == 200 << 20
    assert parse_byte_rate("1.5 GB/s") == 1.5e9
    for text in ("200MiB", "0/s", "-1MB/s", "5x/s", "fast"):
        with pytest.raises(UsageError) as error:
            parse_byte_rate(text)
        assert repr(text) in error.value.message
