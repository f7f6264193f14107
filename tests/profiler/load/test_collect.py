"""What several clients recorded gives, to the last bit, the figures of one."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiler.load.collect import join, observe
from profiler.load.part import Part
from profiler.load.recording import Recording
from profiler.load.shard_document import from_json, to_json
from profiler.samples import Samples, summarise
from profiler.slo import parse_slos

from .test_part import load

SLOS = parse_slos(["ttft_p99<=300ms", "e2e_p90<=1s", "tpot_p50<=20ms"])


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """A client's recording: failures, empty answers, ties, tokens that come together."""
    count = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    digits = draw(st.sampled_from([2, 15]))  # few digits make many ties
    failed = rng.random(count) < draw(st.sampled_from([0.0, 0.1, 0.9]))
    scheduled = np.sort(rng.random(count) * 10).round(digits)
    reads = np.where(failed, 0, rng.integers(1, 8, count))
    sent = np.where(rng.random(count) < 0.05, np.nan, scheduled + rng.random(count) * 0.01)
    times = [
        start + np.cumsum(rng.random(number) * 0.1).round(digits)
        for start, number in zip(scheduled, reads, strict=True)
    ]
    read_s = np.concatenate(times)
    events = rng.integers(1, 4, len(read_s))
    owner = np.repeat(np.arange(count), reads)
    streamed = np.bincount(owner, weights=events, minlength=count).astype(np.int64)
    causes = rng.choice(["http_503", "timeout"], count)
    return Recording(
        scheduled_s=scheduled,
        sent_s=sent,
        reads=reads,
        read_s=read_s,
        earliest_s=read_s - rng.random(len(read_s)) * 1e-4,
        events=events,
        prompt_tokens=rng.integers(1, 100, count),
        output_tokens=np.where(failed, 0, streamed + rng.integers(0, 3, count)),
        held_back=rng.random(count) < 0.2,
        loop_lag_s=rng.random(7),
        errors=tuple(
            str(cause) if lost else None for cause, lost in zip(causes, failed, strict=True)
        ),
        messages={"http_503": "busy"},
        cpu_share=float(rng.random()),
        elapsed_s=11.5,
        cut=2,
        resent=1,
        without_usage=3,
        notes=("a note",),
        engine="vllm",
        engine_version=None,
    )


def part_of(whole: Recording, mine: np.ndarray) -> Recording:
    """Return what a client recorded that sent just these requests."""
    ends = np.cumsum(whole.reads)
    spans = [np.arange(ends[i] - whole.reads[i], ends[i]) for i in mine]
    reads = np.concatenate(spans).astype(int) if spans else np.empty(0, dtype=int)
    per_request = ("scheduled_s", "sent_s", "reads", "prompt_tokens", "output_tokens", "held_back")
    return replace(
        whole,
        **{name: getattr(whole, name)[mine] for name in per_request},
        **{name: getattr(whole, name)[reads] for name in ("read_s", "earliest_s", "events")},
        errors=tuple(whole.errors[i] for i in mine),
    )


@given(recordings(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_split_gives_the_figures_of_the_whole(whole, clients: int, random) -> None:
    owner = np.array([random.randrange(clients) for _ in range(len(whole))])
    split = [part_of(whole, np.flatnonzero(owner == client)) for client in range(clients)]
    random.shuffle(split)
    merged, single = observe(split), observe([whole])
    for name in ("samples", "prompt"):
        for window in ((0.0, 10.0), (2.0, 7.5)):
            one, other = (
                summarise(getattr(seen, name), window=window, slos=SLOS)
                for seen in (single, merged)
            )
            assert one == other
    assert merged.chunks == single.chunks
    assert sorted(merged.held_back) == sorted(single.held_back)


@given(recordings())
def test_samples_joined_are_in_order_of_the_schedule(whole) -> None:
    halves = [part_of(whole, np.arange(start, len(whole), 2)) for start in (1, 0)]
    joined = observe(halves).samples
    assert joined.scheduled_s.tolist() == whole.scheduled_s.tolist()
    by_hand = observe([whole]).samples
    if len(set(whole.scheduled_s)) == len(whole):
        for name in Samples.__dataclass_fields__:
            if not name.startswith("gap"):
                np.testing.assert_array_equal(getattr(joined, name), getattr(by_hand, name))


def test_one_part_is_taken_as_it_is() -> None:
    only = observe([_sample()]).samples
    assert join([only]) is only


def _sample() -> Recording:
    one = np.array([0.5])
    return Recording(one, one, np.array([1]), one, one, np.array([1]), np.array([1]),
                     np.array([1]), np.array([False]), one, (None,))  # fmt: skip


@given(recordings(), st.integers(0, 5))
def test_a_shard_s_document_loses_nothing(whole, index: int) -> None:
    config = load(request_rate=0.1 + 0.2, slos=SLOS, extra_body={"top_k": 1})
    document = to_json(config, Part(index, 6), whole)
    config_read, part, read = from_json(document, "it")
    assert read.part == f"{index + 1} of 6"
    assert part == Part(index, 6)
    assert config_read == replace(config, slos=config_read.slos)
    for name in Recording.__dataclass_fields__.keys() - {"part"}:
        ours, theirs = getattr(whole, name), getattr(read, name)
        if isinstance(ours, np.ndarray):
            assert theirs.dtype == ours.dtype
            assert theirs.tobytes() == ours.tobytes(), name
        else:
            assert theirs == ours, name
