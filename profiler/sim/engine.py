"""One replica step by step, as vLLM's V1 scheduler runs it: the model behind both simulators.

Requests wait first come, first served. A step gives one token to every sequence that decodes,
then spends what is left of ``max_num_batched_tokens`` on prompts, cut into chunks where needed.
KV blocks are taken as tokens are stored; when none is free, the request admitted last gives up
its blocks and waits in front, to be computed anew (preemption by recomputation).

Sequences that decode advance together, so they are not visited in each step: ``_decoded`` counts
the steps, a heap orders the sequences by the count at which they end, and ``_phases`` counts how
many of them start a new KV block at each remainder of the count. A run of plain decode steps is
thus computed at once.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from profiler.errors import ProfilerUsageError
from profiler.sim.replica import BLOCK_TOKENS, Replica, blocks_of
from profiler.sim.roofline import Step, StepModel

# From here on, numpy computes a run of steps faster than a loop does.
_VECTOR_STEPS = 20


@dataclass(eq=False, slots=True)
class Request:
    """One request and how far it is.

    Attributes:
        key: the caller's own name for it.
        input_tokens: of the prompt.
        output_tokens: to generate.
        cached_tokens: of the prompt, found in the prefix cache; they take blocks but no work.
        generated: output tokens so far; current only while the request does not decode.
        preemptions: how often it lost its blocks.
    """

    key: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    generated: int = 0
    preemptions: int = 0
    prefilled: int = field(default=0, repr=False)
    blocks: int = field(default=0, repr=False)
    ends_at: int = field(default=0, repr=False)
    phase: int = field(default=0, repr=False)
    decoding: bool = field(default=False, repr=False)
    stalled_since_s: float | None = field(default=None, repr=False)

    @property
    def to_prefill(self) -> int:
        """Tokens to compute before the next token: the prompt and what was generated before."""
        return self.input_tokens + self.generated

    @property
    def found(self) -> int:
        """Tokens of ``to_prefill`` that need no work; the last one always does."""
        return min(self.cached_tokens, self.to_prefill - 1)


class Advance(NamedTuple):
    """What one or several steps did.

    Attributes:
        step_s: [k] time of each step.
        end_s: [k] virtual time at which each step ended.
        decoded: sequences that got one token in each of these steps.
        first: requests whose prompt was done, with a token, in the last step.
        resumed: gap in seconds for each request of ``first`` that had been preempted.
        finished: requests that got their last token in the last step.
        admitted: requests that left the queue.
    """

    step_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    decoded: int
    first: tuple[Request, ...] = ()
    resumed: tuple[float, ...] = ()
    finished: tuple[Request, ...] = ()
    admitted: tuple[Request, ...] = ()


class Engine:
    """The scheduler and memory of one replica.

    Attributes:
        clock_s: virtual time; steps move it on.
        preemptions: so far.
        most_running: requests that may run at once.
    """

    def __init__(self, replica: Replica):
        self.replica = replica
        self.most_running = replica.max_num_seqs
        self.clock_s = 0.0
        self.preemptions = 0
        self._model = StepModel(replica)
        self._waiting: deque[Request] = deque()
        self._running: dict[Request, None] = {}
        self._prefilling: dict[Request, None] = {}
        self._blocks = self._free_blocks = replica.kv_blocks
        self._held_blocks = 0
        self._decoded = 0
        self._decoders = 0
        self._context_tokens = 0
        self._phases = [0] * BLOCK_TOKENS
        self._ends: list[tuple[int, int, Request]] = []
        self._pushed = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self._waiting

    @property
    def running(self) -> int:
        """Requests that hold KV blocks."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def kv_cache_usage(self) -> float:
        """Share of KV blocks in use."""
        return 1 - self._free_blocks / self._blocks

    def decoding(self) -> list[Request]:
        """Return the sequences that the next step gives a token, memory permitting."""
        return [request for request in self._running if request.decoding]

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ProfilerUsageError: it is longer than the replica can ever serve, or has no token.
        """
        if request.input_tokens < 1 or request.output_tokens < 1:
            raise ProfilerUsageError(
                "sim.no_tokens",
                f"a request of {request.input_tokens} input and {request.output_tokens} output "
                "tokens; expected at least one of each",
            )
        if self.replica.refuses(request.input_tokens, request.output_tokens):
            raise ProfilerUsageError(
                "sim.context_length",
                f"{request.input_tokens} input and {request.output_tokens} output tokens; this "
                f"replica serves sequences of at most {self.longest} tokens",
            )
        self._waiting.append(request)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the replica serves."""
        held = self.replica.kv_blocks * BLOCK_TOKENS + 1
        return min(self.replica.max_model_len, held)

    def abort(self, request: Request) -> None:
        """Drop a request wherever it is, and free what it holds."""
        if request in self._running:
            self._release(request)
        elif request in self._waiting:
            self._waiting.remove(request)

    def hold(self, share: float) -> None:
        """Keep a share of the KV blocks from every request, as far as they are free now."""
        wanted = int(self._blocks * share) - self._held_blocks
        taken = min(wanted, self._free_blocks)
        self._held_blocks += taken
        self._free_blocks -= taken

    def preempt(self) -> None:
        """Take the blocks of the request admitted last, if one runs."""
        if self._running:
            self._preempt_last()

    def advance(self, until_s: float) -> Advance:
        """Run steps until one ends at or after ``until_s``, or something other than decode is due.

        At least one step is run; the engine must not be idle. The result is the same as that of
        single steps.
        """
        steps = self._plain_steps()
        if steps > 1:
            return self._run_plain(steps, until_s)
        return self.step()

    def _plain_steps(self) -> int:
        """Return how many steps from now on will do nothing but decode."""
        if self._prefilling or not self._decoders or self._admissible():
            return 0
        steps = self._next_end() - self._decoded
        cycles, left = divmod(self._free_blocks, self._decoders)
        if cycles * BLOCK_TOKENS >= steps:
            return steps
        before_shortage = cycles * BLOCK_TOKENS
        for ahead in range(BLOCK_TOKENS):
            left -= self._phases[(self._decoded + ahead) % BLOCK_TOKENS]
            if left < 0:
                break
            before_shortage += 1
        return min(steps, before_shortage)

    def _admissible(self) -> bool:
        if not self._waiting or len(self._running) >= self.most_running:
            return False
        budget = self.replica.max_num_batched_tokens - self._decoders
        if budget < 1:
            return False
        first = self._waiting[0]
        chunk = min(first.to_prefill - first.found, budget)
        needed = self._phases[self._decoded % BLOCK_TOKENS]
        return self._free_blocks - needed >= blocks_of(first.found + chunk)

    def _next_end(self) -> int:
        """Return the step count at which the next sequence ends."""
        while True:
            ends_at, _, request = self._ends[0]
            if request.decoding and request.ends_at == ends_at:
                return ends_at
            heapq.heappop(self._ends)

    def _run_plain(self, steps: int, until_s: float) -> Advance:
        """Run up to ``steps`` steps of plain decode, to the first that ends at ``until_s``."""
        decoders = self._decoders
        first = self._model.decode_s(decoders, self._context_tokens + decoders)
        # Steps only get longer, so this many surely reach ``until_s``.
        steps = int(min(steps, max(0.0, until_s - self.clock_s) // first + 2))
        step_s = self._plain_times(steps, first)
        end_s = self.clock_s + step_s.cumsum()
        done = min(steps, int(end_s.searchsorted(until_s)) + 1)
        self.clock_s = float(end_s[done - 1])
        self._take_blocks(done)
        self._decoded += done
        self._context_tokens += decoders * done
        return Advance(step_s[:done], end_s[:done], decoders, finished=tuple(self._finish()))

    def _plain_times(self, steps: int, first: float) -> npt.NDArray[np.float64]:
        """Return the times of the next ``steps`` decode steps, of which one takes ``first``."""
        decoders, context = self._decoders, self._context_tokens
        decode_s = self._model.decode_s
        if steps < _VECTOR_STEPS:
            later = (decode_s(decoders, context + decoders * k) for k in range(2, steps + 1))
            return np.array([first, *later])
        return self._model.decode_times_s(decoders, context + decoders * np.arange(1, steps + 1))

    def _take_blocks(self, steps: int) -> None:
        cycles, rest = divmod(steps, BLOCK_TOKENS)
        taken = cycles * self._decoders
        for ahead in range(rest):
            taken += self._phases[(self._decoded + ahead) % BLOCK_TOKENS]
        self._free_blocks -= taken

    def step(self) -> Advance:
        """Run one step; the engine must not be idle."""
        preempted = self._make_room()
        budget = self.replica.max_num_batched_tokens - self._decoders
        chunks, budget, preempted = self._continue_prefills(budget, preempted)
        decoders = self._decoders
        admitted: list[Request] = []
        if not preempted:
            admitted = self._admit(chunks, budget)
        duration = self._model.time(self._work(chunks)).total_s
        self.clock_s += duration
        self._take_blocks(1)
        self._decoded += 1
        self._context_tokens += decoders
        finished = self._finish()
        first, resumed = self._complete_prefills(chunks, finished)
        return Advance(
            np.array([duration]),
            np.array([self.clock_s]),
            decoders,
            tuple(first),
            tuple(resumed),
            tuple(finished),
            tuple(admitted),
        )

    def _make_room(self) -> bool:
        """Preempt until every sequence that decodes can store its token; return if any was."""
        preempted = False
        while self._free_blocks < self._phases[self._decoded % BLOCK_TOKENS]:
            self._preempt_last()
            preempted = True
        return preempted

    def _preempt_last(self) -> Request:
        request = next(reversed(self._running))
        self._release(request)
        if request.stalled_since_s is None and request.generated:
            request.stalled_since_s = self.clock_s
        request.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(request)
        return request

    def _release(self, request: Request) -> None:
        """Take a running request out and free its blocks; ``generated`` is made current."""
        del self._running[request]
        if request.decoding:
            request.generated = request.output_tokens - (request.ends_at - self._decoded)
            stored = request.to_prefill - 1
            self._free_blocks += blocks_of(stored)
            self._context_tokens -= stored
            self._decoders -= 1
            self._phases[request.phase] -= 1
            request.decoding = False
        else:
            self._prefilling.pop(request, None)
            self._free_blocks += request.blocks
        request.blocks = request.prefilled = 0

    def _continue_prefills(
        self, budget: int, preempted: bool
    ) -> tuple[dict[Request, int], int, bool]:
        """Give tokens of the step to prompts under way, oldest first."""
        chunks: dict[Request, int] = {}
        for request in list(self._prefilling):
            if request not in self._prefilling:
                continue
            chunk = min(request.to_prefill - request.prefilled, budget)
            if chunk < 1:
                break
            while not self._reserve(request, chunk):
                preempted = True
                victim = self._preempt_last()
                budget += chunks.pop(victim, 0)
                if victim is request:
                    break
            else:
                chunks[request] = chunk
                budget -= chunk
        return chunks, budget, preempted

    def _reserve(self, request: Request, chunk: int) -> bool:
        """Take the blocks for a chunk, leaving those that decoding needs in this step."""
        more = blocks_of(request.prefilled + chunk) - request.blocks
        if self._free_blocks - self._phases[self._decoded % BLOCK_TOKENS] < more:
            return False
        self._free_blocks -= more
        request.blocks += more
        return True

    def _admit(self, chunks: dict[Request, int], budget: int) -> list[Request]:
        admitted = []
        while self._waiting and budget > 0 and len(self._running) < self.most_running:
            request = self._waiting[0]
            request.prefilled = request.found
            chunk = min(request.to_prefill - request.prefilled, budget)
            if not self._reserve(request, chunk):
                break
            self._waiting.popleft()
            self._running[request] = None
            self._prefilling[request] = None
            chunks[request] = chunk
            budget -= chunk
            admitted.append(request)
        return admitted

    def _work(self, chunks: dict[Request, int]) -> Step:
        context = self._context_tokens + self._decoders
        pairs = float(context)
        tokens = sequences = self._decoders
        for request, chunk in chunks.items():
            tokens += chunk
            pairs += chunk * (request.prefilled + (chunk + 1) / 2)
            context += request.prefilled + chunk
            sequences += request.prefilled + chunk == request.to_prefill
        return Step(tokens, sequences, pairs, context, prefill=bool(chunks))

    def _finish(self) -> list[Request]:
        """Take out the sequences that got their last token."""
        finished = []
        while self._ends and self._ends[0][0] <= self._decoded:
            ends_at, _, request = heapq.heappop(self._ends)
            if request.decoding and request.ends_at == ends_at:
                self._release(request)
                finished.append(request)
        return finished

    def _complete_prefills(
        self, chunks: dict[Request, int], finished: list[Request]
    ) -> tuple[list[Request], list[float]]:
        """Turn prompts that are done into sequences that decode."""
        first, resumed = [], []
        for request, chunk in chunks.items():
            request.prefilled += chunk
            if request.prefilled < request.to_prefill:
                continue
            if request.stalled_since_s is not None:
                resumed.append(self.clock_s - request.stalled_since_s)
                request.stalled_since_s = None
            request.generated += 1
            first.append(request)
            if request.generated == request.output_tokens:
                self._release(request)
                finished.append(request)
            else:
                self._start_decoding(request)
        return first, resumed

    def _start_decoding(self, request: Request) -> None:
        del self._prefilling[request]
        stored = request.to_prefill - 1
        request.decoding = True
        request.ends_at = self._decoded + request.output_tokens - request.generated
        request.phase = (self._decoded - stored) % BLOCK_TOKENS
        self._phases[request.phase] += 1
        self._decoders += 1
        self._context_tokens += stored
        self._pushed += 1
        heapq.heappush(self._ends, (request.ends_at, self._pushed, request))
