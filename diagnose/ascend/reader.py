"""Read DCMI: the driver, then every NPU. Runs as a child of :mod:`diagnose.reading`.

Readings have the names of ``mockfail``'s properties where they say the same.
"""

from ctypes import byref, c_int, c_uint
from functools import partial
from typing import Any

from diagnose import child
from diagnose.ascend import dcmi
from diagnose.ascend.dcmi import Dcmi, DcmiError
from diagnose.child import Reader, Refused
from diagnose.facts import Failure, FailureKind

_KINDS: dict[int, FailureKind] = {
    dcmi.NOT_SUPPORTED: "not_supported",
    dcmi.NOT_SUPPORTED_IN_CONTAINER: "not_supported",
    dcmi.NO_FUNCTION: "not_supported",  # the driver is older than the call
    dcmi.NOT_PERMITTED: "no_permission",
}
_GONE = (dcmi.NOT_READY, dcmi.DEVICE_NOT_EXIST, dcmi.INVALID_DEVICE_ID)
"""How the health of a card that fell off the bus is answered (Ascend mind-cluster takes -8012 for a
dropped card). Of another reading such a number says no more than that it isn't there just now."""
_MIB = 1 << 20

_NUMBERS: tuple[tuple[str, str, int, Any], ...] = (
    ("temperature_c", "dcmi_get_device_temperature", 1, None),
    ("power_mw", "dcmi_get_device_power_info", 100, None),
    ("voltage_mv", "dcmi_get_device_voltage", 10, c_uint),
    ("network_health", "dcmi_get_device_network_health", 1, c_uint),
)
"""Readings that are one call's number times something."""


