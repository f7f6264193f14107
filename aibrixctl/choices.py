"""Values that a shell may complete; each function takes what is typed so far."""

from collections.abc import Callable


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Return a completion that offers fixed values."""

    def offer(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return offer


def accelerators(incomplete: str) -> list[str]:
    """Offer the built-in accelerators."""
    from accelerators.catalog import load_catalog

    return one_of(*sorted(load_catalog()))(incomplete)


def models(incomplete: str) -> list[str]:
    """Offer the models whose shapes are known."""
    from profiler.sim.models import names

    return one_of(*sorted(names()))(incomplete)
