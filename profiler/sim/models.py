"""Shapes of transformer models: what fixes their weights, their KV cache and their arithmetic.

A shape comes by name (``llama-2-70b``, ``meta-llama/Llama-2-70b-chat-hf``) or from any Hugging
Face ``config.json``.
"""

import difflib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerators import documents
from profiler.errors import ProfilerUsageError


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer.

    Attributes:
        name: as asked for.
        layers, hidden, heads, kv_heads, head_dim, vocab: as in the model's configuration.
        intermediate: width of the MLP; of the shared experts in a mixture of experts (0: none).
        context_tokens: longest sequence that the model was made for.
        dtype: of weights and arithmetic: ``fp16``, ``bf16`` or ``fp8``.
        weight_bits: stored bits per weight; below 16 when quantised.
        tied_embeddings: whether input and output embedding are one matrix.
        qkv_bias: whether the attention projections have biases.
        mlp_matrices: 3 with a gate (SwiGLU), 2 without.
        experts, active_experts: per layer, and per token; 0 for a dense model.
        expert_intermediate: width of one expert.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context_tokens: int
    dtype: str = "bf16"
    weight_bits: float = 16
    tied_embeddings: bool = False
    qkv_bias: bool = False
    mlp_matrices: int = 3
    experts: int = 0
    active_experts: int = 0
    expert_intermediate: int = 0

    @property
    def attention_parameters(self) -> int:
        """Parameters of one layer's attention."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        bias = queries + 2 * keys if self.qkv_bias else 0
        return self.hidden * (2 * queries + 2 * keys) + bias

    @property
    def expert_parameters(self) -> int:
        """Parameters of one expert of one layer."""
        return self.mlp_matrices * self.hidden * self.expert_intermediate

    @property
    def shared_parameters(self) -> int:
        """Parameters of all layers that every token passes: attention, dense MLP, router, norms."""
        mlp = self.mlp_matrices * self.hidden * self.intermediate
        router = self.hidden * self.experts
        return self.layers * (self.attention_parameters + mlp + router + 2 * self.hidden)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of one embedding matrix; the output head has as many."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        embeddings = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        experts = self.layers * self.experts * self.expert_parameters
        return self.shared_parameters + experts + embeddings + self.hidden

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights; embeddings stay at 16 bits when the rest is quantised."""
        embeddings = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        return (self.parameters - embeddings) * self.weight_bits / 8 + 2 * embeddings

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers, at 16 bits."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim

    def experts_touched(self, tokens: float) -> float:
        """Return how many experts of a layer at least one of ``tokens`` tokens is routed to.

        Expected value under even routing: E (1 - (1 - k/E)^n).
        """
        if not self.experts:
            return 0.0
        missed = math.pow(1 - self.active_experts / self.experts, tokens)
        return self.experts * (1 - missed)


def _llama(
    name: str,
    layers: int,
    hidden: int,
    heads: int,
    kv: int,
    mlp: int,
    vocab: int,
    context: int,
    **more: Any,
) -> ModelShape:
    return ModelShape(name, layers, hidden, heads, kv, hidden // heads, mlp, vocab, context, **more)


# Each from the model's config.json on Hugging Face.
_SHAPES = {
    shape.name: shape
    for shape in (
        _llama("llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096, dtype="fp16"),
        _llama("llama-2-13b", 40, 5120, 40, 40, 13824, 32000, 4096, dtype="fp16"),
        _llama("llama-2-70b", 80, 8192, 64, 8, 28672, 32000, 4096, dtype="fp16"),
        _llama("llama-3-8b", 32, 4096, 32, 8, 14336, 128256, 8192),
        _llama("llama-3-70b", 80, 8192, 64, 8, 28672, 128256, 8192),
        _llama("llama-3.1-8b", 32, 4096, 32, 8, 14336, 128256, 131072),
        _llama("llama-3.1-70b", 80, 8192, 64, 8, 28672, 128256, 131072),
        _llama("qwen2.5-7b", 28, 3584, 28, 4, 18944, 152064, 32768, qkv_bias=True),
        _llama("qwen2.5-14b", 48, 5120, 40, 8, 13824, 152064, 32768, qkv_bias=True),
        _llama("qwen2.5-32b", 64, 5120, 40, 8, 27648, 152064, 32768, qkv_bias=True),
        _llama("deepseek-coder-6.7b", 32, 4096, 32, 32, 11008, 32256, 16384),
        _llama("deepseek-coder-7b-v1.5", 30, 4096, 32, 32, 11008, 102400, 4096),
    )
}
# AIBrix serves deepseek-coder-6.7b-instruct under the name deepseek-coder-7b.
_ALIASES = {"deepseek-coder-7b": "deepseek-coder-6.7b"}


def names() -> list[str]:
    """Return the names of all built-in shapes, aliases included."""
    return sorted({*_SHAPES, *_ALIASES})


def load_shape(model: str) -> ModelShape:
    """Return the shape of a model given by name, or by a path to a ``config.json`` or its folder.

    Raises:
        UsageError: an unknown name (with the nearest), or a configuration without a key that is
            needed or of a kind that is not modelled.
    """
    path = Path(model)
    if path.is_dir():
        path /= "config.json"
    if path.suffix == ".json":
        from profiler.sim.model_config import shape_of

        return shape_of(documents.read_json(path), str(path))
    key = _plain(model)
    shape = _SHAPES.get(_ALIASES.get(key, key))
    if shape is None:
        near = difflib.get_close_matches(key, names(), n=3, cutoff=0.5)
        suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ProfilerUsageError(
            "model.unknown",
            f"no shape of model {model!r} is built in{suggestion}",
            hint=f"give a path to its config.json, or one of: {', '.join(names())}",
            target=model,
        )
    return replace(shape, name=model)


def _plain(model: str) -> str:
    """Return a model's name without owner, tuning and release words, in our spelling."""
    name = model.rsplit("/", 1)[-1].lower().replace("_", "-").removeprefix("meta-")
    name = re.sub(r"-(instruct|chat|base|hf|it)(?=-|$)", "", name)
    return re.sub(r"^llama(\d)", r"llama-\1", name)
