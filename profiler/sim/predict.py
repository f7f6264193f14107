"""Predict what one batch takes, without load: prefill, decode, memory, and what bounds each."""

from dataclasses import dataclass
from typing import Any

from profiler.errors import ProfilerUsageError
from profiler.sim.replica import BLOCK_TOKENS, Replica
from profiler.sim.roofline import CONSTANTS, Constants, Step, StepModel, StepTime


@dataclass(frozen=True)
class Prediction:
    """A batch of equal requests that start together and are alone on the replica.

    Attributes:
        replica: what serves.
        batch, input_tokens, output_tokens: the batch.
        prefill: all prompts, computed in one step.
        decode: a step at the middle of the outputs.
        kv_cache_bytes: per GPU, of the whole batch at its end.
    """

    replica: Replica
    batch: int
    input_tokens: int
    output_tokens: int
    prefill: StepTime
    decode: StepTime
    kv_cache_bytes: float

    @property
    def prefill_ms(self) -> float:
        """Time until the batch has its first tokens."""
        return self.prefill.total_s * 1e3

    @property
    def decode_ms_per_token(self) -> float:
        """Mean time of each further token of a sequence."""
        return self.decode.total_s * 1e3

    @property
    def fits(self) -> bool:
        """Whether weights, activations and this batch's KV cache fit into memory together."""
        return self.kv_cache_bytes <= self.replica.memory.kv_cache

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        memory = self.replica.memory
        return {
            "source": "predicted",
            "accelerator": self.replica.accelerator.name,
            "gpus": self.replica.gpus,
            "model": self.replica.model.name,
            "dtype": self.replica.model.dtype,
            "batch": self.batch,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "prefill_ms": round(self.prefill_ms, 3),
            "decode_ms_per_token": round(self.decode_ms_per_token, 3),
            "e2e_ms": round(
                self.prefill_ms + (self.output_tokens - 1) * self.decode_ms_per_token, 3
            ),
            "bound": {"prefill": self.prefill.bound, "decode": self.decode.bound},
            "parts_ms": {
                "prefill": _parts(self.prefill),
                "decode": _parts(self.decode),
            },
            "memory_per_gpu_bytes": {
                "total": round(memory.total),
                "weights": round(memory.weights),
                "kv_cache": round(self.kv_cache_bytes),
                "kv_cache_room": max(0, round(memory.kv_cache)),
                "activations": round(memory.activations),
            },
            "fits": self.fits,
        }


def _parts(time: StepTime) -> dict[str, float]:
    return {
        "compute": round(time.compute_s * 1e3, 3),
        "memory": round(time.memory_s * 1e3, 3),
        "link": round(time.link_s * 1e3, 3),
        "least": round(time.least_s * 1e3, 3),
        "fixed": round(time.fixed_s * 1e3, 3),
    }


def predict(
    replica: Replica,
    *,
    batch: int,
    input_tokens: int,
    output_tokens: int,
    constants: Constants = CONSTANTS,
) -> Prediction:
    """Return the predicted times of a batch.

    Raises:
        ProfilerUsageError: a size below 1.
    """
    for name, value in (("batch", batch), ("input", input_tokens), ("output", output_tokens)):
        if value < 1:
            raise ProfilerUsageError("sim.size", f"{name} is {value}; expected 1 or more")
    model = StepModel(replica, constants)
    prompts = Step(
        tokens=batch * input_tokens,
        sequences=batch,
        attention_pairs=batch * input_tokens * (input_tokens + 1) / 2,
        context_tokens=batch * input_tokens,
        prefill=True,
    )
    context = batch * (input_tokens + output_tokens / 2)
    middle = Step(batch, batch, context, context, prefill=False)
    blocks = batch * -(-(input_tokens + output_tokens - 1) // BLOCK_TOKENS)
    return Prediction(
        replica,
        batch,
        input_tokens,
        output_tokens,
        model.time(prompts),
        model.time(middle),
        blocks * BLOCK_TOKENS * replica.kv_bytes_per_token,
    )
