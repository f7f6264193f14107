"""What rounds of a watch are held against."""

from diagnose.facts import Facts
from diagnose.findings import Report
from diagnose.watch import _History


def entered(history: _History, at_s: float, **families: Facts) -> None:
    history.enter(at_s, Report(facts=families))


def test_rates_are_held_against_a_round_of_a_minute_ago() -> None:
    history = _History()
    assert history.before(0) == {}
    for second in range(0, 200, 7):
        entered(history, second, nvidia=Facts({"second": second}, family="nvidia"))
    earlier = history.before(200)["nvidia"]
    assert (earlier.facts.get("second"), earlier.age_s) == (140, 60)
    assert len(history.rounds["nvidia"]) < 12


def test_a_driver_that_did_not_answer_is_held_against_its_last_answer() -> None:
    history = _History()
    entered(history, 0, nvidia=Facts({"round": 1}, family="nvidia"), ascend=Facts(family="ascend"))
    hung = Facts(family="nvidia", hung_in="nvmlInit_v2")
    entered(history, 300, nvidia=hung, ascend=Facts(family="ascend"))
    ages_s = {name: earlier.age_s for name, earlier in history.before(310).items()}
    assert ages_s == {"nvidia": 310, "ascend": 310}
    entered(history, 400, nvidia=hung, ascend=Facts(family="ascend"))
    assert history.before(410)["nvidia"].age_s == 410
    assert history.before(410)["ascend"].age_s == 110
