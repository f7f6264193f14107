import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.load.http1 import BadStreamError, Body, Head, parse_head


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def framed(payloads: list[bytes], *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    chunks = (b"%X%b\r\n%b\r\n" % (len(p), extension, p) for p in payloads)
    return b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


PAYLOADS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.sampled_from([b"\r\n", b"0\r\n\r\n", b"data: x\n\n" * 200, b"5\r\nhello\r\n"]),
    ),
    max_size=12,
)


@given(
    PAYLOADS,
    st.lists(st.integers(0, 10_000), max_size=8),
    st.sampled_from([b"", b";name=value", b" "]),
    st.sampled_from([b"", b"X-Sum: 1\r\n"]),
)
def test_any_split_of_a_chunked_body_gives_its_payload(payloads, cuts, extension, trailer) -> None:
    body = Body(Head(200, {"transfer-encoding": "chunked"}))
    pieces = cut(framed(payloads, extension=extension, trailer=trailer), cuts)
    assert b"".join(body.feed(piece) for piece in pieces) == b"".join(payloads)
    assert body.ended


@given(st.binary(max_size=60), st.lists(st.integers(0, 10_000), max_size=5))
def test_any_split_of_a_counted_body_gives_its_payload(payload, cuts) -> None:
    body = Body(Head(200, {"content-length": str(len(payload))}))
    assert b"".join(body.feed(piece) for piece in cut(payload, cuts)) == payload
    assert body.ended


def test_a_body_without_framing_ends_with_its_connection() -> None:
    body = Body(Head(200, {}))
    assert body.feed(b"abc") == b"abc"
    assert not body.ended
    assert body.ends_with_connection


@pytest.mark.parametrize("data", [b"zz\r\n", b"-5\r\nhello\r\n", b"\r\n", b"x" * 10_000])
def test_a_broken_chunk_size_is_refused(data) -> None:
    with pytest.raises(BadStreamError):
        Body(Head(200, {"transfer-encoding": "chunked"})).feed(data)


def test_bytes_beyond_the_length_are_refused() -> None:
    with pytest.raises(BadStreamError, match="longer than its Content-Length"):
        Body(Head(200, {"content-length": "2"})).feed(b"abc")


def test_a_head_is_read_once_it_is_complete() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Busy\r\nRetry-After: 3\r\n\r\nbody"
    for end in range(data.index(b"body")):
        assert parse_head(data[:end]) is None
    parsed = parse_head(data)
    assert parsed is not None
    head, start = parsed
    assert (head.status, head.headers, data[start:]) == (429, {"retry-after": "3"}, b"body")
    assert head.keeps_alive


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 ok\r\n\r\n"])
def test_other_protocols_are_refused(data) -> None:
    with pytest.raises(BadStreamError):
        parse_head(data)
