import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.catalog import Accelerator, load_catalog
from accelerators.errors import UsageError
from accelerators.names import resolve

TYPES = list(load_catalog().values())


@given(st.sampled_from(TYPES), st.data())
def test_any_spelling_of_a_name_finds_its_type(type_: Accelerator, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([type_.name, *type_.aliases, *type_.default_for]))
    separator = data.draw(st.sampled_from(["-", "_", " ", "/"]))
    spelled = separator.join(data.draw(st.permutations(name.replace("-", " ").split())))
    vendor = data.draw(st.sampled_from(["", type_.vendor + separator]))
    spelled = data.draw(st.sampled_from([str.upper, str.lower, str]))(vendor + spelled)
    assert resolve(spelled).name == type_.name


@given(st.sampled_from(TYPES), st.data())
def test_qualifiers_do_not_change_what_a_full_name_means(
    type_: Accelerator, data: st.DataObject
) -> None:
    extra = data.draw(st.lists(st.sampled_from(type_.qualifiers), unique=True))
    assert resolve(" ".join([type_.name, *extra])).name == type_.name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a100-80g", "a100-80g-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-80g-sxm"),
        ("NVIDIA A100 80GB PCIe", "a100-80g-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA-H100-80GB-HBM3", "h100-sxm"),
        ("Tesla V100-SXM2-32GB", "v100-32g-sxm2"),
        ("nvidia-tesla-t4", "t4"),
        ("rtx4090", "rtx-4090"),
        ("910B3", "ascend-910b"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
    ],
)
def test_names_in_the_wild(name: str, found: str) -> None:
    assert resolve(name).name == found


def test_an_ambiguous_name_is_refused_with_its_candidates() -> None:
    with pytest.raises(UsageError, match="a100-40g-pcie, a100-40g-sxm, a100-80g-pcie") as caught:
        resolve("a100")
    assert caught.value.code == "accelerators.ambiguous"


@pytest.mark.parametrize(
    ("name", "near"), [("a11", "a10"), ("l40", "l40s"), ("H100 NVL", "h100-sxm")]
)
def test_an_unknown_name_gets_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=near) as caught:
        resolve(name)
    assert caught.value.code == "accelerators.unknown"


@pytest.mark.parametrize("name", ["", "sxm", "80g", "rtx 6000 ada", "NVIDIA GH200 480GB"])
def test_a_name_that_only_looks_alike_is_not_taken(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(name)
    assert caught.value.code == "accelerators.unknown"
