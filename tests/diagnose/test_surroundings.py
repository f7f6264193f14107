import json
import os
from pathlib import Path

import pytest

from diagnose import surroundings


def test_a_container_with_some_devices_does_not_trust_the_bus() -> None:
    assert surroundings.given_only_some({"NVIDIA_VISIBLE_DEVICES": "0,1"})
    assert surroundings.given_only_some({"NVIDIA_VISIBLE_DEVICES": "all"}) is None
    assert surroundings.given_only_some({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_toolkits_in_sight_are_named_with_their_version(tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text(json.dumps({"cuda": {"version": "12.8.1"}}))
    found = surroundings.toolkits({"CUDA_VERSION": "12.4.0", "CUDA_HOME": str(tmp_path)})
    assert found["CUDA_VERSION of the image"] == "12.4.0"
    assert found[str(tmp_path)] == "12.8.1"


@pytest.mark.parametrize("body", ["", "[]", '{"cuda": 3}', "not json"])
def test_a_folder_that_is_no_toolkit_says_nothing(tmp_path: Path, body: str) -> None:
    (tmp_path / "version.json").write_text(body)
    assert str(tmp_path) not in surroundings.toolkits({"CUDA_HOME": str(tmp_path)})
    assert surroundings.toolkits({"CUDA_HOME": str(tmp_path / "none")}).keys() <= {"torch"}


def test_under_a_mock_the_processes_are_ours_whatever_the_namespace() -> None:
    pids = surroundings.pids(mocked=True)
    assert pids is not None and os.getpid() in pids
