"""Prompts that differ from each other in their first words, and the requests that carry them.

Words are short, common English ones, a token each in most vocabularies; how many of them make the
tokens that were asked for is calibrated against the server (see ``profiler.load.calibrate``).
A prefix cache works on blocks that hash all that came before: prompts that differ within
their first block share nothing.
"""

import json
import random
from itertools import accumulate

from profiler.load.address import Address, headers
from profiler.load.config import LoadConfig
from profiler.load.schedule import digest

_TEXT = """
the and for are but not you all any can had her was one our out day get has him his how man new
now old see two way who boy did its let put say she too use dad mom big end far few got hot job
key law lot low map men net oil own pay per red run set sit six sun ten top try war win yes yet
air arm art ask bad bag bar bed bit box bus buy car cat cup cut dog ear eat egg eye fit fly fun
gas gun hit ice ill join keep kind king know lake land last late lead left less life light line
list live long look lose love main make many mark mean meet mind miss moon more most move much
must name near need next note once only open over page part pass past path plan play point power
press price pull push race rain read real rest rich ride ring rise road rock role room root rule
safe sale same sand save sea seat seed seem sell send ship shop short show side sign site size
skin sleep slow small snow some song soon sort sound south space speak stand star start state stay
step stop store story street strong study such sure table take talk tall team tell term test than
that them then they thing think this time told town tree trip true turn type under unit upon very
view voice wait walk wall want warm watch water
"""
# A byte picks one of these 256.
_WORDS = _TEXT.split()
_HEAD_WORDS = 16
_POOL_ROUNDS = 64


class PromptMaker:
    """Makes the requests of one run; the same configuration, salt included, makes the same bytes.

    Attributes:
        words: words of a prompt; set by the calibration.
    """

    def __init__(self, config: LoadConfig, address: Address):
        self.words = config.input_tokens
        self._config = config
        rng = random.Random(digest(config.seed, config.salt, "pool"))
        # Every word once, in another order each time: long slices are alike in their tokens.
        pool = [word for _ in range(_POOL_ROUNDS) for word in rng.sample(_WORDS, len(_WORDS))]
        self._pool = " ".join(pool)
        self._starts = [0, *accumulate(len(word) + 1 for word in pool)]
        self._request_line = self._head(address)
        self._before, self._after = self._body_frame(config.output_tokens)
        self._probe_after = self._body_frame(1)[1]

    def _head(self, address: Address) -> bytes:
        lines = [f"POST {address.path}{self._config.endpoint} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers(address, self._config).items()]
        lines += ["Content-Type: application/json", "Content-Length: "]
        return "\r\n".join(lines).encode("latin-1")

    def _body_frame(self, output_tokens: int) -> tuple[bytes, bytes]:
        """Return the JSON before and after the prompt's text."""
        config, mark = self._config, "\0PROMPT\0"
        body: dict[str, object] = {"model": config.model}
        if config.endpoint.endswith("/chat/completions"):
            body["messages"] = [{"role": "user", "content": mark}]
        else:
            body["prompt"] = mark
        body |= {
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if config.ignore_eos:
            body |= {"ignore_eos": True, "min_tokens": output_tokens}
        text = json.dumps({**body, **config.extra_body}, separators=(",", ":"))
        before, _, after = text.partition(json.dumps(mark)[1:-1])
        return before.encode(), after.encode()

    def prompt(self, index: int) -> str:
        """Return the prompt of a request: shared head if any, distinct head, common words."""
        config = self._config
        seed = digest(config.seed, config.salt, f"prompt {index}")
        shared = round(self.words * config.shared_prefix_tokens / config.input_tokens)
        distinct = min(_HEAD_WORDS, max(self.words - shared, 1))
        rest = max(self.words - shared - distinct, 0)
        parts = [self._slice(0, shared)] if shared else []
        parts.append(" ".join(map(_WORDS.__getitem__, seed[:distinct])))
        if rest:
            parts.append(
                self._slice(int.from_bytes(seed[-8:], "little") % (len(self._starts) - 1), rest)
            )
        return " ".join(parts)

    def _slice(self, start: int, count: int) -> str:
        """Return ``count`` words of the pool, which is read as a ring."""
        size, words = len(self._starts) - 1, []
        while count:
            stop = min(start + count, size)
            words.append(self._pool[self._starts[start] : self._starts[stop] - 1])
            count, start = count - (stop - start), 0
        return " ".join(words)

    def request(self, index: int) -> bytes:
        """Return the bytes of a request, head and body; probes have an index below 0."""
        after = self._after if index >= 0 else self._probe_after
        body = self._before + self.prompt(index).encode() + after
        return b"%b%d\r\n\r\n%b" % (self._request_line, len(body), body)
