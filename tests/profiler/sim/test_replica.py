import pytest

from accelerators.errors import UsageError
from accelerators.names import resolve
from profiler.sim.replica import blocks_of, make_replica, one_direction_bytes_per_s


def test_memory_adds_up_to_what_the_engine_may_take() -> None:
    replica = make_replica(resolve("a10"), "llama-2-7b")
    memory = replica.memory
    assert memory.weights + memory.activations + memory.kv_cache == pytest.approx(
        0.9 * memory.total
    )
    assert 0 <= memory.kv_cache - replica.kv_blocks * 16 * replica.kv_bytes_per_token < 16 * 524288


def test_tensor_parallel_splits_weights_and_cache() -> None:
    one = make_replica(resolve("a100-80g"), "llama-2-13b", gpus=1)
    two = make_replica(resolve("a100-80g"), "llama-2-13b", gpus=2)
    assert two.memory.weights == one.memory.weights / 2
    assert two.kv_bytes_per_token == one.kv_bytes_per_token / 2
    assert two.kv_blocks > 2 * one.kv_blocks


def test_more_gpus_than_kv_heads_repeat_the_heads() -> None:
    four = make_replica(resolve("a100-80g"), "qwen2.5-7b", gpus=4)
    twenty_eight = make_replica(resolve("a100-80g"), "qwen2.5-7b", gpus=28)
    assert twenty_eight.kv_bytes_per_token == four.kv_bytes_per_token


def test_what_does_not_fit_is_refused_with_what_would_do() -> None:
    with pytest.raises(UsageError, match="does not fit on 1 x a100-80g-sxm") as caught:
        make_replica(resolve("a100-80g"), "llama-2-70b")
    assert caught.value.hint == "2 GPUs would do"
    assert make_replica(resolve("a100-80g"), "llama-2-70b", gpus=2).kv_blocks > 0


def test_heads_must_divide() -> None:
    with pytest.raises(UsageError, match="28 attention heads; 8 GPUs"):
        make_replica(resolve("a100-80g"), "qwen2.5-7b", gpus=8)


def test_a_bridge_joins_two_boards_and_more_meet_over_pcie() -> None:
    bridged, switched = resolve("a100-80g-pcie"), resolve("a100-80g-sxm")
    assert one_direction_bytes_per_s(bridged, 2) == 300e9
    assert one_direction_bytes_per_s(bridged, 4) == pytest.approx(31.5e9, rel=0.01)
    assert one_direction_bytes_per_s(switched, 4) == 300e9


def test_limits_are_those_vllm_takes_by_itself() -> None:
    small = make_replica(resolve("a100-80g"), "llama-2-7b")
    large = make_replica(resolve("h100"), "llama-2-7b")
    assert (small.max_num_batched_tokens, small.max_num_seqs) == (2048, 256)
    assert (large.max_num_batched_tokens, large.max_num_seqs) == (8192, 1024)


def test_a_request_is_refused_exactly_beyond_the_context() -> None:
    replica = make_replica(resolve("a100-80g"), "llama-2-7b")
    assert not replica.refuses(4000, 96)
    assert replica.refuses(4000, 97)


def test_a_sequence_may_be_limited_but_not_longer_than_the_model_knows() -> None:
    assert make_replica(resolve("a10"), "llama-2-7b", max_model_len=100).refuses(50, 51)
    with pytest.raises(UsageError, match="at most 4096 tokens"):
        make_replica(resolve("a10"), "llama-2-7b", max_model_len=4097)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_blocks_round_up(tokens: int, blocks: int) -> None:
    assert blocks_of(tokens) == blocks
