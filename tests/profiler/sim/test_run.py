import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelerators.errors import UsageError
from accelerators.names import resolve
from profiler.samples import summarise
from profiler.sim.predict import predict
from profiler.sim.replica import make_replica
from profiler.sim.roofline import Step, StepModel
from profiler.sim.run import simulate, simulate_closed_loop

A10 = make_replica(resolve("a10"), "llama-2-7b")


def test_a_lone_request_takes_the_predicted_times() -> None:
    samples = simulate(A10, [5.0], [512], [128])
    prediction = predict(A10, batch=1, input_tokens=512, output_tokens=128)
    ttft = samples.first_token_s[0] - 5
    decode = (samples.last_token_s[0] - samples.first_token_s[0]) / 127
    assert ttft * 1e3 == pytest.approx(prediction.prefill_ms, rel=1e-9)
    assert decode * 1e3 == pytest.approx(prediction.decode_ms_per_token, rel=1e-3)


def test_a_long_prompt_takes_the_time_of_its_chunks() -> None:
    """3,000 tokens in chunks of 2,048 and 952; the second reads what the first has stored."""
    samples = simulate(A10, [0.0], [3000], [1])
    model = StepModel(A10)
    chunks = (
        Step(2048, 0, 2048 * 2049 / 2, 2048, prefill=True),
        Step(952, 1, 952 * (2048 + 953 / 2), 3000, prefill=True),
    )
    expected = sum(model.time(chunk).total_s for chunk in chunks)
    assert samples.first_token_s[0] == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(1, 5000), st.integers(1, 300)),
        min_size=1,
        max_size=40,
    )
)
def test_every_served_request_has_all_its_tokens_in_order(load) -> None:
    gaps, inputs, outputs = (list(column) for column in zip(*load, strict=True))
    due = np.cumsum(gaps)
    samples = simulate(A10, due, inputs, outputs)
    served = np.array([error is None for error in samples.errors])
    assert list(~served) == [A10.refuses(i, o) for i, o in zip(inputs, outputs, strict=True)]
    assert np.all(samples.first_token_s[served] > due[served])
    assert np.all(samples.last_token_s[served] >= samples.first_token_s[served])
    assert np.all(np.isnan(samples.last_token_s[~served]))
    assert samples.gap_weight.sum() == pytest.approx(
        samples.output_tokens[served].sum() - served.sum()
    )
    assert np.sum(samples.gap_s * samples.gap_weight) == pytest.approx(
        np.sum((samples.last_token_s - samples.first_token_s)[served])
    )


def test_the_time_lost_to_preemption_is_a_gap_of_the_request_that_lost_it() -> None:
    """Ten requests of 300 tokens in 1,700 tokens of memory: some have to wait half way."""
    tight = make_replica(resolve("a10"), "llama-2-7b", gpu_memory_utilization=0.63)
    assert tight.kv_blocks * 16 < 2000
    samples = simulate(tight, [0.0] * 10, [100] * 10, [200] * 10)
    lost = samples.gap_s > 5 * np.median(samples.gap_s)
    assert lost.any()
    assert np.all(samples.gap_weight[lost & (samples.gap_s > 1)] == 1)
    assert np.sum(samples.gap_s * samples.gap_weight) == pytest.approx(
        np.sum(samples.last_token_s - samples.first_token_s)
    )


def test_the_same_arguments_give_the_same_samples() -> None:
    due = np.cumsum(np.full(50, 0.2))
    first, second = (simulate(A10, due, [256] * 50, [64] * 50) for _ in range(2))
    assert np.array_equal(first.last_token_s, second.last_token_s)
    assert np.array_equal(first.gap_s, second.gap_s)


def test_more_load_waits_longer() -> None:
    medians = []
    for rate in (0.5, 2.0, 8.0):
        due = np.arange(200) / rate
        summary = summarise(simulate(A10, due, [512] * 200, [128] * 200), window=(due[20], due[-1]))
        latency = summary.latency["ttft"]
        assert latency is not None
        medians.append(latency.p50)
    assert medians == sorted(medians)
    assert not summary.sustained


def test_a_closed_loop_keeps_its_concurrency() -> None:
    samples = simulate_closed_loop(A10, 4, [128] * 20, [50] * 20)
    assert samples.errors == [None] * 20
    for at in samples.scheduled_s[4:]:
        under_way = np.sum((samples.scheduled_s <= at) & (samples.last_token_s > at))
        assert under_way == 4


def test_a_closed_loop_of_one_is_one_after_the_other() -> None:
    samples = simulate_closed_loop(A10, 1, [128, 5000, 128], [50, 1, 50])
    assert samples.errors == [None, "context_length", None]
    assert samples.scheduled_s[2] == samples.last_token_s[0]


@pytest.mark.parametrize(
    ("due", "inputs", "outputs"),
    [
        ([1.0, 0.5], [1, 1], [1, 1]),
        ([0.0, np.inf], [1, 1], [1, 1]),
        ([0.0], [0], [1]),
        ([0.0], [1], [0]),
        ([0.0], [1, 1], [1]),
    ],
)
def test_an_impossible_schedule_is_refused(due, inputs, outputs) -> None:
    with pytest.raises(UsageError):
        simulate(A10, due, inputs, outputs)
