"""The catalogue of accelerators: typed figures, each with its source, and overrides from a file.

The figures stand in ``accelerators/data/*.toml`` in the units of the data sheets. A file in the
same form overrides single figures (a price, most often) or adds types.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from accelerators import documents
from accelerators.errors import UsageError

PriceBasis = Literal["list", "estimate"]
DTYPES = ("fp16", "bf16", "fp8", "int8")


@dataclass(frozen=True)
class Accelerator:
    """One GPU or NPU type; None where no public source states the figure.

    Attributes:
        name: canonical name such as ``a100-80g-sxm``.
        title: the vendor's name.
        vendor: ``NVIDIA`` or ``Huawei``.
        memory_bytes: total that the driver reports.
        memory_bandwidth_bytes_per_s: peak.
        flops: dtype to dense tensor operations/s (floating point, or integer for int8).
        link: name of the direct link between accelerators; None when they meet over PCIe.
        link_bytes_per_s: its total per accelerator, both directions added.
        pcie_generation, pcie_width: of the host interface.
        power_w: board power limit.
        price_usd_per_hour: public on-demand price of one accelerator.
        price_date: when that price was read, ISO 8601.
        price_basis: ``estimate`` when it isn't on a public list.
        aliases: other exact names, such as the driver's.
        qualifiers: words that may be added to the name without changing what is meant.
        default_for: names that fit several types and by convention mean this one.
        sources: figure to its source.
    """

    name: str
    title: str
    vendor: str
    memory_bytes: int
    memory_bandwidth_bytes_per_s: float
    flops: Mapping[str, float]
    link: str | None = None
    link_bytes_per_s: float | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    power_w: float | None = None
    price_usd_per_hour: float | None = None
    price_date: str | None = None
    price_basis: PriceBasis | None = None
    aliases: tuple[str, ...] = ()
    qualifiers: tuple[str, ...] = ()
    default_for: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return every figure with its unit in the key; null where there is none."""
        return {
            "name": self.name,
            "title": self.title,
            "vendor": self.vendor,
            "aliases": sorted({*self.aliases, *self.default_for}),
            "memory_bytes": self.memory_bytes,
            "memory_bandwidth_bytes_per_s": self.memory_bandwidth_bytes_per_s,
            "dense_flops_per_s": {dtype: self.flops.get(dtype) for dtype in DTYPES},
            "link": self.link,
            "link_bidirectional_bytes_per_s": self.link_bytes_per_s,
            "pcie_generation": self.pcie_generation,
            "pcie_width": self.pcie_width,
            "power_w": self.power_w,
            "price_usd_per_hour": self.price_usd_per_hour,
            "price_date": self.price_date,
            "price_basis": self.price_basis,
            "sources": dict(sorted(self.sources.items())),
        }


_FIGURES = {
    "memory_mib": ("memory_bytes", 2**20),
    "memory_bandwidth_gb_per_s": ("memory_bandwidth_bytes_per_s", 1e9),
    "link_gb_per_s": ("link_bytes_per_s", 1e9),
    "pcie_generation": ("pcie_generation", 1),
    "pcie_width": ("pcie_width", 1),
    "power_w": ("power_w", 1),
    "price_usd_per_hour": ("price_usd_per_hour", 1),
}
_WHOLE = {"memory_bytes", "pcie_generation", "pcie_width"}
_TEXTS = ("title", "vendor", "link", "price_date", "price_basis")
_LISTS = ("aliases", "qualifiers", "default_for")
_KEYS = (*_FIGURES, *_TEXTS, *_LISTS, "tflops", "sources")
_REQUIRED = ("title", "vendor", "memory_bytes", "memory_bandwidth_bytes_per_s", "flops")


def load_catalog(override: str | os.PathLike[str] | None = None) -> dict[str, Accelerator]:
    """Return all types by canonical name, those of ``override`` laid over the built-in ones.

    Raises:
        UsageError: the override is unreadable, has an unknown key or an absurd figure; the
            message names the file and the key.
    """
    types = dict(_built_in())
    if override is not None:
        types.update(_read(documents.read_text(override), str(override), types))
    return dict(sorted(types.items()))


@cache
def _built_in() -> Mapping[str, Accelerator]:
    types: dict[str, Accelerator] = {}
    folder = resources.files("accelerators") / "data"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".toml"):
            types.update(_read(file.read_text(encoding="utf-8"), file.name, {}))
    return types


