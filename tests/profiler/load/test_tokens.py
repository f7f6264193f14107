import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.load.http1 import BadStreamError
from profiler.load.tokens import TokenStream


def completion(text: str, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": finish}], **more}


def chat(finish: str | None = None, **delta: object) -> dict[str, object]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(prompt: int, done: int) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": done}}


def encode(events: list[object], end: str = "\n", spaced: bool = False) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    lines = [e if isinstance(e, str) else json.dumps(e, separators=separators) for e in events]
    return "".join(
        line + end * 2 if line.startswith(":") else f"data: {line}{end}{end}" for line in lines
    ).encode()


def read(data: bytes, cuts: list[int] | None = None) -> TokenStream:
    stream = TokenStream()
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts or [])})
    for a, b in itertools.pairwise(places):
        stream.feed(float(b), data[a:b])
    stream.finish(float(len(data)))
    return stream


def outcome(stream: TokenStream) -> tuple[object, ...]:
    return (
        sum(stream.count),
        stream.prompt_tokens,
        stream.completion_tokens,
        stream.finish_reason,
        stream.done,
        stream.error,
    )


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "\n\n", '"text":"', "data: {", "\\", '"}],"usage":null}\n\ndata: [DONE]']),
)
STREAMS = st.builds(
    lambda texts, is_chat, role, last, with_usage, done: (
        ([chat(role="assistant", content="")] if is_chat and role else [])
        + [chat(content=t) if is_chat else completion(t) for t in texts]
        + ([chat("stop")] if is_chat and last else [completion("z", "length")] if last else [])
        + ([usage(5, 9)] if with_usage else [])
        + (["[DONE]"] if done else [])
    ),
    st.lists(TEXTS, max_size=12),
    *[st.booleans()] * 5,
)


@given(
    STREAMS,
    st.lists(st.integers(0, 100_000), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_any_split_of_the_bytes_reads_the_same(events, cuts, end, spaced) -> None:
    data = encode(events, end, spaced)
    assert outcome(read(data, cuts)) == outcome(read(data))


@given(st.lists(TEXTS, min_size=1, max_size=30), st.lists(st.integers(0, 100_000), max_size=6))
def test_each_event_with_text_counts_once(texts, cuts) -> None:
    # The first event makes a token visible; from then on empty text is a token held back.
    stream = read(encode([completion("x"), *map(completion, texts)]), cuts)
    assert sum(stream.count) == 1 + len(texts)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=20))
def test_an_event_has_the_time_of_the_read_that_completes_it(sizes) -> None:
    stream = TokenStream()
    wire = encode([completion("abc")])
    for number, size in enumerate(sizes):
        stream.feed(number, wire[-1:] if number and size < 3 else b"")
        stream.feed(number + 0.5, wire[:-1] if size < 3 else wire)
        if size < 3:
            stream.feed(number + 0.75, wire[-1:])
    assert len(stream.at) == len(sizes)
    ends = [0.5 if size == 3 else 0.75 for size in sizes]
    assert list(stream.at) == [number + end for number, end in enumerate(ends)]


def test_a_role_is_not_a_token() -> None:
    stream = TokenStream()
    stream.feed(1.0, encode([chat(role="assistant", content="")]))
    assert not stream.at
    stream.feed(2.0, encode([chat(content="Hi")]))
    assert list(stream.at) == [2.0]
    assert stream.visible == 0


def test_a_role_that_comes_with_text_is_one() -> None:
    assert sum(read(encode([chat(role="assistant", content="Hi")])).count) == 1


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_output_too(key) -> None:
    assert sum(read(encode([chat(**{key: "hm"}), chat(**{key: "so"})])).count) == 2


def test_an_empty_opening_event_is_not_the_first_token() -> None:
    stream = TokenStream()
    stream.feed(1.0, encode([completion("")]))
    stream.feed(2.0, encode([completion("a")]))
    assert stream.visible is not None
    assert stream.at[stream.visible] == 2.0


def test_comments_and_what_follows_done_are_passed_over() -> None:
    stream = read(encode([": ping", completion("a"), ": ping", "[DONE]", completion("b")]))
    assert sum(stream.count) == 1
    assert stream.done


def test_usage_on_every_event_is_read_and_still_counts_tokens() -> None:
    counted = {"prompt_tokens": 4, "completion_tokens": 1}
    events = [completion(t, usage={**counted, "completion_tokens": n}) for n, t in enumerate("ab")]
    stream = read(encode(events))
    assert (sum(stream.count), stream.prompt_tokens, stream.completion_tokens) == (2, 4, 1)


def test_events_that_change_beside_their_text_are_counted_too() -> None:
    events = [completion("x", created=second) for second in range(50)]
    assert sum(read(encode(events)).count) == 50


@pytest.mark.parametrize(
    "error", [{"error": {"message": "out of memory"}}, {"error": "out of memory", "code": 500}]
)
def test_an_error_event_keeps_its_message(error) -> None:
    stream = read(encode([completion("a"), completion("b"), error]))
    assert stream.error == "out of memory"


@pytest.mark.parametrize("data", ['{"choices": [', "[1]", '{"choices": [1]}', "not json"])
def test_what_is_no_event_is_refused(data) -> None:
    with pytest.raises(BadStreamError):
        read(encode([data]))
