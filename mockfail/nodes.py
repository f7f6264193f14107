"""Healthy simulated nodes: ``h100x8``, ``a10x4,l4x2``, ``8x 910b``.

A node is idle and everything about it is deterministic: the same words give the same UUIDs, PCI
addresses and readings. Where a card has no such reading, the value is NOT_SUPPORTED.
"""

import re
import uuid
from collections import Counter

from accelerators.catalog import Accelerator
from accelerators.errors import UsageError
from accelerators.names import resolve
from mockfail.cards import CARDS, Architecture, Card
from mockfail.links import links_of
from mockfail.properties import MAX_GPUS, MAX_NPUS, NOT_SUPPORTED, PROPERTIES, Scope
from mockfail.state import Gpu, Node, Value

DRIVER_VERSION = "580.95.05"
CUDA_VERSION = 13_000
NPU_DRIVER_VERSION = "24.1.rc3"
DCMI_VERSION = "24.1.rc3"

_SUFFIXED = re.compile(r"^(?P<name>.+?)[\s_-]*[x×*:]\s*(?P<count>\d+)$")
_PREFIXED = re.compile(r"^(?P<count>\d+)(?:\s*[x×*]\s*|\s+)(?P<name>.+)$")
_BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)
_NPU_BUSES = (0x01, 0x02, 0x41, 0x42, 0x81, 0x82, 0xC1, 0xC2)
_SLOTS = 8  # of a PCI domain, half of them on each socket
_SEED = uuid.UUID("5a1c2f0e-7d3b-4c58-9e64-0b8f3d2a6c71")
_GIB = 2**30
_MIB = 2**20


def node(spec: str) -> Node:
    """Return a healthy idle node of the accelerators that ``spec`` names.

    Args:
        spec: names with counts in any usual form, several with commas: ``h100x8``, ``h200:8``,
            ``4x l20``, ``a10x2,l4x2``; a name alone is one card.

    Raises:
        UsageError: an unknown or ambiguous name, a count out of 1 to 64, a type without a
            profile of its readings.
    """
    cards = [type_ for name, count in _entries(spec) for type_ in [_resolve(name, spec)] * count]
    gpus = [type_ for type_ in cards if type_.vendor == "NVIDIA"]
    npus = [type_ for type_ in cards if type_.vendor == "Huawei"]
    for found, most, what in ((gpus, MAX_GPUS, "GPUs"), (npus, MAX_NPUS, "NPUs")):
        if len(found) > most:
            raise _refuse(spec, f"has {len(found)} {what}; a simulated node has at most {most}")
    slots = Counter[str]()
    built = []
    for index, type_ in enumerate(gpus):
        peers = [other for other, card in enumerate(gpus) if card.name == type_.name]
        built.append(_gpu(index, type_, CARDS[type_.name], peers, slots[type_.name]))
        slots[type_.name] += 1
    return Node(
        values=_checked("node", _node_values(bool(npus))),
        gpus=tuple(built),
        npus=tuple(_checked("npu", _npu(index, type_)) for index, type_ in enumerate(npus)),
    )


def _refuse(spec: str, problem: str) -> UsageError:
    return UsageError(
        "mockfail.node",
        f"node {spec!r} {problem}",
        hint="name accelerators with their counts, such as h100x8 or a10x2,l4x2",
        target=spec,
    )


def _entries(spec: str) -> list[tuple[str, int]]:
    entries = [_entry(part.strip(), spec) for part in spec.split(",")]
    for name, count in entries:
        if not 1 <= count <= MAX_GPUS:
            raise _refuse(spec, f"asks for {count} of {name!r}; expected 1 to {MAX_GPUS}")
    return entries


def _entry(part: str, spec: str) -> tuple[str, int]:
    """Return name and count; a name that ends in a number, such as RTX4090, is no count."""
    if not part:
        raise _refuse(spec, "has an empty entry")
    if _known(part):
        return part, 1
    for form in (_SUFFIXED, _PREFIXED):
        if (found := form.match(part)) and _known(found["name"]):
            return found["name"], int(found["count"])
    found = _SUFFIXED.match(part)
    resolve(found["name"] if found and len(found["count"]) <= 2 else part)
    raise _refuse(spec, f"has {part!r}; expected a name with a count")


