import pytest

from accelerators.errors import UsageError
from profiler.targets import parse_targets


def test_a_simulated_target_has_its_type_and_list_price() -> None:
    (target,) = parse_targets(["a10=sim:a10"])
    assert target.accelerator is not None
    assert (target.name, target.kind, target.accelerator.name) == ("a10", "sim", "a10")
    assert target.cost_usd_per_hour == target.accelerator.price_usd_per_hour


def test_a_replica_of_several_costs_their_sum() -> None:
    one, four = parse_targets(["one=sim:a100-80g", "four=sim:a100-80gx4"])
    assert four.gpus == 4
    assert one.cost_usd_per_hour is not None
    assert four.cost_usd_per_hour == pytest.approx(4 * one.cost_usd_per_hour)


def test_an_engine_has_no_price_until_one_is_given() -> None:
    engine, priced = parse_targets(
        ["l20=http://10.0.0.7:8000/", "v=https://gw.example/v100"],
        costs=["v=$2.5"],
        gpus=["v=2"],
    )
    assert (engine.where, engine.cost_usd_per_hour) == ("http://10.0.0.7:8000", None)
    assert (priced.cost_usd_per_hour, priced.gpus) == (2.5, 2)


def test_costs_are_given_one_by_one_or_together() -> None:
    texts = ["l20=http://10.0.0.7:8000", "a10=http://10.0.0.8:8000", "v=http://10.0.0.9:8000"]
    priced = parse_targets(texts, costs=["l20=1.1, a10=$0.6", "v=2"])
    assert [target.cost_usd_per_hour for target in priced] == [1.1, 0.6, 2.0]


def test_a_price_is_no_part_of_what_was_measured() -> None:
    (list_price,) = parse_targets(["a10=sim:a10"])
    (own_price,) = parse_targets(["a10=sim:a10"], costs=["a10=9"])
    assert list_price.identity() == own_price.identity()


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ([], {}, "no target"),
        (["a10"], {}, "not a target"),
        (["=sim:a10"], {}, "can't name a file"),
        (["../x=sim:a10"], {}, "can't name a file"),
        (["a=sim:a10", "a=sim:l20"], {}, "given twice"),
        (["a=ftp://x"], {}, "points to"),
        (["a=http://"], {}, "points to"),
        (["a=http://host:port"], {}, "points to"),
        (["a=http://u:secret@host"], {}, "holds a password"),
        (["a=sim:a11"], {}, "did you mean a10"),
        (["a=sim:a10x0"], {}, "no accelerator"),
        (["a10=sim:a10"], {"costs": ["a01=1"]}, "names 'a01'"),
        (["a10=sim:a10"], {"costs": ["a10=free"]}, "cost of a10"),
        (["a10=sim:a10"], {"costs": ["a10=-1"]}, "cost of a10"),
        (["a10=sim:a10"], {"costs": ["a10=1,"]}, "'' is not NAME=VALUE"),
        (["a10=sim:a10"], {"costs": ["a10"]}, "NAME=VALUE"),
        (["a=http://h"], {"gpus": ["a=0"]}, "whole number"),
        (["a=sim:a10x2"], {"gpus": ["a=4"]}, "contradict"),
    ],
)
def test_bad_targets_say_what_is_wrong(
    targets: list[str], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_targets(targets, **options)  # type: ignore[arg-type]


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets(["a=http://u:hunter2@host"])
    assert "hunter2" not in caught.value.message + caught.value.hint + str(caught.value.target)
