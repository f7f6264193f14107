"""What the simulator serves under vLLM's names and shapes, beside what a real vLLM serves."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from accelerators.names import resolve
from profiler.sim.replica import make_replica

from ..profiler.sim.test_server import Server, running
from .vllm_server import LONGEST, MODEL, Vllm, requires_vllm

pytestmark = requires_vllm
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
# Served by vLLM until some releases ago; the simulator keeps it for those who ask for it.
OLDER = {"vllm:time_per_output_token_seconds"}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Server]:
    replica = make_replica(resolve("a10"), "llama-2-7b", max_model_len=LONGEST)
    with running(model=MODEL, replica=replica) as server:
        yield server


def families(text: str) -> dict[str, Any]:
    """Return of each metric of vLLM its kind, the names of its labels, and its bounds."""
    found: dict[str, Any] = {}
    for name, kind in re.findall(r"^# TYPE (vllm:\S+) (\S+)$", text, re.MULTILINE):
        lines = re.findall(rf"^{name}(?:_bucket)?{{(.*)}} ", text, re.MULTILINE)
        labels = {tuple(sorted(re.findall(r'(\w+)="', line))) for line in lines}
        bounds = [float(bound) for bound in re.findall(r'le="([^"]*)"', " ".join(lines))]
        reasons = sorted(re.findall(r'finished_reason="(\w+)"', " ".join(lines)))
        found[name] = (kind, labels, bounds, reasons)
    return found


def test_metrics_have_vllm_s_names_kinds_labels_and_bounds(vllm: Vllm, simulator: Server) -> None:
    ours = families(simulator.ask("GET", "/metrics")[1].decode())
    theirs = families(vllm.ask("GET", "/metrics")[1].decode())
    assert len(ours) > 10
    assert {name: theirs.get(name) for name in ours if name not in OLDER} == {
        name: family for name, family in ours.items() if name not in OLDER
    }


def asked(endpoint: str, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"prompt": "one two three"}
    if endpoint == CHAT:
        said = {"messages": [{"role": "user", "content": "one two three"}]}
    return {"model": MODEL, **said, "ignore_eos": True, "max_tokens": 5, "temperature": 0, **more}


def shape(value: Any) -> Any:
    """Return a value with every leaf but null replaced by its kind."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value if value is None or isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("endpoint", [COMPLETIONS, CHAT])
def test_a_stream_s_events_have_vllm_s_shape(vllm: Vllm, simulator: Server, endpoint: str) -> None:
    body = asked(endpoint, stream=True, stream_options={"include_usage": True})
    theirs = [shape(event) for event in vllm.events(endpoint, body)]
    status, raw = simulator.ask("POST", endpoint, body)
    *lines, last = raw.decode().rstrip().split("\n\n")
    assert (status, last) == (200, "data: [DONE]")
    assert [shape(json.loads(line.removeprefix("data: "))) for line in lines] == theirs


@pytest.mark.parametrize("endpoint", [COMPLETIONS, CHAT])
@pytest.mark.parametrize(
    "more",
    [
        {"model": "no-such-model"},
        {"max_tokens": LONGEST + 1},
        {"max_tokens": 4, "min_tokens": 5},
        {"prompt": [5] * (LONGEST + 1), "messages": [{"role": "user", "content": "a " * 3000}]},
    ],
    ids=["model", "answer", "min_tokens", "prompt"],
)
def test_errors_are_those_of_vllm(
    vllm: Vllm, simulator: Server, endpoint: str, more: dict[str, Any]
) -> None:
    body = asked(endpoint, **more)
    body.pop("prompt" if endpoint == CHAT else "messages", None)
    theirs, ours = vllm.ask("POST", endpoint, body), simulator.ask("POST", endpoint, body)
    assert (ours[0], json.loads(ours[1])) == (theirs[0], json.loads(theirs[1]))


@pytest.mark.parametrize("endpoint", [COMPLETIONS, CHAT])
def test_an_answer_is_cut_to_what_the_prompt_leaves(
    vllm: Vllm, simulator: Server, endpoint: str
) -> None:
    body = asked(endpoint, max_tokens=LONGEST)
    for status, raw in (vllm.ask("POST", endpoint, body), simulator.ask("POST", endpoint, body)):
        answer = json.loads(raw)
        assert (status, answer["choices"][0]["finish_reason"]) == (200, "length")
        assert answer["usage"]["total_tokens"] == LONGEST


def test_an_answer_in_one_piece_has_no_field_of_its_own(vllm: Vllm, simulator: Server) -> None:
    for endpoint in (COMPLETIONS, CHAT):
        _, theirs = vllm.ask("POST", endpoint, asked(endpoint))
        _, ours = simulator.ask("POST", endpoint, asked(endpoint))
        known, own = shape(json.loads(theirs)), shape(json.loads(ours))
        assert own.keys() <= known.keys()
        assert own["choices"][0].keys() <= known["choices"][0].keys()
        assert (
            own["choices"][0].get("message", {}).keys()
            <= known["choices"][0].get("message", {}).keys()
        )


def test_the_model_is_listed_as_vllm_lists_it(vllm: Vllm, simulator: Server) -> None:
    (theirs,) = json.loads(vllm.ask("GET", "/v1/models")[1])["data"]
    (ours,) = json.loads(simulator.ask("GET", "/v1/models")[1])["data"]
    # Rights of a hosted service, which vLLM fills with constants.
    theirs.pop("permission")
    assert shape(ours) == shape(theirs)
    assert ours["max_model_len"] == theirs["max_model_len"] == LONGEST
