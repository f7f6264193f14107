"""Options that reach a cluster, where nothing is in one."""

from typing import Any

import pytest

LOAD = ("--base-url", "http://127.0.0.1:1", "--model", "m", "--input-tokens", "8",
        "--output-tokens", "8")  # fmt: skip
RUN = ("--target", "a10=sim:a10", "--model", "deepseek-coder-6.7b", "--input-tokens", "128",
       "--output-tokens", "32", "--slo", "ttft_p99<=2s", "--out", "nowhere")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "option", "hint"),
    [
        (("profile", "load", *LOAD, "--token-secret", "s"), "--token-secret", "k8s:deployment"),
        (("profile", "run", *RUN, "--port-forward"), "--port-forward", "k8s:deployment"),
        (("profile", "push", "redis://h", "t", "--context", "c"), "--context", "--k8s"),
        (("profile", "push", "redis://h", "t", "--redis-service", "s"), "--redis-service", "--k8s"),
        (("optimize", "plan", "--namespace", "n"), "--namespace", "--current k8s"),
        (("optimize", "plan", "--deployment", "a=b"), "--deployment", "--current k8s"),
        (("kv", "doctor", "lmcache+file:d", "--kubeconfig", "f"), "--kubeconfig", "k8s:NAME"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    cli_json: Any, words: tuple[str, ...], option: str, hint: str
) -> None:
    body = cli_json(*words)
    (error,) = body["errors"]
    assert (body["exit_code"], error["code"]) == (2, "option.no_cluster")
    assert error["message"] == f"{option} is for what is in a cluster, and nothing here is"
    assert hint in error["hint"]