def _known(name: str) -> bool:
    try:
        resolve(name)
    except UsageError as error:
        return error.code == "accelerators.ambiguous"
    return True


def _resolve(name: str, spec: str) -> Accelerator:
    type_ = resolve(name)
    if type_.vendor == "NVIDIA" and type_.name not in CARDS:
        raise _refuse(spec, f"names {type_.name}, whose readings are not known")
    return type_


def _checked(scope: Scope, values: dict[str, Value]) -> dict[str, Value]:
    """Return the values in the order of the properties, each of which must be there."""
    return {entry.name: values[entry.name] for entry in PROPERTIES[scope]}


def _node_values(npus: bool) -> dict[str, Value]:
    return {
        "driver_version": DRIVER_VERSION,
        "nvml_version": f"{CUDA_VERSION // 1000}.{DRIVER_VERSION}",
        "dcmi_version": DCMI_VERSION if npus else "",
        "npu_driver_version": NPU_DRIVER_VERSION if npus else "",
        "cuda_version": CUDA_VERSION,
        "init_error": 0,
        "init_hang_ms": 0,
        "dcmi_init_error": 0,
        "dcmi_init_hang_ms": 0,
    }


def pci_address(slot: int, buses: tuple[int, ...] = _BUSES) -> str:
    """Return the address of the card in a slot, eight to a PCI domain."""
    domain, place = divmod(slot, _SLOTS)
    return f"{domain:08X}:{buses[place]:02X}:00.0"


def _gpu(index: int, type_: Accelerator, card: Card, peers: list[int], place: int) -> Gpu:
    links = links_of(card, place, [pci_address(peer) for peer in peers])
    values = {
        **_identity(index, type_, card),
        **_switches(card),
        **_thermals(index, card),
        **_power(index, type_, card),
        **_clocks(card),
        **_memory(type_, card),
        **_host_link(type_, card),
        **_errors(card),
        **_fabric(card, len(links)),
    }
    return Gpu(values=_checked("gpu", values), links=links)


