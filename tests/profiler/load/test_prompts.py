import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from profiler.load.address import parse_url
from profiler.load.config import LoadConfig
from profiler.load.prompts import PromptMaker

ADDRESS = parse_url("http://127.0.0.1:8000/v1/")
BASE = LoadConfig("http://127.0.0.1:8000", "m", 40, 7, request_rate=1)


@given(st.integers(1, 20_000), st.integers(0, 3), st.integers(-4, 10_000))
def test_a_prompt_has_its_number_of_words(words, seed, index) -> None:
    maker = PromptMaker(replace(BASE, input_tokens=40, seed=seed), ADDRESS)
    maker.words = words
    assert len(maker.prompt(index).split(" ")) == words


def test_prompts_of_a_run_and_of_other_runs_differ_in_their_first_words() -> None:
    heads = set()
    for changes in ({}, {"seed": 1}, {"salt": "a"}):
        maker = PromptMaker(replace(BASE, **changes), ADDRESS)
        heads |= {tuple(maker.prompt(index).split()[:8]) for index in range(-4, 200)}
    assert len(heads) == 3 * 204


def test_a_request_is_one_http_message() -> None:
    config = replace(BASE, token="sesame", extra_body={"top_k": 1, "temperature": 0.5})
    head, _, body = PromptMaker(config, ADDRESS).request(3).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/completions HTTP/1.1"
    assert "Host: 127.0.0.1:8000" in lines
    assert "Authorization: Bearer sesame" in lines
    assert f"Content-Length: {len(body)}" in lines
    fields = json.loads(body)
    assert (fields["model"], fields["max_tokens"], fields["stream"]) == ("m", 7, True)
    assert (fields["top_k"], fields["temperature"]) == (1, 0.5)


def test_a_probe_asks_for_one_token_of_the_same_shape() -> None:
    maker = PromptMaker(replace(BASE, endpoint="/v1/chat/completions"), ADDRESS)
    body = json.loads(maker.request(-1).partition(b"\r\n\r\n")[2])
    assert (body["max_tokens"], body["min_tokens"]) == (1, 1)
    assert len(body["messages"][0]["content"].split()) == 40
