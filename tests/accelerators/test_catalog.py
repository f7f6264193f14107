import json

import pytest

from accelerators.catalog import DTYPES, Accelerator, load_catalog
from accelerators.errors import UsageError

WANTED = [
    "t4",
    "v100-16g-sxm2",
    "v100-32g-sxm2",
    "v100-16g-pcie",
    "a10",
    "a10g",
    "a30",
    "a40",
    "l4",
    "l20",
    "l40s",
    "a100-40g-pcie",
    "a100-40g-sxm",
    "a100-80g-pcie",
    "a100-80g-sxm",
    "h20",
    "h100-pcie",
    "h100-sxm",
    "h200",
    "b200",
    "rtx-4090",
    "rtx-pro-6000",
    "ascend-910b",
]


def test_every_promised_type_is_there() -> None:
    assert set(WANTED) <= load_catalog().keys()


@pytest.mark.parametrize("type_", load_catalog().values(), ids=lambda type_: type_.name)
def test_every_figure_has_a_source(type_: Accelerator) -> None:
    wanted = {"memory", "memory_bandwidth", "flops"}
    for group, figure in [
        ("link", type_.link_bytes_per_s),
        ("pcie", type_.pcie_generation),
        ("power", type_.power_w),
        ("price", type_.price_usd_per_hour),
    ]:
        if figure is not None:
            wanted.add(group)
    assert type_.sources.keys() == wanted
    assert all(type_.sources.values())
    assert (type_.price_usd_per_hour is None) == (type_.price_date is None)
    assert (type_.price_usd_per_hour is None) == (type_.price_basis is None)


@pytest.mark.parametrize("type_", load_catalog().values(), ids=lambda type_: type_.name)
def test_figures_are_dense_and_in_base_units(type_: Accelerator) -> None:
    """A sparse rate or a unit slip shows as an odd ratio of 8-bit to 16-bit operations."""
    assert 8e9 < type_.memory_bytes < 300e9
    assert 200e9 < type_.memory_bandwidth_bytes_per_s < 10e12
    for dtype in ("fp8", "int8"):
        if dtype in type_.flops:
            assert type_.flops[dtype] / type_.flops["fp16"] in (
                pytest.approx(2.0, rel=0.03),
                pytest.approx(4.0, rel=0.03),
            )


def test_json_carries_units_and_null_for_what_is_missing() -> None:
    body = load_catalog()["t4"].to_json()
    json.dumps(body)
    assert body["dense_flops_per_s"] == {"fp16": 65e12, "bf16": None, "fp8": None, "int8": 130e12}
    assert set(body["dense_flops_per_s"]) == set(DTYPES)
    assert body["link_bidirectional_bytes_per_s"] is None


def test_override_changes_a_price_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        "[accelerators.a10]\nprice_usd_per_hour = 0.5\nprice_date = 2026-11-01\n"
        'sources = { price = "our contract" }\n'
    )
    before, after = load_catalog()["a10"], load_catalog(path)["a10"]
    assert (after.price_usd_per_hour, after.price_date) == (0.5, "2026-11-01")
    assert after.sources["price"] == "our contract"
    assert after.sources["memory"] == before.sources["memory"]
    assert after.flops == before.flops
    assert load_catalog()["a10"] == before


def test_override_price_makes_an_estimate_a_list_price(tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[accelerators.l20]\nprice_usd_per_hour = 1.1\n")
    assert load_catalog()["l20"].price_basis == "estimate"
    changed = load_catalog(path)["l20"]
    assert (changed.price_basis, changed.price_date) == ("list", None)


def test_override_adds_a_type(tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[accelerators.x1]\ntitle = "X1"\nvendor = "Ours"\nmemory_mib = 1024\n'
        "memory_bandwidth_gb_per_s = 100\ntflops = { bf16 = 10 }\n"
    )
    added = load_catalog(path)["x1"]
    assert (added.memory_bytes, added.flops["bf16"]) == (2**30, 10e12)
    assert added.power_w is None
    assert added.sources["flops"] == str(path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[accelerators.a10]\nprice = 1\n", "'price'"),
        ("[accelerators.a10]\nprice_usd_per_hour = -1\n", "price_usd_per_hour"),
        ("[accelerators.a10]\nprice_usd_per_hour = true\n", "price_usd_per_hour"),
        ("[accelerators.a10]\npower_w = inf\n", "power_w"),
        ("[accelerators.a10]\nprice_basis = 'guess'\n", "price_basis"),
        ("[accelerators.a10]\npcie_width = 7.5\n", "pcie_width"),
        ("[accelerators.a10]\nprice_date = 'tomorrow'\n", "price_date"),
        ("[accelerators.a10]\ntflops = { fp4 = 1 }\n", "tflops"),
        ("[accelerators.a10]\naliases = 'x'\n", "aliases"),
        ("[accelerators.a10]\nsources = { price = 1 }\n", "sources"),
        ("[accelerators.new]\nmemory_mib = 10\n", "title"),
        ("[accelerators]\na10 = 3\n", "a10"),
        ("a10 = 3\n", "'a10'"),
        ("", "[accelerators.NAME]"),
        ("[accelerators.a10\n", "line 1"),
    ],
)
def test_a_bad_override_names_file_and_key(tmp_path, text: str, named: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_catalog(path)
    assert named in caught.value.message
    assert "own.toml" in caught.value.message
