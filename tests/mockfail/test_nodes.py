import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.catalog import load_catalog
from accelerators.errors import ToolError
from accelerators.names import resolve
from mockfail.nodes import node
from mockfail.properties import MAX_LINKS, NOT_SUPPORTED, PROPERTIES, STRING_BYTES
from mockfail.state import Node

TYPES = sorted(load_catalog())
NVIDIA = sorted(name for name, type_ in load_catalog().items() if type_.vendor == "NVIDIA")
KINDS = {"int": int, "bool": bool, "str": str}


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Node, list[str]]:
    """Nodes of up to three types, with the canonical name of each card in order."""
    entries = draw(
        st.lists(st.tuples(st.sampled_from(TYPES), st.integers(1, 20)), min_size=1, max_size=3)
    )
    spec = ",".join(f"{name}x{count}" for name, count in entries)
    return node(spec), [name for name, count in entries for _ in range(count)]


@given(nodes())
def test_has_every_property_of_every_card_in_its_type(made):
    made, _ = made
    scopes = [("node", made.values), *(("npu", npu) for npu in made.npus)]
    for gpu in made.gpus:
        scopes += [("gpu", gpu.values), *(("link", link) for link in gpu.links)]
    for scope, values in scopes:
        assert list(values) == [entry.name for entry in PROPERTIES[scope]]
        for entry in PROPERTIES[scope]:
            value = values[entry.name]
            if entry.type == "str":
                assert isinstance(value, str)
                assert len(value.encode()) < STRING_BYTES
            elif value != NOT_SUPPORTED:
                assert type(value) is KINDS[entry.type], (entry.name, value)


@given(nodes())
def test_identities_are_unique_and_repeatable(made):
    made, names = made
    addresses = [gpu.values["pci_bus_id"] for gpu in made.gpus]
    addresses += [npu["pci_bus_id"] for npu in made.npus]
    switches = {
        link["remote_pci_bus_id"] for g in made.gpus for link in g.links if link["remote_type"]
    }
    assert len({*addresses}) == len(names)
    assert not switches & {*addresses}
    assert len({gpu.values["uuid"] for gpu in made.gpus}) == len(made.gpus)
    serials = [gpu.values["serial"] for gpu in made.gpus if gpu.values["serial"]]
    assert len({*serials}) == len(serials)
    gpu_addresses = [gpu.values["pci_bus_id"] for gpu in made.gpus]
    assert gpu_addresses == sorted(gpu_addresses)


@given(nodes())
def test_readings_are_those_of_healthy_idle_cards(made):
    made, names = made
    types = [load_catalog()[name] for name in names]
    for gpu, type_ in zip(made.gpus, [t for t in types if t.vendor == "NVIDIA"], strict=True):
        v = gpu.values
        assert v["memory_total_bytes"] == type_.memory_bytes
        assert v["memory_used_bytes"] + v["memory_reserved_bytes"] < 0.02 * type_.memory_bytes
        assert 20 < v["temperature_c"] < v["threshold_gpu_max_c"] - 20
        assert v["threshold_gpu_max_c"] < v["threshold_slowdown_c"] < v["threshold_shutdown_c"]
        assert v["power_mw"] < 0.4 * v["power_limit_mw"]
        assert v["power_limit_min_mw"] <= v["power_limit_mw"] <= v["power_limit_max_mw"]
        assert v["power_limit_mw"] == type_.power_w * 1000
        assert v["pcie_width_current"] == v["pcie_width_max"] == type_.pcie_width
        assert v["pcie_generation_current"] <= v["pcie_generation_max"] == type_.pcie_generation
        for domain in ("graphics", "sm", "memory", "video"):
            assert v[f"clock_{domain}_mhz"] <= v[f"clock_{domain}_max_mhz"]
        assert (v["memory_temperature_c"] == NOT_SUPPORTED) == (
            v["threshold_memory_max_c"] == NOT_SUPPORTED
        )
        held_back = [name for name in v if name.startswith("throttle_") and v[name] is True]
        assert held_back == ["throttle_idle"]
        counters = [
            value for name, value in v.items() if name.startswith("ecc_") if "_mode" not in name
        ]
        assert {*counters} <= {0, NOT_SUPPORTED}
        assert all(value == NOT_SUPPORTED for value in counters) == (not v["ecc_mode_current"])


@given(nodes())
def test_each_nvlink_is_up_and_leads_somewhere_and_back(made):
    made, _ = made
    by_address = {gpu.values["pci_bus_id"]: gpu for gpu in made.gpus}
    for gpu in made.gpus:
        assert gpu.values["nvlinks"] == len(gpu.links) <= MAX_LINKS
        for link in gpu.links:
            assert link["active"]
            if link["remote_type"] == 0:
                ends = [x["remote_pci_bus_id"] for x in gpu.links]
                mate = by_address[link["remote_pci_bus_id"]]
                back = [x["remote_pci_bus_id"] for x in mate.links]
                remote, own = link["remote_pci_bus_id"], gpu.values["pci_bus_id"]
                assert remote != own
                assert ends.count(remote) == back.count(own)


def test_each_figure_of_memory_bandwidth_agrees_with_bus_and_clock():
    """The catalogue's bandwidth, from other sources, checks bus width and memory clock here."""
    for name in NVIDIA:
        values = node(name).gpus[0].values
        hertz = values["clock_memory_max_mhz"] * 1e6
        derived = values["memory_bus_width_bits"] / 8 * hertz * 2
        stated = load_catalog()[name].memory_bandwidth_bytes_per_s
        assert derived == pytest.approx(stated, rel=0.05), name


def test_the_name_that_the_driver_gives_means_the_same_type():
    for name in NVIDIA:
        assert resolve(node(name).gpus[0].values["name"]).name == name


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("h100x8", ["NVIDIA H100 80GB HBM3"] * 8),
        ("H100-SXM x8", ["NVIDIA H100 80GB HBM3"] * 8),
        ("h200:2", ["NVIDIA H200"] * 2),
        ("4xl20", ["NVIDIA L20"] * 4),
        ("2 × a10", ["NVIDIA A10"] * 2),
        ("a10x2,l4x1", ["NVIDIA A10", "NVIDIA A10", "NVIDIA L4"]),
        ("rtx4090", ["NVIDIA GeForce RTX 4090"]),
        ("RTX4090x2", ["NVIDIA GeForce RTX 4090"] * 2),
        ("NVIDIA A100-SXM4-80GB:1", ["NVIDIA A100-SXM4-80GB"]),
    ],
)
def test_accepts_names_and_counts_as_people_write_them(spec, names):
    assert [gpu.values["name"] for gpu in node(spec).gpus] == names


def test_counts_npus_apart_from_gpus():
    made = node("910bx8,h100x64")
    assert (len(made.gpus), len(made.npus)) == (64, 8)
    assert [npu["card"] for npu in made.npus] == [*range(8)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "empty entry"),
        ("h100x8,", "empty entry"),
        ("h100x0", "asks for 0 of 'h100'; expected 1 to 64"),
        ("h100x65", "asks for 65 of 'h100'"),
        ("h100x40,a10x40", "has 80 GPUs; a simulated node has at most 64"),
        ("banana:3", "'banana' is no known accelerator"),
        ("rtx4091", "'rtx4091' is no known accelerator"),
        ("v100x8", "v100-16g-sxm2"),
    ],
)
def test_refuses_what_it_cannot_make(spec, words):
    with pytest.raises(ToolError) as caught:
        node(spec)
    assert caught.value.kind == "usage"
    assert caught.value.hint
    assert words in caught.value.message
