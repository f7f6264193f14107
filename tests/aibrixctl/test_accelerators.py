from collections.abc import Callable
from typing import Any


def test_list_names_every_type_with_units_in_its_keys(cli_json: Callable[..., Any]) -> None:
    types = cli_json("accelerators", "list")["data"]["accelerators"]
    names = [type_["name"] for type_ in types]
    assert {"a10", "l20", "a100-80g-sxm", "h100-sxm", "ascend-910b"} <= set(names)
    assert names == sorted(names)


def test_list_as_csv_has_a_line_for_each_type(cli: Callable[..., Any]) -> None:
    lines = cli("accelerators", "list", "-o", "csv").out.splitlines()
    header, first = lines[0].split(","), lines[1].split(",")
    assert dict(zip(header, first, strict=False))["name"] == "a10"
    assert "dense_flops_per_s.bf16" in header


def test_an_estimated_price_is_marked(cli: Callable[..., Any]) -> None:
    table = cli("accelerators", "list").out
    assert "~$1.86" in next(line for line in table.splitlines() if line.startswith("l20 "))
    assert "estimate:" in cli("accelerators", "show", "l20").out


def test_show_finds_a_drivers_name_and_says_where_figures_come_from(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    body = cli_json("accelerators", "show", "NVIDIA A100-SXM4-80GB")["data"]
    assert body["name"] == "a100-80g-sxm"
    assert body["dense_flops_per_s"]["bf16"] == 312e12
    assert body["dense_flops_per_s"]["fp8"] is None
    shown = cli("accelerators", "show", "a100-80g").out
    assert "NVIDIA A100 data sheet" in shown
    assert "2039 GB/s" in shown


def test_a_file_overrides_a_price(cli_json: Callable[..., Any], tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[accelerators.a10]\nprice_usd_per_hour = 0.5\n")
    body = cli_json("accelerators", "show", "a10", "--accelerators", str(path))["data"]
    assert (body["price_usd_per_hour"], body["price_date"]) == (0.5, None)
    assert body["sources"]["price"] == str(path)


def test_an_ambiguous_and_an_unknown_name_are_usage_errors(cli_json: Callable[..., Any]) -> None:
    for name, code in (("v100", "accelerators.ambiguous"), ("a11", "accelerators.unknown")):
        body = cli_json("accelerators", "show", name)
        assert (body["exit_code"], body["errors"][0]["code"]) == (2, code)