def _identity(index: int, type_: Accelerator, card: Card) -> dict[str, Value]:
    identity = uuid.uuid5(_SEED, f"{type_.name}/{index}")
    on_baseboard = card.links is not None
    return {
        "name": card.driver_name,
        "uuid": f"GPU-{identity}",
        "serial": str(1_320_000_000_000 + identity.int % 10**10) if card.serial else "",
        "pci_bus_id": pci_address(index),
        "vbios_version": card.vbios,
        "board_part_number": card.part,
        "inforom_image_version": card.image,
        "inforom_oem_version": "2.1" if card.serial else "2.0",
        "inforom_ecc_version": _ecc_object(card.architecture) if card.serial else "",
        "inforom_power_version": "",
        "gsp_firmware_version": DRIVER_VERSION if card.architecture > Architecture.VOLTA else "",
        "architecture": int(card.architecture),
        "brand": int(card.brand),
        "compute_capability_major": card.compute[0],
        "compute_capability_minor": card.compute[1],
        "pci_device_id": card.device_id << 16 | 0x10DE,
        "pci_subsystem_id": card.subsystem_id << 16 | 0x10DE,
        "minor_number": index,
        "module_id": index % _SLOTS + 1 if on_baseboard else 1,
        "board_id": (index // _SLOTS) << 16 | _BUSES[index % _SLOTS] << 8,
        "cuda_cores": card.cores,
        "memory_bus_width_bits": card.bus_bits,
        "numa_node": index % _SLOTS // (_SLOTS // 2),
        "performance_state": card.idle_state,
        "virtualization_mode": 0,
        "inforom_valid": True,
    }


def _ecc_object(architecture: Architecture) -> str:
    if architecture >= Architecture.HOPPER:
        return "7.16"
    return "6.16" if architecture >= Architecture.AMPERE else "5.0"


def _switches(card: Card) -> dict[str, Value]:
    mig = False if card.mig else NOT_SUPPORTED
    held_back = (
        *("application_clocks", "power_cap", "hw_slowdown", "sync_boost", "sw_thermal"),
        *("hw_thermal", "power_brake", "display"),
    )
    return {
        "hidden": False,
        "lost": False,
        "reset_required": False,
        "hang_ms": 0,
        "recovery_action": 0,
        "multi_gpu_board": False,
        "display_active": False,
        "persistence_mode": True,
        "ecc_mode_current": card.ecc,
        "ecc_mode_pending": card.ecc,
        "mig_mode_current": mig,
        "mig_mode_pending": mig,
        "accounting_mode": False,
        "compute_mode": 0,
        "throttle_idle": True,
        **{f"throttle_{reason}": False for reason in held_back},
        "violation_power_ns": 0,
        "violation_thermal_ns": 0,
    }


def _thermals(index: int, card: Card) -> dict[str, Value]:
    temperature = card.idle_temperature_c + index % 3
    hbm = card.memory_max_c is not None
    return {
        "temperature_c": temperature,
        "memory_temperature_c": temperature + 5 if hbm else NOT_SUPPORTED,
        "threshold_shutdown_c": card.shutdown_c,
        "threshold_slowdown_c": card.slowdown_c,
        "threshold_gpu_max_c": card.gpu_max_c,
        "threshold_memory_max_c": NOT_SUPPORTED if card.memory_max_c is None else card.memory_max_c,
        "fans": card.fans,
        "fan_speed_percent": 30 if card.fans else NOT_SUPPORTED,
        "fan_speed_rpm": 1100 if card.fans else NOT_SUPPORTED,
    }


def _power(index: int, type_: Accelerator, card: Card) -> dict[str, Value]:
    lowest, highest = card.power_limits_w
    limit = highest if type_.power_w is None else round(type_.power_w)
    draw_mw = round(card.idle_power_w * (1000 + 7 * (index % 5)))
    up_s = 14 * 24 * 3600
    return {
        "power_mw": draw_mw,
        "power_limit_mw": limit * 1000,
        "power_limit_default_mw": limit * 1000,
        "power_limit_enforced_mw": limit * 1000,
        "power_limit_min_mw": lowest * 1000,
        "power_limit_max_mw": highest * 1000,
        "energy_mj": draw_mw * up_s,
    }


def _clocks(card: Card) -> dict[str, Value]:
    set_ = card.application
    values: dict[str, Value] = {
        "clock_application_graphics_mhz": NOT_SUPPORTED if set_ is None else set_.graphics,
        "clock_application_memory_mhz": NOT_SUPPORTED if set_ is None else set_.memory,
    }
    for clocks, suffix in ((card.idle, ""), (card.highest, "_max")):
        values |= {
            f"clock_graphics{suffix}_mhz": clocks.graphics,
            f"clock_sm{suffix}_mhz": clocks.graphics,
            f"clock_memory{suffix}_mhz": clocks.memory,
            f"clock_video{suffix}_mhz": clocks.video,
        }
    return values


def _memory(type_: Accelerator, card: Card) -> dict[str, Value]:
    engines = 0 if card.architecture >= Architecture.AMPERE else NOT_SUPPORTED
    return {
        "memory_total_bytes": type_.memory_bytes,
        "memory_used_bytes": 1 * _MIB,
        "memory_reserved_bytes": type_.memory_bytes // 150 // _MIB * _MIB,
        "bar1_total_bytes": int(card.bar1_gib * _GIB),
        "bar1_used_bytes": 1 * _MIB,
        "gpu_utilization_percent": 0,
        "memory_utilization_percent": 0,
        "encoder_utilization_percent": 0,
        "decoder_utilization_percent": 0,
        "jpeg_utilization_percent": engines,
        "ofa_utilization_percent": engines,
    }


def _host_link(type_: Accelerator, card: Card) -> dict[str, Value]:
    generation, width = type_.pcie_generation or 4, type_.pcie_width or 16
    return {
        "pcie_generation_current": 1 if card.sleeps else generation,
        "pcie_generation_max": generation,
        "pcie_generation_device_max": generation,
        "pcie_width_current": width,
        "pcie_width_max": width,
        "pcie_replays": 0,
        "pcie_tx_kb_per_s": 0,
        "pcie_rx_kb_per_s": 0,
    }


def _errors(card: Card) -> dict[str, Value]:
    """Return the counters of a card without an error: NVML has none where ECC is off."""
    places: tuple[str, ...] = ("dram", "sram")
    if card.architecture == Architecture.VOLTA:
        places = ("dram", "l1", "l2", "register_file", "texture")
    remaps, retires = card.remap_banks is not None, card.architecture < Architecture.AMPERE
    remapped = 0 if remaps else NOT_SUPPORTED
    values: dict[str, Value] = {
        entry.name: 0 if card.ecc and entry.name.endswith(places) else NOT_SUPPORTED
        for entry in PROPERTIES["gpu"]
        if entry.name.startswith(("ecc_corrected", "ecc_uncorrected"))
    }
    return values | {
        "retired_pages_sbe": 0 if retires else NOT_SUPPORTED,
        "retired_pages_dbe": 0 if retires else NOT_SUPPORTED,
        "retired_pages_pending": False if retires else NOT_SUPPORTED,
        "remapped_rows_correctable": remapped,
        "remapped_rows_uncorrectable": remapped,
        "remap_pending": False if remaps else NOT_SUPPORTED,
        "remap_failure": False if remaps else NOT_SUPPORTED,
        "remap_banks_max": NOT_SUPPORTED if card.remap_banks is None else card.remap_banks,
        **{f"remap_banks_{left}": remapped for left in ("high", "partial", "low", "none")},
        "sram_uncorrected_parity": remapped,
        "sram_uncorrected_secded": remapped,
        "sram_threshold_exceeded": False if remaps else NOT_SUPPORTED,
    }


def _fabric(card: Card, links: int) -> dict[str, Value]:
    managed = card.links is not None and card.architecture >= Architecture.HOPPER
    no_problem = 0b10_10_10_10  # each of the four conditions: 2 is false
    return {
        "nvlinks": links,
        "fabric_state": 3 if managed else 0,
        "fabric_status": 0,
        "fabric_health_mask": no_problem if managed else 0,
        "fabric_clique": 0,
    }


def _npu(index: int, type_: Accelerator) -> dict[str, Value]:
    identity = uuid.uuid5(_SEED, f"{type_.name}/{index}").int
    die = [f"{identity >> shift & 0xFFFFFFFF:08X}" for shift in (96, 64, 32, 0)]
    return {
        "name": "910B3",
        "pci_bus_id": pci_address(index, _NPU_BUSES),
        "die_id": " ".join([*die, f"{0x11D20110 + index:08X}"]),
        "lost": False,
        "hidden": False,
        "card": index,
        "device": 0,
        "hang_ms": 0,
        "health": 0,
        "temperature_c": 36 + index % 3,
        "power_mw": 91_000 + 700 * (index % 5),
        "voltage_mv": 840,
        "hbm_total_bytes": type_.memory_bytes,
        "hbm_used_bytes": 3_400 * _MIB,
        "hbm_temperature_c": 36 + index % 3,
        "hbm_clock_mhz": 1600,
        "hbm_bandwidth_percent": 0,
        "hbm_single_bit_errors": 0,
        "hbm_double_bit_errors": 0,
        "hbm_single_bit_errors_total": 0,
        "hbm_double_bit_errors_total": 0,
        "hbm_isolated_single_bit_pages": 0,
        "hbm_isolated_double_bit_pages": 0,
        "aicore_utilization_percent": 0,
        "aicore_clock_mhz": 1800,
        "aicore_count": 20,
        "network_health": 0,
        "pcie_generation_current": 4,
        "pcie_width_current": 16,
        "pcie_device_id": 0xD802_19E5,
    }
