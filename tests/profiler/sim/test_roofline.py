import csv
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.names import resolve
from profiler.sim.predict import predict
from profiler.sim.replica import make_replica
from profiler.sim.roofline import Step, StepModel

MEASURED = Path(__file__).resolve().parents[4] / "shared" / "data" / "llama2_70b_a100_measured.csv"
MODELS = {
    (name, gpus): StepModel(make_replica(resolve(name), model, gpus=gpus, must_fit=False))
    for name, model, gpus in [
        ("a10", "llama-2-7b", 1),
        ("h100", "qwen2.5-7b", 2),
        ("t4", "llama-2-13b", 4),
    ]
}
steps = st.builds(
    Step,
    tokens=st.integers(1, 20_000),
    sequences=st.integers(1, 256),
    attention_pairs=st.floats(1, 1e9),
    context_tokens=st.floats(1, 1e6),
    prefill=st.booleans(),
)


@given(st.sampled_from(sorted(MODELS)), steps, st.data())
def test_more_work_never_takes_less_time(key, step: Step, data: st.DataObject) -> None:
    more = Step(
        step.tokens + data.draw(st.integers(0, 1000)),
        step.sequences + data.draw(st.integers(0, 100)),
        step.attention_pairs + data.draw(st.floats(0, 1e8)),
        step.context_tokens + data.draw(st.floats(0, 1e6)),
        step.prefill or data.draw(st.booleans()),
    )
    assert MODELS[key].time(more).total_s >= MODELS[key].time(step).total_s


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 256), st.integers(1, 100_000))
def test_many_decode_times_are_the_single_ones(key, sequences: int, context: int) -> None:
    import numpy as np

    model = MODELS[key]
    contexts = context + sequences * np.arange(5)
    singles = [model.decode_s(sequences, float(tokens)) for tokens in contexts]
    assert model.decode_times_s(sequences, contexts) == pytest.approx(singles, rel=1e-12)


def test_a_small_model_on_the_fastest_type_still_takes_a_least_time() -> None:
    """A 7B model's weights pass through a B200 in 2.6 ms; no engine steps 32 layers so fast."""
    model = StepModel(make_replica(resolve("b200"), "llama-2-7b"))
    time = model.time(Step(1, 1, 100, 100, prefill=False))
    assert time.memory_s < time.least_s < time.total_s


def test_more_accelerators_shorten_a_prompt_but_not_a_small_step_without_end() -> None:
    replicas = [
        make_replica(resolve("a100-80g"), "llama-2-13b", gpus=gpus) for gpus in (1, 2, 4, 8)
    ]
    prompt = Step(4096, 1, 4096**2 / 2, 4096, prefill=True)
    alone = Step(1, 1, 100, 100, prefill=False)
    prompts = [StepModel(replica).time(prompt).total_s for replica in replicas]
    tokens = [StepModel(replica).time(alone).total_s for replica in replicas]
    assert prompts == sorted(prompts, reverse=True)
    assert tokens[3] > tokens[2]


def test_bounds_are_what_they_are_known_to_be() -> None:
    """A long prompt is compute bound; decoding alone reads the weights; PCIe limits four T4s."""
    alone = Step(1, 1, 512, 512, prefill=False)
    prompt = Step(2048, 1, 2048**2 / 2, 2048, prefill=True)
    assert MODELS["a10", 1].time(alone).bound == "memory"
    assert MODELS["a10", 1].time(prompt).bound == "compute"
    assert MODELS["t4", 4].time(prompt).bound == "link"


def test_memory_bound_decode_cannot_beat_the_bandwidth() -> None:
    prediction = predict(
        make_replica(resolve("a10"), "llama-2-7b"), batch=1, input_tokens=512, output_tokens=128
    )
    assert prediction.decode_ms_per_token > 13.2e9 / 600e9 * 1e3


@pytest.mark.skipif(not MEASURED.exists(), reason="the measured times are not here")
def test_error_against_measured_times() -> None:
    """Median absolute error at most 15%, over all rows and with each configuration once."""
    prefill: dict[tuple[str, ...], float] = {}
    decode: dict[tuple[str, ...], float] = {}
    with MEASURED.open() as file:
        for row in csv.DictReader(file):
            sizes = {key: int(row[key]) for key in ("tensor_parallel", "batch_size")}
            replica = make_replica(
                resolve("a100-80g-sxm"),
                "llama-2-70b",
                gpus=sizes["tensor_parallel"],
                must_fit=False,
            )
            prediction = predict(
                replica,
                batch=sizes["batch_size"],
                input_tokens=int(row["prompt_tokens"]),
                output_tokens=int(row["output_tokens"]),
            )
            key = tuple(row.values())[:4]
            prefill[key] = abs(prediction.prefill_ms / float(row["prefill_ms"]) - 1)
            decode[key] = abs(
                prediction.decode_ms_per_token / float(row["decode_ms_per_token"]) - 1
            )
    assert statistics.median(prefill.values()) <= 0.15
    assert statistics.median(decode.values()) <= 0.15
    once = {key[:3]: error for key, error in prefill.items()}
    assert statistics.median(once.values()) <= 0.15
