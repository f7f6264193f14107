"""Scenarios in the TOML of AIBrix's ai-accelerator-tool, 0.1.0 and 0.2.0.

Its counts become nodes of so many cards, its keys readings that every call agrees on. Where it set
one counter and left the others healthy, the others follow as they do on a real card.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from accelerators.errors import UsageError
from accelerators.names import resolve
from mockfail import values
from mockfail.properties import MAX_GPUS, MAX_LINKS, MAX_NPUS, Scope
from mockfail.scenario import Fault, Scenario, fault_code, xid_number
from mockfail.state import Value
from mockfail.toml_reader import Document, Table

VERSIONS = ("0.1.0", "0.2.0")
_ASCEND = ("ascend-npus", "ascend_npus")
_OF_ARCHITECTURE = {5: "v100-16g-sxm2", 6: "t4", 7: "a100-80g-sxm", 8: "l40s", 9: "h100-sxm"}
_READINGS: dict[str, tuple[str, ...]] = {
    "device_name": ("name",),
    "arch": ("architecture",),
    "uuid": ("uuid",),
    "link_gen": ("pcie_generation_current",),
    "link_width_current": ("pcie_width_current",),
    "link_width_max": ("pcie_width_max",),
    "remapping_failure": ("remap_failure",),
    "remapping_pending": ("remap_pending",),
    "sram_ue": ("ecc_uncorrected_volatile_sram", "ecc_uncorrected_aggregate_sram"),
    "dram_ue": ("ecc_uncorrected_volatile_dram", "ecc_uncorrected_aggregate_dram"),
    "dram_ce": ("ecc_corrected_volatile_dram", "ecc_corrected_aggregate_dram"),
    "retired_page_sbe": ("retired_pages_sbe",),
    "retired_page_dbe": ("retired_pages_dbe",),
    "retired_page_pending": ("retired_pages_pending",),
    "uncorrectable_agg_l1": ("ecc_uncorrected_aggregate_l1",),
    "uncorrectable_agg_l2": ("ecc_uncorrected_aggregate_l2",),
    "uncorrectable_agg_reg": ("ecc_uncorrected_aggregate_register_file",),
}
_TYPES: dict[str, type] = {"int": int, "bool": bool, "str": str}


def recognise(document: Document) -> bool:
    """Tell whether a document is one of these."""
    top = document.values
    return "fault" not in top and ("gpus" in top or any(key in top for key in _ASCEND))


def parse(text: str, source: str, name: str) -> Scenario:
    """Read a scenario.

    Raises:
        ScenarioError: names every mistake, with line and key.
    """
    document = Document(text, source)
    root = document.root()
    version = root.take("version", str)
    if version is not None and version not in VERSIONS:
        root.note("version", f"is {version!r}; expected {' or '.join(VERSIONS)}")
    gpus, npus = root.table("gpus"), None
    for key in _ASCEND:
        npus = root.table(key) or npus
    faults, cards = _gpus(gpus) if gpus else ([], "")
    npu_faults, npu_cards = _npus(npus) if npus else ([], "")
    root.end()
    document.finish()
    return Scenario(
        name,
        source,
        title=f"ai-accelerator-tool scenario {name}",
        accelerator="nvidia" if gpus else "ascend",
        node=",".join(part for part in (cards, npu_cards) if part),
        faults=(*faults, *npu_faults),
    )


def _gpus(table: Table) -> tuple[list[Fault], str]:
    """Return the faults of ``[gpus]``, and the node that it takes for given."""
    count = _count(table, MAX_GPUS)
    faults = _of_node(table, "nvml_init_error", "init_error")
    names, highest = [], -1
    for index, card in _numbered(table, MAX_GPUS):
        names.append(_type(card.values))
        highest = max(highest, index)
        faults += _gpu(index, card)
        card.end()
    table.end()
    if count is not None:
        faults.append(_hidden("gpu", count, MAX_GPUS))
    type_ = next((name for name in names if name), "h100-sxm")
    return faults, f"{type_}x{max(count or 0, highest + 1, 1) if count is None else max(count, 1)}"


def _count(table: Table, most: int) -> int | None:
    count = table.take("card_count", int)
    if count is not None and not 0 <= count <= most:
        table.note("card_count", f"is {count}; expected 0 to {most}")
        return None
    return None if count is None else int(count)


def _hidden(kind: Any, count: int, most: int) -> Fault:
    return Fault(kind, tuple(range(count, most)), values={"hidden": True}, forced=True)


def _of_node(table: Table, key: str, name: str) -> list[Fault]:
    value = table.read(key, lambda v: values.read(values.find("node", name), v), int)
    return [] if value is None else [Fault(values={name: value}, forced=True)]


def _numbered(table: Table, most: int) -> list[tuple[int, Table]]:
    """Return the tables below whose keys are numbers."""
    found = []
    for key in [key for key in table.values if re.fullmatch("[0-9]{1,9}", key)]:
        below = table.table(key)
        if int(key) >= most:
            table.note(key, f"expected 0 to {most - 1}")
        elif below is not None:
            found.append((int(key), below))
    return found


def _type(card: Mapping[str, Any]) -> str | None:
    """Return the catalogue's name of the card that the keys describe; None when they don't."""
    name, architecture = card.get("device_name"), card.get("arch")
    try:
        type_ = resolve(name) if isinstance(name, str) else None
    except UsageError:
        type_ = None
    if type_ is not None and type_.vendor == "NVIDIA":
        return type_.name
    return _OF_ARCHITECTURE.get(architecture) if isinstance(architecture, int) else None


def _gpu(index: int, card: Table) -> list[Fault]:
    read: dict[str, Value] = {}
    for key, names in _READINGS.items():
        property_ = values.named("gpu")[names[0]]
        value = card.read(key, _reader("gpu", names[0]), _TYPES[property_.type])
        read |= {} if value is None else dict.fromkeys(names, value)
    address = card.read("pci", _address, str)
    read |= {} if address is None else {"pci_bus_id": address}
    xids = [card.parsed(path, xid_number, xid) for path, xid in card.every("crictl_xid", int)]
    faults = [Fault("gpu", (index,), values=read, forced=True)] if read else []
    known = tuple(xid for xid in xids if xid is not None)
    faults += [Fault("gpu", (index,), xids=known, forced=True)] if known else []
    return faults + _links(index, card)


def _links(index: int, card: Table) -> list[Fault]:
    states = [active for _, active in card.every("nvlink_active", bool)]
    if len(states) > MAX_LINKS:
        card.note("nvlink_active", f"has {len(states)} links; expected at most {MAX_LINKS}")
        return []
    return [
        Fault("gpu", (index,), links=(link,), values={"active": active}, forced=True)
        for link, active in enumerate(states)
    ]


def _reader(scope: Scope, name: str) -> Callable[[Any], Value]:
    return lambda value: values.read(values.find(scope, name), value)


def _address(text: str) -> str:
    """Return a full address for ``bus:device`` or any longer form."""
    parts = text.split(":")
    if len(parts) == 2:
        text = f"00000000:{text}" if "." in parts[1] else f"00000000:{text}.0"
    elif "." not in text:
        text = f"{text}.0"
    return values.pci_address(text)


def _npus(table: Table) -> tuple[list[Fault], str]:
    """Return the faults of ``[ascend-npus]``, and the node that it takes for given."""
    count = _count(table, MAX_NPUS)
    faults = _of_node(table, "dcmi_init_error", "dcmi_init_error")
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for card, devices in _numbered(table, MAX_NPUS):
        for device, npu in _numbered(devices, MAX_NPUS):
            given = npu.every("fault_codes", int, str)
            read = [npu.parsed(path, fault_code, code) for path, code in given]
            found[card, device] = tuple(code for code in read if code is not None)
            npu.end()
        devices.end()
    table.end()
    if count is not None:
        faults.append(_hidden("npu", count, MAX_NPUS))
    size = max(1, len(found), *(card + 1 for card, _ in found)) if count is None else max(count, 1)
    for index, (place, codes) in _placed(found, size).items():
        if place != (index, 0):
            where: dict[str, Value] = {"card": place[0], "device": place[1]}
            faults.append(Fault("npu", (index,), values=where, forced=True))
        faults += [Fault("npu", (index,), codes=codes, forced=True)] if codes else []
    return faults, f"ascend-910bx{min(size, MAX_NPUS)}"


def _placed(
    found: Mapping[tuple[int, int], tuple[int, ...]], size: int
) -> dict[int, tuple[tuple[int, int], tuple[int, ...]]]:
    """Give each card and device an NPU of the node, whose NPUs are device 0 of their own card."""
    placed = {card: ((card, 0), codes) for (card, device), codes in found.items() if device == 0}
    free = [index for index in range(size) if index not in placed]
    for place, codes in found.items():
        if place[1] and free:
            placed[free.pop(0)] = (place, codes)
    return placed