def _read(text: str, source: str, base: Mapping[str, Accelerator]) -> dict[str, Accelerator]:
    import tomllib

    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            "accelerators.not_toml", f"{source} is not TOML: {error}", target=source
        ) from error
    unknown = sorted(body.keys() - {"accelerators"})
    tables = body.get("accelerators")
    if unknown or not isinstance(tables, dict):
        found = f"key {unknown[0]!r}" if unknown else "no table [accelerators.NAME]"
        raise _refuse(source, f"has {found}; expected only tables [accelerators.NAME]")
    return {
        name: _merge(name, table, base.get(name), source) for name, table in sorted(tables.items())
    }


def _refuse(source: str, problem: str, hint: str = "") -> UsageError:
    return UsageError(
        "accelerators.malformed",
        f"{source} {problem}",
        hint=hint or "`aibrixctl accelerators show a10 -o json` lists the figures of a type",
        target=source,
    )


def _merge(name: str, table: Any, base: Accelerator | None, source: str) -> Accelerator:
    where = f"[accelerators.{name}]"
    if not isinstance(table, dict):
        raise _refuse(source, f"has {name} = {table!r}; expected a table {where}")
    unknown = sorted(table.keys() - set(_KEYS))
    if unknown:
        expected = ", ".join(_KEYS)
        raise _refuse(source, f"{where} has unknown key {unknown[0]!r}; expected {expected}")
    values = dict(_values(table, f"{source} {where}"))
    values["sources"] = {**(base.sources if base else {}), **_sources(table, source)}
    values.setdefault("price_basis", "list" if "price_usd_per_hour" in values else None)
    if base is not None:
        if "price_usd_per_hour" in values:
            values.setdefault("price_date", None)
        else:
            del values["price_basis"]
        values["flops"] = {**base.flops, **values.get("flops", {})}
        return replace(base, **values)
    missing = [key for key in _REQUIRED if key not in values]
    if missing:
        raise _refuse(
            source,
            f"{where} is a new type without {', '.join(missing)}",
            "a new type needs title, vendor, memory_mib, memory_bandwidth_gb_per_s and tflops",
        )
    return Accelerator(name=name, **values)


def _values(table: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """Yield attribute and value, in base units, for each key of a table that is checked here."""
    for key, value in table.items():
        at = f"{where} {key}"
        if key in _FIGURES:
            attribute, scale = _FIGURES[key]
            figure = _positive(value, at) * scale
            if attribute in _WHOLE and figure != int(figure):
                raise UsageError(
                    "accelerators.malformed", f"{at} is {value!r}; expected a whole number"
                )
            yield attribute, int(figure) if attribute in _WHOLE else float(figure)
        elif key in _LISTS:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise UsageError(
                    "accelerators.malformed", f"{at} is {value!r}; expected a list of names"
                )
            yield key, tuple(value)
        elif key == "tflops":
            yield "flops", _flops(value, at)
        elif key in _TEXTS:
            yield key, _text(key, value, at)


def _positive(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise UsageError(
            "accelerators.malformed", f"{at} is {value!r}; expected a number above 0", target=at
        )
    return float(value)


def _flops(value: Any, at: str) -> dict[str, float]:
    if not isinstance(value, dict) or value.keys() - set(DTYPES):
        raise UsageError(
            "accelerators.malformed",
            f"{at} is {value!r}; expected dense tera-operations/s by dtype ({', '.join(DTYPES)})",
        )
    return {dtype: _positive(rate, f"{at}.{dtype}") * 1e12 for dtype, rate in value.items()}


def _text(key: str, value: Any, at: str) -> str:
    import datetime

    if key == "price_date" and isinstance(value, datetime.date):
        return value.isoformat()
    if not isinstance(value, str) or not value:
        raise UsageError("accelerators.malformed", f"{at} is {value!r}; expected text")
    if key == "price_date":
        try:
            return datetime.date.fromisoformat(value).isoformat()
        except ValueError as error:
            raise UsageError(
                "accelerators.malformed", f"{at} is {value!r}; expected a date such as 2026-01-31"
            ) from error
    if key == "price_basis" and value not in get_args(PriceBasis):
        raise UsageError(
            "accelerators.malformed", f"{at} is {value!r}; expected list or estimate", target=at
        )
    return value


def _sources(table: Mapping[str, Any], source: str) -> dict[str, str]:
    """Return figure to source: what the table names, and the file itself for the rest."""
    given = table.get("sources", {})
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise UsageError(
            "accelerators.malformed",
            f"{source} has sources {given!r}; expected a table of figure to text",
        )
    named = dict(given)
    general = named.pop("specification", source)
    groups = {
        "memory": "memory_mib",
        "memory_bandwidth": "memory_bandwidth_gb_per_s",
        "flops": "tflops",
        "link": "link_gb_per_s",
        "pcie": "pcie_generation",
        "power": "power_w",
        "price": "price_usd_per_hour",
    }
    return {group: named.get(group, general) for group, key in groups.items() if key in table}
