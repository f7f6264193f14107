"""``diagnose engine`` on a real vLLM: sound, under load, and with its core stopped beneath it."""

import signal
import threading
from typing import Any

import psutil

from diagnose.engine import EngineConfig, diagnose_engine
from diagnose.engine.exchange import parse_address
from diagnose.findings import Report

from .vllm_server import MODEL, Vllm, requires_vllm

pytestmark = requires_vllm


def look(vllm: Vllm, **more: Any) -> Report:
    options = {"interval_s": 1.0, "timeout_s": 60.0} | more
    return diagnose_engine(EngineConfig(parse_address(vllm.url), **options))


def core_of(vllm: Vllm) -> psutil.Process:
    """The process that schedules and computes; the one that speaks HTTP is its parent."""
    server = next(
        process
        for process in psutil.process_iter(["cmdline"])
        if {"serve", "--port", str(vllm.port)} <= set(process.info["cmdline"] or ())
    )
    return next(child for child in server.children(recursive=True) if "EngineCore" in _title(child))


def _title(process: psutil.Process) -> str:
    return " ".join([process.name(), *process.cmdline()])


def test_a_sound_engine_has_no_finding_idle_or_under_load(vllm: Vllm) -> None:
    idle = look(vllm)
    assert (idle.findings, idle.unchecked, idle.simulated) == ((), (), False)
    assert idle.facts["engine"]["engine"] == "vllm"
    assert idle.facts["engine"]["model"] == MODEL
    asked = {"model": MODEL, "prompt": "a b c", "max_tokens": 400, "ignore_eos": True}
    clients = [
        threading.Thread(target=vllm.ask, args=("POST", "/v1/completions", asked)) for _ in range(4)
    ]
    for client in clients:
        client.start()
    busy = look(vllm)
    for client in clients:
        client.join()
    assert (busy.findings, busy.unchecked) == ((), ())
    scrapes = busy.facts["engine"]["scrapes"]
    assert (
        scrapes[-1]["progress"]["iteration_tokens_total_count"]
        > (scrapes[0]["progress"]["iteration_tokens_total_count"])
    )


def test_an_engine_whose_core_stands_still_is_wedged_though_its_health_says_200(vllm: Vllm) -> None:
    core = core_of(vllm)
    core.send_signal(signal.SIGSTOP)
    try:
        found = look(vllm, timeout_s=3.0).findings
    finally:
        core.send_signal(signal.SIGCONT)
    assert [finding.code for finding in found] == ["ENGINE-WEDGED"]
    assert found[0].evidence["health"] == "status 200"
    assert look(vllm).findings == ()
