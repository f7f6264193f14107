"""How many words make the prompt length that was asked for: ask the server, before the load."""

import asyncio
import threading
import time
from dataclasses import dataclass

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load.address import Address
from profiler.load.config import LoadConfig
from profiler.load.exchange import Exchange
from profiler.load.pool import Pool
from profiler.load.preflight import refuse_access
from profiler.load.prompts import PromptMaker

CLOSE_ENOUGH = 0.005
_MOST_PROBES = 6
_NEAR_LONGEST = 0.99
# A prompt that is refused, perhaps for its length, is made shorter this often: to the half while
# none was taken, then by little, since it was meant to fit.
_MOST_SHORTENED = 2
_PERHAPS_TOO_LONG = (400, 413, 422)
_SHORTEN_TO, _SHORTEN_FITTED_TO = 0.5, 0.99
# Where a vocabulary splits words, short prompts of as many words differ by some percent.
_AVERAGED, _AVERAGED_BELOW_TOKENS = 16, 1000
_POLL_S = 0.05


@dataclass(frozen=True)
class Calibration:
    """What the probes found.

    Attributes:
        notes: what a reader must know; empty when the length is right.
        stopped: the run was stopped meanwhile.
    """

    notes: tuple[str, ...] = ()
    stopped: bool = False


class Prober:
    """Sends one request at a time and waits for its end."""

    def __init__(self, config: LoadConfig, stop: threading.Event | None):
        self._config = config
        self._stop = stop
        self._over: asyncio.Event = asyncio.Event()

    def over(self, exchange: Exchange) -> None:
        """Take note of the end of the probe."""
        exchange.over = True
        self._over.set()

    async def ask(self, pool: Pool, exchange: Exchange) -> bool:
        """Send a request and wait for its end; return False when stopped meanwhile."""
        self._over.clear()
        pool.send(exchange)
        deadline = time.monotonic() + self._config.first_token_timeout_s
        while not exchange.over:
            if self._stop is not None and self._stop.is_set():
                return False
            if time.monotonic() > deadline:
                exchange.fail("timeout_first_token", "no answer")
                break
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._over.wait()
            except TimeoutError:
                continue
        exchange.parse()
        exchange.judge(1, exact=False)
        return True


async def calibrate(
    config: LoadConfig,
    address: Address,
    pool: Pool,
    prober: Prober,
    prompts: PromptMaker,
    longest: int | None = None,
) -> Calibration:
    """Set ``prompts.words`` so that the server counts ``input_tokens`` in a prompt.

    Each probe asks for one output token, with a prompt of its own. Chat templates and special
    tokens add a constant, vocabularies a factor: the secant through two probes finds both. The
    first prompt has a word for each token; one that is too long for the server is shortened.
    Prompts differ by some tokens: near the ``longest`` sequence that the server takes, the aim
    is a little lower.

    Raises:
        EngineUnreachableError: access refused, or no answer in time.
        ProfilerUsageError: the server refuses requests of this shape; gives its message.
    """
    asked = config.input_tokens
    if longest is not None:
        asked = max(1, min(asked, int(_NEAR_LONGEST * (longest - config.output_tokens))))
    points: list[tuple[int, int]] = []
    refused: list[Exchange] = []
    for number in range(1, _MOST_PROBES + 1):
        exchange = Exchange(-number, prompts.request(-number))
        if not await prober.ask(pool, exchange):
            return Calibration(stopped=True)
        if exchange.head is not None and exchange.head.status in _PERHAPS_TOO_LONG:
            refused.append(exchange)
            if len(refused) <= _MOST_SHORTENED and prompts.words > 1:
                prompts.words = int(prompts.words * (_SHORTEN_FITTED_TO if points else _SHORTEN_TO))
                continue
            exchange = refused[0]
        _refuse(exchange, config, address)
        if exchange.cause not in (None, "no_output"):
            return Calibration((f"prompt length not calibrated: {exchange.cause}",))
        counted = exchange.tokens.prompt_tokens
        if counted is None:
            return Calibration(
                ("the server reports no usage: a word counts as a token, an event as one too",)
            )
        points.append((prompts.words, counted))
        if abs(counted - asked) <= CLOSE_ENOUGH * asked:
            break
        words = _next_words(points, asked)
        if words in (tried for tried, _ in points):
            break
        prompts.words = words
    prompts.words, counted = min(points, key=lambda point: abs(point[1] - asked))
    if asked < _AVERAGED_BELOW_TOKENS:
        return await _average(pool, prober, prompts, asked, counted)
    return Calibration()


async def _average(
    pool: Pool, prober: Prober, prompts: PromptMaker, asked: int, counted: int
) -> Calibration:
    """Correct ``prompts.words`` by the mean of several prompts, where the second is not alike."""
    counts = [counted]
    for number in range(_MOST_PROBES + 1, _MOST_PROBES + _AVERAGED):
        exchange = Exchange(-number, prompts.request(-number))
        if not await prober.ask(pool, exchange):
            return Calibration(stopped=True)
        if exchange.cause not in (None, "no_output") or exchange.tokens.prompt_tokens is None:
            break
        counts.append(exchange.tokens.prompt_tokens)
        if counts == [counted, counted]:
            break
    if len(set(counts)) == 1:
        return Calibration()
    mean = sum(counts) / len(counts)
    prompts.words = max(round(prompts.words * (1 + (asked - mean) / max(mean, 1))), 1)
    return Calibration()


def _next_words(points: list[tuple[int, int]], asked: int) -> int:
    words, counted = points[-1]
    slope = max(counted, 1) / max(words, 1)
    if len(points) > 1 and points[-2][0] != words and points[-2][1] != counted:
        slope = (counted - points[-2][1]) / (words - points[-2][0])
    guess = round(words + (asked - counted) / slope) if slope > 0 else words
    return min(max(guess, 1), 2 * asked + 1)


def _refuse(exchange: Exchange, config: LoadConfig, address: Address) -> None:
    """Raise for what no load can mend; other failures are for the run to count."""
    status = exchange.head.status if exchange.head is not None else 0
    refuse_access(status, address, exchange.message, bool(config.token))
    if 300 <= status < 500 and status not in (408, 425, 429):
        raise ProfilerUsageError(
            "load.refused",
            f"{address.url}{config.endpoint} refuses a request of {config.input_tokens} input and "
            f"{config.output_tokens} output tokens: HTTP {status}, {exchange.message}",
            hint="check the model, the endpoint and the lengths; "
            "a server that does not know ignore_eos needs --no-ignore-eos",
            target=config.endpoint,
        )
    if exchange.cause in ("timeout_first_token", "connect"):
        waited = f" within {config.first_token_timeout_s:g} s"
        raise EngineUnreachableError(
            "load.no_answer",
            f"{address.url} gave no answer to a request of one token"
            f"{waited if exchange.cause != 'connect' else ': ' + exchange.message}",
            hint="see the engine's log",
            target=address.url,
        )
