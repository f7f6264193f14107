from pathlib import Path

import pytest

from diagnose import xid
from diagnose.errors import DiagnoseUsageError
from diagnose.explain import catalogue, explain, read_overrides
from diagnose.families import FAMILIES
from diagnose.findings import SEVERITIES


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NV-GPU-LOST", "NV-GPU-LOST"),
        ("nv-gpu-lost", "NV-GPU-LOST"),
        ("79", "NV-XID-79"),
        ("XID 79", "NV-XID-79"),
        ("xid-79", "NV-XID-79"),
        ("NV-XID-79", "NV-XID-79"),
        ("NV-SXID-20009", "NV-SXID-20009"),
        ("80E01801", "ASCEND-FAULT-80E01801"),
        ("0x80e01801", "ASCEND-FAULT-80E01801"),
        ("ASCEND-FAULT-80E01801", "ASCEND-FAULT-80E01801"),
    ],
)
def test_a_code_is_found_in_any_usual_spelling(text: str, code: str) -> None:
    assert explain(text).code == code


def test_every_code_that_a_check_can_give_is_explained() -> None:
    for family in FAMILIES:
        for check in family.checks:
            for code in check.codes:
                found = explain(code.replace("<n>", "79").replace("<code>", "80E01801"))
                assert found.meaning and found.action and found.source, code


def test_every_xid_of_the_catalogue_is_explained() -> None:
    assert len(xid.catalogue()) == 172
    for number in xid.catalogue():
        found = explain(f"XID {number}")
        assert found.code == f"NV-XID-{number}"
        assert found.severity in SEVERITIES
        assert found.meaning.endswith(".") and found.action.endswith((".", ")."))


def test_an_xid_that_the_catalogue_does_not_know_yet_is_still_a_warning() -> None:
    found = explain("XID 999")
    assert (found.severity, found.source[:6]) == ("warning", "not in")


def test_what_the_actions_ask_agrees_with_their_severity() -> None:
    assert explain("79").severity == "fatal" and explain("79").move_workload
    assert explain("13").severity == "warning" and not explain("13").move_workload
    assert explain("43").severity == "info"
    assert explain("46").move_workload  # RESET_GPU


def test_every_entry_has_a_valid_severity_and_whole_sentences() -> None:
    for code, entry in catalogue().items():
        assert entry.severity in SEVERITIES, code
        assert entry.meaning.endswith("."), code
        assert entry.action.endswith("."), code
        assert entry.title and entry.detected_by and entry.source, code


def test_an_unknown_code_names_the_nearest() -> None:
    with pytest.raises(DiagnoseUsageError, match="NV-GPU-LOST"):
        explain("NV-GPU-LOSTT")


def test_a_file_overrides_single_fields(tmp_path: Path) -> None:
    path = tmp_path / "actions.toml"
    path.write_text('[NV-XID-64]\nseverity = "warning"\naction = "Call Ops."\n')
    own = read_overrides(path)
    assert (explain("64", own).severity, explain("64", own).action) == ("warning", "Call Ops.")
    assert explain("64", own).meaning == explain("64").meaning
    assert explain("63", own) == explain("63")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[NV-XID-64", "not TOML"),
        ("[NV-NOTHING]\n", "no known finding"),
        ("NV-GPU-LOST = 3\n", "expected a table"),
        ('[NV-GPU-LOST]\nseverity = "mild"\n', "expected info, warning"),
        ("[NV-GPU-LOST]\naction = 3\n", "expected str"),
        ('[NV-GPU-LOST]\ncolour = "red"\n', "has key 'colour'"),
    ],
)
def test_a_malformed_file_of_actions_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "actions.toml"
    path.write_text(text)
    with pytest.raises(DiagnoseUsageError, match=said) as caught:
        read_overrides(path)
    assert str(path) in caught.value.message


def test_what_an_xid_asks_for_fits_what_it_says() -> None:
    for number in xid.catalogue():
        found = explain(f"XID {number}")
        asks = "ove the work away" in found.action or "ove all work away" in found.action
        assert not (asks and not found.move_workload), found.code
        assert not (found.severity == "fatal" and not found.move_workload), found.code
        idle = found.action.startswith("Nothing")
        assert not (idle and found.severity in ("degraded", "fatal")), found.code
