"""The active tests in their real child processes; those that compute need torch."""

import importlib.util
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diagnose import active
from diagnose.active import parent

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="needs torch: pip install 'aibrixctl[torch]'")


def environment_with(torch: str, folder: Path) -> Mapping[str, str]:
    """An environment whose torch is the given source."""
    (folder / "torch.py").write_text(torch)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path.cwd()}"}


@pytest.mark.skipif(TORCH, reason="torch is installed")
def test_without_torch_nothing_was_checked_and_the_hint_says_how() -> None:
    outcome = active.run("quick", "cpu")
    assert outcome.findings == ()
    assert [one.skipped for one in outcome.unchecked] == [False]
    assert "pip install 'aibrixctl[torch]'" in outcome.unchecked[0].reason


def test_a_torch_that_takes_the_process_down_is_told(tmp_path: Path) -> None:
    outcome = active.run(environment=environment_with("import os; os.abort()", tmp_path))
    assert "died of signal 6" in outcome.unchecked[0].reason


def test_a_torch_that_hangs_is_killed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "_START_S", 1.0)
    outcome = active.run(environment=environment_with("import time; time.sleep(60)", tmp_path))
    assert "hung" in outcome.unchecked[0].reason


def test_a_stop_ends_the_tests_at_once(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    slow = environment_with("import time; time.sleep(60)", tmp_path)
    assert active.run(environment=slow, stop=stop).findings == ()


@needs_torch
def test_a_cpu_computes_right_and_is_not_judged_for_its_speed() -> None:
    outcome = active.run("quick", "cpu")
    assert outcome.findings == ()
    assert outcome.unchecked == ()
    tested = outcome.facts["devices"][0]
    assert tested["name"] == "CPU"
    assert {"products float32", "products bfloat16", "memory patterns"} <= tested["measured"].keys()


@needs_torch
def test_an_accelerator_that_is_not_there_is_not_healthy() -> None:
    outcome = active.run("quick", "npu")
    assert "no accelerator" in outcome.unchecked[0].reason


def corrupting(operation: str, corrupt: Any) -> Any:
    """A mode under which the results of one operation of torch are corrupted."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func.overloadpacket.__name__ == operation:
                corrupt(result)
            return result

    return Mode()


def flip_one_bit(tensor: Any) -> None:
    import torch

    if tensor.dtype != torch.float64:  # the host's own product is right
        tensor.view(-1).view(torch.int16 if tensor.element_size() == 2 else torch.int32)[17] ^= 64


def bench() -> Any:
    import torch

    from diagnose.active.bench import Bench

    return Bench(torch, torch.device("cpu"))


@needs_torch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_flipped_bit_of_a_product_is_caught(dtype: str) -> None:
    from diagnose.active.compute import check_products

    well = check_products(bench(), dtype, 0.0)
    assert (well["products"], well["wrong_products"]) == (1, 0)
    with corrupting("mm", flip_one_bit):
        found = check_products(bench(), dtype, 0.0)
    assert found["wrong_elements"] == 1
    assert (found["first_wrong"]["row"], found["first_wrong"]["column"]) == (0, 17)


@needs_torch
def test_a_product_that_does_not_repeat_is_caught() -> None:
    from diagnose.active.compute import multiply_rate

    calls = 0

    def flip_from_the_second_on(tensor: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            flip_one_bit(tensor)

    assert multiply_rate(bench(), "float32", 0.0)["repeats"]
    with corrupting("mm", flip_from_the_second_on):
        assert not multiply_rate(bench(), "float32", 0.0)["repeats"]


@needs_torch
def test_a_host_that_multiplies_wrongly_judges_nobody() -> None:
    import torch

    from diagnose.active.compute import HostError, make_reference

    with (
        corrupting("mm", lambda result: result.view(-1)[:1].add_(1)),
        pytest.raises(HostError, match="Freivalds"),
    ):
        make_reference(torch, "float32", 64)


@needs_torch
def test_a_stuck_bit_of_memory_is_caught_with_its_place() -> None:
    from diagnose.active.memory import check_patterns

    def stick(tensor: Any) -> None:
        tensor.view(-1)[5] |= 8

    def test() -> dict[str, Any]:
        return check_patterns(bench(), share=1.0, most_bytes=2**16, budget_s=0.0)

    assert test()["wrong_words"] == 0
    with corrupting("fill_", stick):
        found = test()
    assert (
        found["wrong_words"] == 2
    )  # with zeros and with the checkerboard; the others hold that bit
    assert found["first_wrong"] == {
        "pattern": "zeros",
        "offset_bytes": 40,
        "expected": "0x0000000000000000",
        "found": "0x0000000000000008",
    }


@needs_torch
def test_what_arrives_over_the_link_is_compared() -> None:
    from diagnose.active.links import host_rates, peer_rate

    well = host_rates(bench(), 0.0)
    assert well["wrong_words"] == 0
    assert well["to_device_bytes_per_s"] > 0
    with corrupting("copy_", lambda result: result.view(-1)[:1].add_(1)):
        assert host_rates(bench(), 0.0)["wrong_words"] == 1
        assert peer_rate(bench(), bench(), 0.0)["wrong_words"] >= 1


@needs_torch
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("CUDA error: an illegal memory access was encountered\nmore", "driver"),
        ("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm", "driver"),
        ("\"addmm_impl\" not implemented for 'Half'", "error"),
    ],
)
def test_errors_of_the_driver_are_told_from_others(error: str, kind: str) -> None:
    import torch

    from diagnose.active.child import attempt

    def fail() -> dict[str, Any]:
        raise RuntimeError(error)

    said: list[dict[str, Any]] = []
    goes_on = attempt("a test", fail, torch, said.append)
    assert said[-1] == {"failed": "a test", "kind": kind, "text": error.partition("\n")[0]}
    assert goes_on is (kind != "driver")