class Ascend:
    """The driver as :func:`diagnose.child.serve` wants it."""

    def open(self, reader: Reader) -> int:
        """Load and start DCMI and read what it says of itself; return the number of NPUs."""
        reader.tell("dcmi_init")
        try:
            self._dcmi = Dcmi()
        except OSError as error:
            raise Refused(Failure("library_missing", f"DCMI: {error}")) from error
        try:
            self._dcmi.call("dcmi_init")
        except DcmiError as error:
            raise Refused(_of_driver(error)) from error
        for name, call in (
            ("dcmi_version", "dcmi_get_dcmi_version"),
            ("npu_driver_version", "dcmi_get_driver_version"),
        ):
            reader.take(name, call, partial(self._dcmi.text, call))
        reader.tell("dcmi_get_card_list")
        try:
            self._npus = list(self._dcmi.npus())
        except DcmiError as error:
            raise Refused(_of_driver(error)) from error
        return len(self._npus)

    def read(self, index: int, reader: Reader) -> None:
        """Read one NPU."""
        card, device = self._npus[index]
        reader.values |= {"card": card, "device": device}
        # npu-smi, hccn_tool and the device plugin name an NPU by this number
        physical = reader.take(
            "physical_id", "dcmi_get_device_phyid_from_logicid", partial(self._physical, index)
        )
        if physical is not None:
            reader.identity["index"] = physical
        self._health(card, device, reader)
        self._identity(card, device, reader)
        for name, call, factor, type_ in _NUMBERS:
            reader.take(name, call, partial(self._ask, index, call, factor, type_))
        reader.take(
            "fault_codes",
            "dcmi_get_device_errorcode_v2",
            lambda: [f"{code:08X}" for code in sorted(self._dcmi.codes(card, device))],
        )
        self._memory(card, device, reader)
        reader.take(
            "aicore_utilization_percent",
            "dcmi_get_device_utilization_rate",
            lambda: self._dcmi.number(
                "dcmi_get_device_utilization_rate", card, device, dcmi.USE_AICORE, type_=c_uint
            ),
        )
        reader.take(
            "aicore_clock_mhz",
            "dcmi_get_device_frequency",
            lambda: self._dcmi.number(
                "dcmi_get_device_frequency", card, device, dcmi.CLOCK_AICORE, type_=c_uint
            ),
        )

    def failure_of(self, error: Exception) -> Failure | None:
        """Return what a DCMI error means for the call on one NPU."""
        return _failure(error) if isinstance(error, DcmiError) else None

    def _ask(self, index: int, call: str, factor: int, type_: Any) -> int:
        card, device = self._npus[index]
        if type_ is None:
            return self._dcmi.number(call, card, device) * factor
        return self._dcmi.number(call, card, device, type_=type_) * factor

    def _health(self, card: int, device: int, reader: Reader) -> None:
        call = "dcmi_get_device_health"
        ask = partial(self._dcmi.number, call, card, device, type_=c_uint)
        reader.take("health", call, ask)
        found = reader.failures.get("health")
        if found is not None and found.number in _GONE:
            raise Refused(Failure("lost", found.text, found.number))

    def _physical(self, index: int) -> int:
        logic = c_int()
        self._dcmi.call("dcmi_get_device_logic_id", byref(logic), *self._npus[index])
        return self._dcmi.number("dcmi_get_device_phyid_from_logicid", logic.value, type_=c_uint)

    def _identity(self, card: int, device: int, reader: Reader) -> None:
        def filled(structure: type[Any], call: str, *more: int) -> Any:
            return self._dcmi.filled(structure, call, card, device, *more)

        for name, call, ask in (
            (
                "pci_bus_id",
                "dcmi_get_device_pcie_info_v2",
                lambda: filled(dcmi.Pcie, "dcmi_get_device_pcie_info_v2").address,
            ),
            (
                "uuid",
                "dcmi_get_device_die_v2",
                lambda: str(filled(dcmi.Die, "dcmi_get_device_die_v2", dcmi.DIE_V)),
            ),
            (
                "name",
                "dcmi_get_device_chip_info",
                lambda: filled(dcmi.Chip, "dcmi_get_device_chip_info").name.decode(
                    errors="replace"
                ),
            ),
        ):
            value = reader.take(name, call, ask)
            if value:
                reader.identity[name] = value

    def _memory(self, card: int, device: int, reader: Reader) -> None:
        def hbm() -> list[int]:
            found = self._dcmi.filled(dcmi.Hbm, "dcmi_get_device_hbm_info", card, device)
            return [found.size_mib * _MIB, found.used_mib * _MIB, found.temperature_c]

        def ecc() -> list[int]:
            found = self._dcmi.filled(
                dcmi.Ecc, "dcmi_get_device_ecc_info", card, device, dcmi.MEMORY_HBM
            )
            return [
                found.single_bit,
                found.double_bit,
                found.single_bit_total,
                found.double_bit_total,
                found.isolated_single_bit,
                found.isolated_double_bit,
            ]

        reader.take_all(
            ("hbm_total_bytes", "hbm_used_bytes", "hbm_temperature_c"),
            "dcmi_get_device_hbm_info",
            hbm,
        )
        reader.take_all(
            (
                "hbm_single_bit_errors",
                "hbm_double_bit_errors",
                "hbm_single_bit_errors_total",
                "hbm_double_bit_errors_total",
                "hbm_isolated_single_bit_pages",
                "hbm_isolated_double_bit_pages",
            ),
            "dcmi_get_device_ecc_info",
            ecc,
        )


def _failure(error: DcmiError) -> Failure:
    return Failure(_KINDS.get(error.number, "error"), f"DCMI: {error}", error.number)


def _of_driver(error: DcmiError) -> Failure:
    """Return what an error means where no single NPU is asked."""
    kind: FailureKind = "error"
    if error.number == dcmi.NOT_READY:
        kind = "not_loaded"
    elif error.number == dcmi.NOT_PERMITTED:
        kind = "no_permission"
    return Failure(kind, f"DCMI: {error}", error.number)


if __name__ == "__main__":
    child.serve(Ascend())
