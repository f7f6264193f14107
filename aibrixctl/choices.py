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


def checks(incomplete: str) -> list[str]:
    """Offer the checks of diagnose; of several with commas, the last."""
    from diagnose.families import FAMILIES

    before, comma, last = incomplete.rpartition(",")
    names = sorted({check.name for family in FAMILIES for check in family.checks})
    return [f"{before}{comma}{name}" for name in one_of(*names)(last)]


def finding_codes(incomplete: str) -> list[str]:
    """Offer the codes of findings."""
    from diagnose.explain import catalogue

    return one_of(*sorted(catalogue()))(incomplete.upper())


def scenarios(incomplete: str) -> list[str]:
    """Offer the built-in scenarios of mock-fail."""
    from mockfail.scenarios import names

    return one_of(*names())(incomplete)


def mocks(incomplete: str) -> list[str]:
    """Offer the mocks that there are."""
    from mockfail.environment import standing

    return one_of(*(folder.name for folder, _ in standing()))(incomplete)
