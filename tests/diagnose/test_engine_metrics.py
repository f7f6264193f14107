"""Expositions as vLLM and SGLang write them, old and new, shortened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.engine.metrics import Scrape, read_scrape, since_restart

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a\\"b"} 3.0
vllm:num_requests_running{engine="1",model_name="a\\"b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a\\"b"} 4.0
vllm:num_requests_waiting{engine="1",model_name="a\\"b"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a\\"b",reason="capacity"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="a\\"b"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="a\\"b"} 0.9
vllm:generation_tokens_total{engine="0",model_name="a\\"b"} 100.0
vllm:generation_tokens_total{engine="1",model_name="a\\"b"} 50.0
vllm:generation_tokens_created{engine="0",model_name="a\\"b"} 1.7e+09
vllm:iteration_tokens_total_count{engine="0",model_name="a\\"b"} 40.0
vllm:num_preemptions_total{engine="0",model_name="a\\"b"} 7.0
vllm:prefix_cache_queries_total{engine="0",model_name="a\\"b"} 1000.0
vllm:prefix_cache_hits_total{engine="0",model_name="a\\"b"} 600.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="a\\"b"} 10.0
vllm:request_success_total{engine="0",finished_reason="error",model_name="a\\"b"} 1.0
vllm:engine_sleep_state{engine="0",model_name="a\\"b",sleep_state="awake"} 1.0
http_requests_total{handler="/v1/completions",method="POST",status="5xx"} 3.0
http_requests_total{handler="/health",method="GET",status="5xx"} 9.0
process_start_time_seconds 1.7e+09
"""
OLD_VLLM = """\
vllm:num_requests_running{model_name="m"} 1.0
vllm:num_requests_swapped{model_name="m"} 2.0
vllm:num_requests_waiting{model_name="m"} 3.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:generation_tokens_total{model_name="m"} 5.0
"""
SGLANG = """\
sglang:num_running_reqs{dp_rank="0",model_name="m",tp_rank="0"} 4.0
sglang:num_running_reqs{dp_rank="0",model_name="m",tp_rank="1"} 4.0
sglang:num_running_reqs{dp_rank="1",model_name="m",tp_rank="0"} 1.0
sglang:num_queue_reqs{dp_rank="0",model_name="m",tp_rank="0"} 6.0
sglang:token_usage{dp_rank="0",model_name="m",tp_rank="0"} 0.97
sglang:gen_throughput{dp_rank="0",model_name="m",tp_rank="0"} 812.5
sglang:generation_tokens_total{model_name="m"} 70.0
sglang:prompt_tokens_total{model_name="m"} 900.0
sglang:cached_tokens_total{cache_source="device",model_name="m"} 300.0
sglang:inter_token_latency_seconds_count{model_name="m"} 69.0
sglang:num_requests_total{model_name="m"} 12.0
sglang:num_retracted_requests_total{dp_rank="0",model_name="m"} 2.0
"""


def read(text: str) -> Scrape:
    found = read_scrape(text, 1.0)
    assert found is not None
    return found


def test_vllm_has_its_ranks_apart_and_its_counters_together() -> None:
    scrape = read(VLLM)
    assert scrape.engine == "vllm"
    assert [(rank.running, rank.waiting) for rank in scrape.ranks] == [(3, 4), (2, 0)]
    assert (scrape.running, scrape.waiting, scrape.kv_usage) == (5, 4, 0.9)
    assert scrape.progress == {"generation_tokens_total": 150, "iteration_tokens_total_count": 40}
    assert (scrape.preemptions, scrape.ended) == (7, 11)
    assert (scrape.cache_queries, scrape.cache_hits) == (1000, 600)
    assert scrape.errors == 3  # of the API; the scheduler counted one of them
    assert (scrape.asleep, scrape.simulated) == (False, False)


def test_old_names_of_vllm_are_known() -> None:
    scrape = read(OLD_VLLM)
    assert (scrape.running, scrape.waiting, scrape.kv_usage) == (1, 5, 0.25)
    assert (scrape.errors, scrape.preemptions) == (None, None)


def test_sglang_repeats_itself_per_tensor_parallel_rank_and_is_counted_once() -> None:
    scrape = read(SGLANG)
    assert scrape.engine == "sglang"
    assert (scrape.running, scrape.waiting, scrape.kv_usage) == (5, 6, 0.97)
    assert scrape.progress["inter_token_latency_seconds_count"] == 69
    assert (scrape.preemptions, scrape.ended) == (2, 12)
    assert (scrape.cache_queries, scrape.cache_hits) == (900, 300)


def test_names_that_ray_rewrote_are_known() -> None:
    assert read(OLD_VLLM.replace("vllm:", "ray_vllm_")).running == 1


def test_a_sleeping_engine_says_so() -> None:
    assert read(VLLM.replace('"awake"} 1.0', '"awake"} 0.0')).asleep


@pytest.mark.parametrize("text", ["", "<html>no metrics</html>", "up 1\n", "vllm:x{ nan\n"])
def test_what_is_of_neither_engine_is_nothing(text: str) -> None:
    assert read_scrape(text, 0) is None


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    read_scrape(text, 0)
    read_scrape(VLLM + text, 0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_since_a_restart_counters_never_fall(tokens: list[int]) -> None:
    scrapes = tuple(
        Scrape("vllm", float(at), (), {"generation_tokens_total": value})
        for at, value in enumerate(tokens)
    )
    kept = [scrape.progress["generation_tokens_total"] for scrape in since_restart(scrapes)]
    assert kept == sorted(kept)
    assert kept == tokens[-len(kept) :]
    before = tokens[: -len(kept)]
    assert not before or before[-1] > kept[0]


def test_another_start_of_the_process_is_a_restart_too() -> None:
    scrapes = tuple(Scrape("vllm", at, (), started_at_s=at) for at in (1.0, 2.0))
    assert since_restart(scrapes) == scrapes[1:]
