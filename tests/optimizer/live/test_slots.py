import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.live.slots import DamagedSlotError, from_two_gateways, parse_slot
from tests.gateway import GatewayTrace, document

SIZES = st.lists(
    st.tuples(st.integers(1, 131_072), st.integers(1, 16_384)), min_size=1, max_size=40
)


@given(SIZES, st.integers(1, 4))
def test_a_size_is_never_taken_for_less_than_it_was(
    sizes: list[tuple[int, int]], version: int
) -> None:
    """One request in, one size out, and it is at least as large as any that is written so."""
    for tokens_in, tokens_out in sizes:
        raw = json.dumps(document([(tokens_in, tokens_out)], version=version)).encode()
        (found,) = parse_slot(0, raw).sizes
        width = 2.0 if version == 1 else 2**0.1
        assert tokens_in <= found[0] <= math.ceil(tokens_in * width)
        assert tokens_out <= found[1] <= math.ceil(tokens_out * width)


@given(SIZES, st.integers(1, 4), st.integers(0, 99))
def test_every_version_counts_its_requests(
    sizes: list[tuple[int, int]], version: int, more: int
) -> None:
    total = len(sizes) + more
    raw = json.dumps(document(sizes, version=version, total=total, pending=more, queueing=1))
    slot = parse_slot(50, raw.encode())
    assert (slot.at_s, slot.version, slot.answered) == (50, version, len(sizes))
    assert slot.total == (total if version >= 3 else len(sizes))
    assert slot.pending == (more if version >= 3 else None)
    assert slot.queueing == (1 if version >= 4 else None)
    assert slot.unknown == ()


def test_fields_of_another_day_are_skipped_and_named() -> None:
    raw = json.dumps(document([(512, 128)]) | {"meta_len": 3, "90": 1, "": 2, "90:70:10": 4})
    slot = parse_slot(0, raw.encode())
    assert (slot.total, slot.answered) == (1, 1)
    assert slot.unknown == ("", "90", "90:70:10", "meta_len")


def test_without_a_stated_precision_sizes_are_what_makes_sense() -> None:
    assert parse_slot(0, b'{"9:7": 2}').sizes == {(724, 181): 2}
    assert parse_slot(0, b'{"90:70": 2}').sizes == {(530, 132): 2}
    assert parse_slot(0, b'{"meta_v": 2, "90:9": 2}').sizes == {(530, 1): 2}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b'{"90:70": 3, "me', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "list instead of a JSON object"),
        (b'{"90:70": -1}', "90:70 is -1; expected a whole number from 0"),
        (b'{"90:70": 1.5}', "90:70 is 1.5"),
        (b'{"90:70": true}', "90:70 is True"),
        (b'{"meta_v": 0}', "meta_v is 0; expected a whole number from 1"),
        (b'{"meta_v": 3, "meta_total_reqs": "9"}', "meta_total_reqs is '9'"),
        (b'{"meta_v": 2, "meta_precision": 0}', "meta_precision is 0"),
        (b'{"meta_v": 2, "meta_precision": 10, "999:10": 1}', "a size of 2^99.9 tokens"),
    ],
)
def test_damage_is_named(raw: bytes, why: str) -> None:
    with pytest.raises(DamagedSlotError) as raised:
        parse_slot(0, raw)
    assert why in str(raised.value)


def test_two_gateways_are_told_from_one_that_is_busy() -> None:
    one = GatewayTrace("m", 0)
    one.slot([(512, 128)] * 20, total=60, pending=40)  # a burst,
    one.slot([(512, 128)] * 50, total=20, pending=10)  # worked off later
    one.slot([(512, 128)] * 5, total=0, pending=0)  # five failed: answered by no count
    one.skip().slot([(512, 128)] * 50, total=20, pending=10)  # what was before is not known
    slots = [parse_slot(at_s, raw) for at_s, raw in one.values.items()]
    assert from_two_gateways(slots) == []

    two = GatewayTrace("m", 0)
    two.slot([(512, 128)] * 30, total=30, pending=2)
    two.slot([(512, 128)] * 90, total=90, pending=80)  # the other gateway's
    two.slot([(512, 128)] * 31, total=30, pending=2)
    two.slot([(512, 128)] * 60, total=30, pending=2)
    slots = [parse_slot(at_s, raw) for at_s, raw in two.values.items()]
    assert from_two_gateways(slots) == [10, 30]
    assert from_two_gateways(parse_slot(t, b'{"90:70": 5}') for t in (0, 10)) == []
