import asyncio
import time

import pytest
import uvloop

from profiler.load import timer
from profiler.load.timer import Timer


async def lateness(delays_s: list[float]) -> list[float]:
    loop, fired = asyncio.get_running_loop(), asyncio.Event()
    one = Timer(loop, fired.set)
    late = []
    for delay_s in delays_s:
        fired.clear()
        deadline = time.monotonic() + delay_s
        one.arm(deadline)
        await fired.wait()
        late.append(time.monotonic() - deadline)
    one.close()
    return late


@pytest.mark.parametrize("platform", ["linux", "elsewhere"])
def test_a_timer_is_never_early(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(timer.sys, "platform", platform)
    delays = [0.0031, 0.0004, 0.01, -5.0, 0.0]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert min(runner.run(lateness(delays))) >= 0


def test_arming_again_replaces_the_deadline() -> None:
    async def run() -> float:
        fired = asyncio.Event()
        one = Timer(asyncio.get_running_loop(), fired.set)
        one.arm(time.monotonic() + 60)
        soon = time.monotonic() + 0.01
        one.arm(soon)
        await fired.wait()
        one.close()
        return time.monotonic() - soon

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert 0 <= runner.run(run()) < 50
