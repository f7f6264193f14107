"""One replica: a model on one or more accelerators, and the memory it has to work with."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelerators.catalog import Accelerator
from accelerators.units import format_bytes
from profiler.errors import ProfilerUsageError
from profiler.sim.models import ModelShape, load_shape

BLOCK_TOKENS = 16
_GIB = 2**30
# Below this the driver, the communication library and the framework keep no less for themselves.
_RUNTIME_BYTES = 0.6 * _GIB
_PCIE_GB_PER_LANE = {3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}


@dataclass(frozen=True)
class Memory:
    """What one accelerator of a replica holds, in bytes.

    Attributes:
        total: as the driver reports.
        weights: its shard.
        activations: peak of one step with ``max_num_batched_tokens``, and the runtime's own.
        kv_cache: what is left of ``gpu_memory_utilization`` for keys and values; may be negative.
    """

    total: float
    weights: float
    activations: float
    kv_cache: float

    @property
    def fits(self) -> bool:
        """Whether any room is left for keys and values."""
        return self.kv_cache > 0


@dataclass(frozen=True)
class Replica:
    """A model on accelerators, with the engine's limits; defaults are vLLM's.

    Attributes:
        accelerator: type of every accelerator.
        gpus: how many, tensor parallel.
        model: shape of the model.
        max_num_seqs: requests that run at once.
        max_num_batched_tokens: tokens of one step.
        max_model_len: longest sequence served, tokens.
        gpu_memory_utilization: share of memory the engine may take.
    """

    accelerator: Accelerator
    gpus: int
    model: ModelShape
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    gpu_memory_utilization: float = 0.9

    @property
    def flops(self) -> float:
        """Dense operations/s of one accelerator in the model's arithmetic.

        An accelerator without the dtype computes at its 16-bit rate, as engines do.
        """
        rates = self.accelerator.flops
        return rates.get(self.model.dtype) or rates.get("bf16") or rates["fp16"]

    @property
    def link_bytes_per_s(self) -> float:
        """One-direction bandwidth between the accelerators; infinite for a single one."""
        if self.gpus == 1:
            return math.inf
        return one_direction_bytes_per_s(self.accelerator, self.gpus)

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes that one token's keys and values take on each accelerator.

        With more accelerators than KV heads each head is kept more than once.
        """
        shards = min(self.gpus, self.model.kv_heads)
        return self.model.kv_bytes_per_token / shards

    @cached_property
    def memory(self) -> Memory:
        """What one accelerator holds."""
        total = float(self.accelerator.memory_bytes)
        weights = self.model.weight_bytes / self.gpus
        step = activation_bytes(
            self.model, self.gpus, self.max_num_batched_tokens, self.max_num_seqs
        )
        kept = step + _RUNTIME_BYTES
        budget = total * self.gpu_memory_utilization
        return Memory(total, weights, kept, budget - weights - kept)

    @cached_property
    def kv_blocks(self) -> int:
        """Blocks of BLOCK_TOKENS tokens that the KV cache holds; 0 when nothing is left."""
        return max(0, int(self.memory.kv_cache // (self.kv_bytes_per_token * BLOCK_TOKENS)))

    def refuses(self, input_tokens: int, output_tokens: int) -> bool:
        """Return whether a request is longer than the replica can ever serve."""
        needed = input_tokens + output_tokens
        return needed > self.max_model_len or blocks_of(needed - 1) > self.kv_blocks

    def to_json(self) -> dict[str, Any]:
        """Return what defines the replica and its memory."""
        memory = self.memory
        return {
            "accelerator": self.accelerator.name,
            "gpus": self.gpus,
            "model": self.model.name,
            "parameters": self.model.parameters,
            "dtype": self.model.dtype,
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "max_model_len": self.max_model_len,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "memory_per_gpu_bytes": round(memory.total),
            "weights_per_gpu_bytes": round(memory.weights),
            "activations_per_gpu_bytes": round(memory.activations),
            "kv_cache_per_gpu_bytes": max(0, round(memory.kv_cache)),
            "kv_cache_tokens": self.kv_blocks * BLOCK_TOKENS,
            "fits": memory.fits,
        }


def blocks_of(tokens: int) -> int:
    """Return the KV blocks that hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)


def activation_bytes(model: ModelShape, gpus: int, tokens: int, seqs: int) -> float:
    """Return the peak of a step's temporary memory on one accelerator.

    Residual stream, attention and MLP of one layer at 16 bits for every token of the step, and
    logits at 32 bits for every sequence.
    """
    attention = 3 * model.heads * model.head_dim / gpus
    mlp = 2 * max(model.intermediate, model.active_experts * model.expert_intermediate) / gpus
    logits = 4 * min(seqs, tokens) * model.vocab / gpus
    return 2 * tokens * (3 * model.hidden + attention + mlp) + logits


def one_direction_bytes_per_s(accelerator: Accelerator, gpus: int) -> float:
    """Return the bandwidth of the way between ``gpus`` accelerators, one direction.

    A bridge joins two boards only; more of them meet over PCIe.

    Raises:
        ProfilerUsageError: neither a link nor PCIe is known.
    """
    bridge = accelerator.link is not None and "bridge" in accelerator.link
    if accelerator.link_bytes_per_s is not None and (gpus == 2 or not bridge):
        return accelerator.link_bytes_per_s / 2
    lane = _PCIE_GB_PER_LANE.get(accelerator.pcie_generation or 0)
    if lane is None or accelerator.pcie_width is None:
        raise ProfilerUsageError(
            "sim.no_link",
            f"{accelerator.name} has no figure for its link or PCIe, so {gpus} can't be joined",
            hint="add link_gb_per_s to a file of accelerators, or use one",
            target=accelerator.name,
        )
    return lane * accelerator.pcie_width


def make_replica(
    accelerator: Accelerator,
    model: str | ModelShape,
    *,
    gpus: int = 1,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float = 0.9,
    must_fit: bool = True,
) -> Replica:
    """Return a replica with vLLM's defaults for what is not given.

    Args:
        accelerator: type of every accelerator.
        model: shape, name or path (see :func:`profiler.sim.models.load_shape`).
        gpus: tensor-parallel size.
        max_num_seqs: 256, or 1024 on accelerators from 70 GiB other than the A100.
        max_num_batched_tokens: 2048, or 8192 on those.
        max_model_len: the model's context; what the KV cache can't hold is refused all the same.
        gpu_memory_utilization: share of memory the engine may take.
        must_fit: refuse a model that leaves no room for the KV cache.

    Raises:
        UsageError: an unknown model, a shape that can't be split, no room, or a longer sequence
            than the model was made for.
    """
    shape = load_shape(model) if isinstance(model, str) else model
    if gpus < 1 or shape.heads % gpus:
        raise ProfilerUsageError(
            "sim.gpus",
            f"{shape.name} has {shape.heads} attention heads; {gpus} GPUs can't share them evenly",
            hint=f"use a divisor of {shape.heads}",
        )
    if max_model_len is not None and max_model_len > shape.context_tokens:
        raise ProfilerUsageError(
            "sim.max_model_len",
            f"max_model_len is {max_model_len}, but {shape.name} was made for sequences of at "
            f"most {shape.context_tokens} tokens",
        )
    large = accelerator.memory_bytes >= 70 * _GIB and "a100" not in accelerator.name
    replica = Replica(
        accelerator,
        gpus,
        shape,
        max_num_seqs or (1024 if large else 256),
        max_num_batched_tokens or (8192 if large else 2048),
        max_model_len or shape.context_tokens,
        gpu_memory_utilization,
    )
    replica.link_bytes_per_s  # noqa: B018 - refuse now what can't be joined
    if must_fit and not replica.kv_blocks:
        raise _too_large(replica)
    return replica


def _too_large(replica: Replica) -> ProfilerUsageError:
    memory, model = replica.memory, replica.model
    need = (memory.weights + memory.activations) / replica.gpu_memory_utilization
    room = memory.total * replica.gpu_memory_utilization - memory.activations
    enough = [n for n in (1, 2, 4, 8, 16) if model.heads % n == 0 and model.weight_bytes / n < room]
    return ProfilerUsageError(
        "sim.does_not_fit",
        f"{model.name} does not fit on {replica.gpus} x {replica.accelerator.name}: "
        f"{format_bytes(memory.weights)} of weights and {format_bytes(memory.activations)} of "
        f"activations per GPU need {format_bytes(need)} of {format_bytes(memory.total)}",
        hint=f"{enough[0]} GPUs would do" if enough else "use a larger accelerator",
        target=replica.accelerator.name,
    )
