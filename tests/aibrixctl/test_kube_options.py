"""Options that reach a cluster, where nothing is in one."""

from pathlib import Path
from typing import Any

import pytest

from aibrixctl.kube_options import DEFAULT_ACCOUNT
from cluster.rights import WORKER

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


def test_pods_run_as_the_account_that_rbac_prints() -> None:
    assert DEFAULT_ACCOUNT == WORKER


@pytest.mark.parametrize("url", ["k8s:secret/a", "k8s:configmap/", "k8s:configmap/a/b/c"])
def test_an_output_that_can_not_be_is_refused_before_the_work(
    cli: Any, tmp_path: Path, url: str
) -> None:
    out = tmp_path / "profiles"
    words = [str(out) if word == "nowhere" else word for word in RUN]
    outcome = cli("profile", "run", *words, "--output-file", url)
    assert outcome.code == 2
    assert f"--output-file is {url!r}; expected k8s:configmap/[NAMESPACE/]NAME" in outcome.err
    assert not out.exists()
