"""What was read of a machine's accelerators: the facts that the checks judge.

A reading has a name with its unit, such as ``temperature_c``. What the driver refused stands under
``failures`` with the reason; a reading that stands in neither was not asked for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from diagnose.findings import Device
from diagnose.pci import address_of

FailureKind = Literal[
    "not_supported",  # the device has no such reading
    "no_permission",
    "library_missing",
    "not_started",  # the reader never came to ask
    "not_loaded",  # no kernel module
    "mismatch",  # library and kernel module are of different versions
    "lost",  # fell off the bus
    "reset_required",
    "error",  # whatever else; not known is never healthy
]


@dataclass(frozen=True)
class Failure:
    """Why something could not be read: its kind, the driver's number for it and its text."""

    kind: FailureKind
    text: str
    number: int | None = None


@dataclass(frozen=True)
class Readings:
    """What was read, and what could not be.

    Attributes:
        values: by name.
        failures: by the name of the reading.
        error: why nothing could be read; None when the driver answers.
        hung_in: the call that had not returned by the deadline; None when all did.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    error: Failure | None = field(default=None, kw_only=True)
    hung_in: str | None = field(default=None, kw_only=True)

    @property
    def answers(self) -> bool:
        """Whether there is something to judge."""
        return self.error is None and self.hung_in is None

    def get(self, name: str) -> Any:
        """Return a reading; None where there is none."""
        return self.values.get(name)

    def has(self, *names: str) -> bool:
        """Tell whether every one of the readings is there."""
        return all(self.values.get(name) is not None for name in names)

    def has_any(self, names: Iterable[str]) -> bool:
        """Tell whether one of the readings is there."""
        return any(self.values.get(name) is not None for name in names)


@dataclass(frozen=True)
class DeviceFacts(Readings):
    """One device."""

    device: Device = field(kw_only=True)

    @property
    def address(self) -> str | None:
        """Where it is on the PCI bus, in the kernel's form; None where that is not known."""
        bus_id = self.device.pci_bus_id
        return address_of(bus_id) if bus_id else None


@dataclass(frozen=True)
class Facts(Readings):
    """One family of accelerators; the readings are those of the driver.

    Attributes:
        family: ``nvidia`` or ``ascend``.
        devices: those that the driver lists, in its order.
    """

    family: str = field(kw_only=True)
    devices: tuple[DeviceFacts, ...] = field(default=(), kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Earlier:
    """Facts of a round before, and how long ago they were read."""

    facts: Facts
    age_s: float
