"""Read a model's shape from a Hugging Face ``config.json``, whichever names its family uses."""

from collections.abc import Mapping
from typing import Any

from profiler.errors import ProfilerUsageError
from profiler.sim.models import ModelShape, names

Config = Mapping[str, Any]

_HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim")
_INTERMEDIATE = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_VOCAB = ("vocab_size", "padded_vocab_size")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
# Two matrices in the MLP, and four times the hidden size where its width is not given.
_UNGATED = {
    "bloom",
    "codegen",
    "falcon",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "mpt",
    "opt",
    "phi",
    "starcoder2",
}
# Their classes tie both embeddings unless the configuration says otherwise.
_TIED = {
    "bloom",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "mpt",
    "opt",
}
_ENCODERS = {"albert", "bert", "clip", "deberta-v2", "distilbert", "roberta", "vit", "xlm-roberta"}
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "bf16"}
_BITS = {"mxfp4": 4.25, "fp8": 8, "fbgemm_fp8": 8}


def shape_of(body: Any, source: str) -> ModelShape:
    """Return the shape that a parsed ``config.json`` describes.

    Args:
        body: the parsed file; of a model with several parts, the text part is taken.
        source: names it in errors.

    Raises:
        ProfilerUsageError: a key that is needed is missing or absurd, or the model is of a kind
            that is not modelled.
    """
    if not isinstance(body, dict):
        raise _refuse(source, "is not a model configuration: expected a JSON object")
    inner = body.get("text_config")
    config: Config = {**body, **inner} if isinstance(inner, dict) else body
    _check_kind(config, source)
    hidden, heads = _needed(config, _HIDDEN, source), _needed(config, _HEADS, source)
    ungated = config.get("model_type") in _UNGATED
    experts = _whole(config, _EXPERTS, source) or 0
    intermediate = _intermediate(config, hidden, source, ungated=ungated)
    expert_width = (
        (_whole(config, ("moe_intermediate_size",), source) or intermediate) if experts else 0
    )
    active = _whole(config, ("num_experts_per_tok", "num_experts_per_token"), source)
    dtype, bits = _precision(config, source)
    tied = config.get("tie_word_embeddings", config.get("model_type") in _TIED)
    return ModelShape(
        name=str(body.get("_name_or_path") or source),
        layers=_needed(config, _LAYERS, source),
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, heads, source),
        head_dim=_whole(config, _HEAD_DIM, source) or max(hidden // heads, 1),
        intermediate=_shared_width(config, expert_width, source) if experts else intermediate,
        vocab=_needed(config, _VOCAB, source),
        context_tokens=_whole(config, _CONTEXT, source) or 2048,
        dtype=dtype,
        weight_bits=bits,
        tied_embeddings=bool(tied),
        qkv_bias=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
        mlp_matrices=2 if ungated else 3,
        experts=experts,
        active_experts=min(active or 1, experts) if experts else 0,
        expert_intermediate=expert_width,
    )


def _refuse(source: str, problem: str) -> ProfilerUsageError:
    return ProfilerUsageError(
        "model.config",
        f"{source} {problem}",
        hint=f"use the config.json of a decoder-only model, or one of: {', '.join(names())}",
        target=source,
    )


def _check_kind(config: Config, source: str) -> None:
    if config.get("kv_lora_rank"):
        raise _refuse(source, "uses multi-head latent attention, which is not modelled")
    if config.get("is_encoder_decoder") or config.get("model_type") in _ENCODERS:
        raise _refuse(source, f"is of type {config.get('model_type')!r}, not a decoder-only model")


def _whole(config: Config, keys: tuple[str, ...], source: str) -> int | None:
    """Return the first of several keys that is there, a whole number above 0; None without."""
    for key in keys:
        value = config.get(key)
        if value is None or value == 0:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**9:
            raise _refuse(source, f"has {key} = {value!r}; expected a whole number above 0")
        return value
    return None


def _needed(config: Config, keys: tuple[str, ...], source: str) -> int:
    value = _whole(config, keys, source)
    if value is None:
        found = next((f"{key} = {config[key]!r}" for key in keys if key in config), None)
        raise _refuse(source, f"has {found or f'no {keys[0]}'}; expected a whole number above 0")
    return value


def _intermediate(config: Config, hidden: int, source: str, *, ungated: bool) -> int:
    if not ungated:
        return _needed(config, _INTERMEDIATE, source)
    ratio = _whole(config, ("expansion_ratio",), source) or 4
    return _whole(config, _INTERMEDIATE, source) or ratio * hidden


def _kv_heads(config: Config, heads: int, source: str) -> int:
    """Return the KV heads; Falcon-7B, GPTBigCode and MPT have other words for them."""
    grouped = config.get("new_decoder_architecture") or config.get("model_type") == "chatglm"
    if config.get("multi_query") and not grouped:
        return 1
    attention = config.get("attn_config")
    nested = _whole(attention, ("kv_n_heads",), source) if isinstance(attention, dict) else None
    return nested or _whole(config, _KV_HEADS, source) or heads


def _shared_width(config: Config, expert_width: int, source: str) -> int:
    given = _whole(config, ("shared_expert_intermediate_size",), source)
    return given or (_whole(config, ("n_shared_experts",), source) or 0) * expert_width


def _precision(config: Config, source: str) -> tuple[str, float]:
    """Return the dtype of the arithmetic and the bits of a stored weight."""
    dtype = _DTYPES.get(str(config.get("torch_dtype") or config.get("dtype")), "bf16")
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        return dtype, 16
    bits = _bits(quantised, source)
    method = str(quantised.get("quant_method"))
    if bits is None:
        raise _refuse(source, f"is quantised by {method!r} to an unknown number of bits")
    return ("fp8" if "fp8" in method else dtype), bits


def _bits(quantised: Config, source: str) -> float | None:
    """Return the bits of a weight in the words of each method; None where none is known."""
    named = _BITS.get(str(quantised.get("quant_method")))
    if named:
        return named
    for flag, bits in (("load_in_4bit", 4), ("load_in_8bit", 8)):
        if quantised.get(flag):
            return bits
    groups = quantised.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            return _whole(weights, ("num_bits",), source)
    return _whole(quantised, ("bits", "w_bit"), source)
