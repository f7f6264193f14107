"""Shapes of transformer models: what fixes their weights, their KV cache and their arithmetic.

A shape comes by name (``llama-2-70b``, ``meta-llama/Llama-2-70b-chat-hf``) or from any Hugging
Face ``config.json``.
"""

import difflib
import math
import re
from collections.abc import Mapping
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
_UNGATED = {"bloom", "falcon", "gpt2", "gpt_neox", "gptj", "mpt", "opt", "phi", "starcoder2"}
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "bf16"}


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
        return _from_config(documents.read_json(path), str(path))
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


def _from_config(body: Any, source: str) -> ModelShape:
    if not isinstance(body, dict):
        raise _refuse(source, "is not a model configuration: expected a JSON object")
    inner = body.get("text_config")
    config = {**body, **inner} if isinstance(inner, dict) else body
    if config.get("kv_lora_rank"):
        raise _refuse(source, "uses multi-head latent attention, which is not modelled")
    hidden, heads = (
        _integer(config, "hidden_size", source),
        _integer(config, "num_attention_heads", source),
    )
    experts = _first(config, "num_local_experts", "num_experts", "n_routed_experts")
    intermediate = _integer(config, "intermediate_size", source)
    expert_width = int(config.get("moe_intermediate_size") or intermediate) if experts else 0
    dtype, bits = _precision(config)
    return ModelShape(
        name=str(body.get("_name_or_path") or source),
        layers=_integer(config, "num_hidden_layers", source),
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        intermediate=_shared_width(config, expert_width) if experts else intermediate,
        vocab=_integer(config, "vocab_size", source),
        context_tokens=int(config.get("max_position_embeddings") or 2048),
        dtype=dtype,
        weight_bits=bits,
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
        mlp_matrices=2 if config.get("model_type") in _UNGATED else 3,
        experts=experts,
        active_experts=_first(config, "num_experts_per_tok") or (1 if experts else 0),
        expert_intermediate=expert_width,
    )


def _refuse(source: str, problem: str) -> ProfilerUsageError:
    return ProfilerUsageError(
        "model.config",
        f"{source} {problem}",
        hint=f"use the config.json of a decoder-only model, or one of: {', '.join(names())}",
        target=source,
    )


def _integer(config: Mapping[str, Any], key: str, source: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise _refuse(source, f"has {key} = {value!r}; expected a whole number above 0")
    return value


def _first(config: Mapping[str, Any], *keys: str) -> int:
    return next((int(config[key]) for key in keys if config.get(key)), 0)


def _shared_width(config: Mapping[str, Any], expert_width: int) -> int:
    given = config.get("shared_expert_intermediate_size")
    return int(given or (config.get("n_shared_experts") or 0) * expert_width)


def _precision(config: Mapping[str, Any]) -> tuple[str, float]:
    """Return the dtype of the arithmetic and the bits of a stored weight."""
    dtype = _DTYPES.get(str(config.get("torch_dtype") or config.get("dtype")), "bf16")
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        return dtype, 16
    if quantised.get("quant_method") == "fp8":
        return "fp8", 8
    return dtype, float(quantised.get("bits") or 16)
