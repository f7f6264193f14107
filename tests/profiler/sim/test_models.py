import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import UsageError
from profiler.sim.models import load_shape, names

LLAMA_2_7B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vocab_size": 32000,
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen2.5-14b", 14_770_033_664),
        ("qwen2.5-32b", 32_763_876_352),
        ("deepseek-coder-6.7b", 6_740_512_768),
    ],
)
def test_parameters_are_those_that_the_publisher_counts(name: str, parameters: int) -> None:
    """The counts are those of the published safetensors files."""
    assert load_shape(name).parameters == parameters


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("meta-llama/Llama-2-70b-chat-hf", "llama-2-70b"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("llama2-7b", "llama-2-7b"),
        ("Qwen/Qwen2.5-14B-Instruct", "qwen2.5-14b"),
        ("deepseek-ai/deepseek-coder-6.7b-base", "deepseek-coder-6.7b"),
        ("deepseek-coder-7b", "deepseek-coder-6.7b"),
        ("deepseek-ai/deepseek-coder-7b-instruct-v1.5", "deepseek-coder-7b-v1.5"),
    ],
)
def test_published_names_find_their_shape(spelled: str, plain: str) -> None:
    found = load_shape(spelled)
    assert found == replace(load_shape(plain), name=spelled)


@given(st.sampled_from(names()))
def test_kv_bytes_are_two_matrices_of_two_bytes(name: str) -> None:
    shape = load_shape(name)
    assert shape.kv_bytes_per_token == 4 * shape.layers * shape.kv_heads * shape.head_dim
    assert shape.weight_bytes == 2 * shape.parameters


def test_an_unknown_name_gets_suggestions() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*llama-2-7b"):
        load_shape("llama-2-8b")


def test_a_config_gives_the_shape_of_the_name(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B))
    named = load_shape("llama-2-7b")
    assert replace(load_shape(str(tmp_path)), name=named.name) == named
    assert replace(load_shape(str(tmp_path / "config.json")), name=named.name) == named


def test_a_mixture_of_experts_counts_all_weights_and_reads_some(tmp_path) -> None:
    """Mixtral 8x7B has 46.7 billion parameters, of which a token uses 12.9 billion."""
    config = LLAMA_2_7B | {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = load_shape(str(tmp_path))
    assert shape.parameters == pytest.approx(46.7e9, rel=0.002)
    active = shape.shared_parameters + shape.layers * 2 * shape.expert_parameters
    assert active + 2 * shape.embedding_parameters == pytest.approx(12.9e9, rel=0.005)
    assert shape.experts_touched(1) == pytest.approx(2)
    assert 7.9 < shape.experts_touched(32) < 8


def test_quantised_weights_are_smaller(tmp_path) -> None:
    sizes = []
    for method in (
        None,
        {"quant_method": "fp8"},
        {"quant_method": "awq", "bits": 4},
    ):
        (tmp_path / "config.json").write_text(
            json.dumps(LLAMA_2_7B | {"quantization_config": method})
        )
        sizes.append(load_shape(str(tmp_path)).weight_bytes)
    assert sizes[0] > 1.8 * sizes[1] > 3 * sizes[2]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"kv_lora_rank": 512}, "latent attention"),
    ],
)
def test_a_config_that_cannot_be_modelled_is_refused(tmp_path, change, named: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B | change))
    with pytest.raises(UsageError, match=named):
        load_shape(str(tmp_path))


def test_a_config_that_is_no_object_is_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UsageError, match="JSON object"):
        load_shape(str(tmp_path))


# What each family's own configuration says, and the parameters that its publisher counts.
FAMILIES = {
    "gpt2": (
        {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024}
        | {"n_inner": None, "vocab_size": 50257},
        124e6,
    ),
    "opt-6.7b": (
        {"model_type": "opt", "hidden_size": 4096, "num_attention_heads": 32, "ffn_dim": 16384}
        | {"num_hidden_layers": 32, "vocab_size": 50272, "max_position_embeddings": 2048},
        6.66e9,
    ),
    "bloom-7b1": (
        {"model_type": "bloom", "hidden_size": 4096, "n_head": 32, "n_layer": 30}
        | {"vocab_size": 250880},
        7.07e9,
    ),
    "falcon-7b": (
        {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71}
        | {"num_hidden_layers": 32, "vocab_size": 65024, "multi_query": True},
        6.92e9,
    ),
    "mpt-7b": (
        {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32}
        | {"expansion_ratio": 4, "vocab_size": 50432, "max_seq_len": 2048},
        6.65e9,
    ),
    "chatglm3-6b": (
        {"model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32}
        | {"num_layers": 28, "ffn_hidden_size": 13696, "padded_vocab_size": 65024}
        | {"multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 128},
        6.24e9,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_have_other_words_for_the_same(tmp_path, family: str) -> None:
    config, parameters = FAMILIES[family]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_shape(str(tmp_path)).parameters == pytest.approx(parameters, rel=0.01)


def test_falcons_one_kv_head_is_one(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FAMILIES["falcon-7b"][0]))
    assert load_shape(str(tmp_path)).kv_heads == 1


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4),
        ({"quant_method": "mxfp4"}, 4.25),
        (
            {"quant_method": "compressed-tensors"}
            | {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}},
            8,
        ),
    ],
)
def test_bits_are_found_in_the_words_of_each_method(tmp_path, method, bits: float) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B | {"quantization_config": method}))
    assert load_shape(str(tmp_path)).weight_bits == bits


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_key_value_heads": "x"}, "num_key_value_heads"),
        ({"num_key_value_heads": [8]}, "num_key_value_heads"),
        ({"num_key_value_heads": -8}, "num_key_value_heads"),
        ({"num_key_value_heads": 7.5}, "num_key_value_heads"),
        ({"head_dim": "wide"}, "head_dim"),
        ({"max_position_embeddings": "long"}, "max_position_embeddings"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"num_local_experts": "many"}, "num_local_experts"),
        ({"quantization_config": {"quant_method": "gptq", "bits": "four"}}, "bits"),
        ({"quantization_config": {"quant_method": "novel"}}, "unknown number of bits"),
        ({"model_type": "bert"}, "decoder-only"),
        ({"is_encoder_decoder": True, "model_type": "t5"}, "decoder-only"),
    ],
)
def test_absurd_figures_are_refused_by_name(tmp_path, change, named: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B | change))
    with pytest.raises(UsageError, match=named):
        load_shape(str(tmp_path))
