"""Guess a cell's rate from its neighbours, so that the search starts near the answer."""

from collections.abc import Mapping

from profiler.run_config import ProfileConfig
from profiler.search import Guess
from profiler.table import Cell


def guess(
    config: ProfileConfig, bounds: tuple[int, int], known: Mapping[tuple[int, int], Cell]
) -> Guess | None:
    """Return a guess for a cell from neighbours with fewer tokens; None without a usable one.

    With three neighbours the rate changes by the product of both changes; with one it falls
    somewhat slower than the tokens grow.
    """
    i, o = config.input_tokens.index(bounds[0]), config.output_tokens.index(bounds[1])

    def rate(at_i: int, at_o: int) -> float | None:
        if at_i < 0 or at_o < 0:
            return None
        cell = known[config.input_tokens[at_i], config.output_tokens[at_o]]
        return cell.max_request_rate or None

    fewer_in, fewer_out, fewer_both = rate(i - 1, o), rate(i, o - 1), rate(i - 1, o - 1)
    if fewer_in and fewer_out and fewer_both:
        return Guess(fewer_in * fewer_out / fewer_both, 1.25)
    if (i and not fewer_in) or (o and not fewer_out):
        return None
    if fewer_in:
        return Guess(fewer_in * (config.input_tokens[i - 1] / bounds[0]) ** 0.7, 1.5)
    if fewer_out:
        return Guess(fewer_out * (config.output_tokens[o - 1] / bounds[1]) ** 0.9, 1.5)
    return None
