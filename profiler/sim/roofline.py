"""How long one step of an engine takes: a roofline over the accelerator and the model's shape.

A step computes on some new tokens of some sequences. It takes

    max(compute, memory) + link

and a fixed cost for each sequence, and another where prompts are among the tokens:

- compute: 2 operations per parameter and token, and 4 per head dimension, layer and pair of
  attending tokens, over the dense rate of all accelerators;
- memory: weights once, the KV cache of every sequence once, over the bandwidth of all;
- link: two all-reduces a layer (Shoeybi et al., Megatron-LM), each a start, a latency for each
  hop of the ring, and 2 (n-1)/n of the activations over the one-direction bandwidth.

No step is shorter than a least time a layer, however fast the device.

The constants are the same for every accelerator, model and batch. They were fitted to times of
Llama-2-70B on A100-80GB measured in 2023 (benchmarks/simulator.md has data, errors and limits).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from profiler.sim.replica import Replica

Bound = Literal["compute", "memory", "link"]


@dataclass(frozen=True)
class Constants:
    """What a data sheet does not say.

    Attributes:
        compute_efficiency: share of the peak rate that matrix multiplications reach.
        memory_efficiency: share of the peak bandwidth that decoding reaches.
        link_efficiency: share of the one-direction bandwidth that large all-reduces reach.
        allreduce_s: to start one all-reduce, however small.
        allreduce_hop_s: and for each accelerator but one.
        sequence_s: per sequence and step: scheduling, sampling.
        prefill_s: per step that holds prompt tokens.
        least_layer_s: least time of a layer; a guess, since no measured row comes near it.
    """

    compute_efficiency: float = 0.66
    memory_efficiency: float = 0.72
    link_efficiency: float = 0.30
    allreduce_s: float = 60e-6
    allreduce_hop_s: float = 22e-6
    sequence_s: float = 0.1e-3
    prefill_s: float = 8e-3
    least_layer_s: float = 0.1e-3


CONSTANTS = Constants()


@dataclass(frozen=True)
class Step:
    """What a step works on.

    Attributes:
        tokens: new tokens, over all sequences.
        sequences: sequences that get an output token.
        attention_pairs: new tokens times the tokens each attends to, summed.
        context_tokens: tokens whose keys and values are read, summed over sequences.
        prefill: whether prompt tokens are among the new ones.
    """

    tokens: int
    sequences: int
    attention_pairs: float
    context_tokens: float
    prefill: bool


@dataclass(frozen=True)
class StepTime:
    """The parts of a step's time, in seconds."""

    compute_s: float
    memory_s: float
    link_s: float
    least_s: float
    fixed_s: float

    @property
    def total_s(self) -> float:
        """What the step takes."""
        device = max(self.compute_s, self.memory_s) + self.link_s
        return max(device, self.least_s) + self.fixed_s

    @property
    def bound(self) -> Bound:
        """The part that takes most of the step."""
        if self.link_s > max(self.compute_s, self.memory_s):
            return "link"
        return "compute" if self.compute_s > self.memory_s else "memory"


class StepModel:
    """Step times of one replica, with all that does not change between steps worked out."""

    def __init__(self, replica: Replica, constants: Constants = CONSTANTS):
        model, gpus = replica.model, replica.gpus
        self._model = model
        flops = gpus * replica.flops * constants.compute_efficiency
        bandwidth = replica.accelerator.memory_bandwidth_bytes_per_s * constants.memory_efficiency
        active = model.layers * model.active_experts * model.expert_parameters
        self._token_s = 2 * (model.shared_parameters + active) / flops
        self._sequence_compute_s = 2 * model.embedding_parameters / flops
        self._pair_s = 4 * model.layers * model.heads * model.head_dim / flops
        expert_bytes = model.layers * model.expert_parameters * model.weight_bits / 8
        read = model.weight_bytes - model.experts * expert_bytes
        if not model.tied_embeddings:
            read -= 2 * model.embedding_parameters
        self._weights_s = read / gpus / bandwidth
        self._expert_s = expert_bytes / gpus / bandwidth
        self._kv_s = replica.kv_bytes_per_token / bandwidth
        reduced = 2 * (gpus - 1) / gpus * 2 * model.hidden
        link = replica.link_bytes_per_s * constants.link_efficiency
        latency = constants.allreduce_s + (gpus - 1) * constants.allreduce_hop_s
        self._link_fixed_s = 2 * model.layers * latency if gpus > 1 else 0.0
        self._link_token_s = 2 * model.layers * reduced / link
        self._least_s = model.layers * constants.least_layer_s
        self._constants = constants
        self._bases: dict[int, StepTime] = {}

    def time(self, step: Step) -> StepTime:
        """Return the parts of a step's time."""
        experts = self._model.experts_touched(step.tokens)
        fixed = self._constants.sequence_s * step.sequences
        return StepTime(
            compute_s=self._token_s * step.tokens
            + self._sequence_compute_s * step.sequences
            + self._pair_s * step.attention_pairs,
            memory_s=self._weights_s + self._expert_s * experts + self._kv_s * step.context_tokens,
            link_s=self._link_fixed_s + self._link_token_s * step.tokens,
            least_s=self._least_s,
            fixed_s=fixed + (self._constants.prefill_s if step.prefill else 0.0),
        )

    def decode_s(self, sequences: int, context_tokens: float) -> float:
        """Return the time of a step in which every sequence gets one token.

        Args:
            sequences: batch size.
            context_tokens: tokens in the KV cache, this step's included, summed over sequences.
        """
        at = self._decode_base(sequences)
        compute = at.compute_s + self._pair_s * context_tokens
        memory = at.memory_s + self._kv_s * context_tokens
        return max(max(compute, memory) + at.link_s, at.least_s) + at.fixed_s

    def decode_times_s(
        self, sequences: int, context_tokens: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return :meth:`decode_s` for each of several context sizes, [k] to [k]."""
        at = self._decode_base(sequences)
        compute = at.compute_s + self._pair_s * context_tokens
        memory = at.memory_s + self._kv_s * context_tokens
        device = np.maximum(compute, memory) + at.link_s
        times: npt.NDArray[np.float64] = np.maximum(device, at.least_s) + at.fixed_s
        return times

    def _decode_base(self, sequences: int) -> StepTime:
        """Return what a decode step of so many sequences takes before any context is read."""
        base = self._bases.get(sequences)
        if base is None:
            base = self.time(Step(sequences, sequences, 0, 0, prefill=False))
            self._bases[sequences] = base
        return base
