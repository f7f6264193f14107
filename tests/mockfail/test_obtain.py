"""Making the clients: once, again when what they are made from changes, or not at all."""

from pathlib import Path

import pytest

from tests.mockfail import obtain


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(obtain, "MAKE", tmp_path / "make")


def test_a_client_is_made_once_and_again_when_its_inputs_change(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.txt"
    made: list[Path] = []
    for text in ("nvitop==1", "nvitop==1", "nvitop==2"):
        wanted.write_text(text)
        obtain.made_once("clients", [wanted], made.append)
    assert len(made) == 2


def test_what_cant_be_had_is_skipped_with_its_reason_and_not_tried_again_at_once(
    tmp_path: Path,
) -> None:
    tries: list[Path] = []

    def make(folder: Path) -> None:
        tries.append(folder)
        raise OSError("no route to the archive")

    def client() -> Path:
        return obtain.made_once("clients", [], make)

    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="clients can't be had: no route"):
            obtain.obtained(client)
    assert len(tries) == 1
