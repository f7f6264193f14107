"""The table of docs/kv.md says what the backends say of themselves."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from kvpool import (
    aibrix_rocksdb,
    aibrix_shfs,
    lm_server,
    lmcache_file,
    mooncake,
    placement,
    vineyard,
)
from kvpool.drain.plan import mooncake as require_segments
from kvpool.errors import KvPoolUsageError
from kvpool.migrate.ends import FAMILIES
from kvpool.pool import open_pool
from kvpool.url import parse_pool_url

TEXT = (Path(__file__).parents[2] / "docs" / "kv.md").read_text()
COMMANDS = ["stats", "ls", "show", "find", "doctor", "evict", "migrate", "drain"]
LIMITS: dict[str, Mapping[str, str]] = {
    "lmcache+redis": {},
    "lmcache+file": {"expiry": lmcache_file._NO_EXPIRY},
    "lm": lm_server._LIMITS,
    "aibrix+shfs": aibrix_shfs._LIMITS,
    "aibrix+rocksdb": aibrix_rocksdb._LIMITS,
    "aibrix+redis": dict.fromkeys(placement._VERBS, ""),
    "mooncake": mooncake._LIMITS,
    "vineyard": vineyard._LIMITS,
}


def rows() -> dict[str, list[str]]:
    """The cells of the first table, by scheme."""
    table = TEXT.split("## Kinds and commands")[1].split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in table[0].strip("|").split("|")] == ["pool", *COMMANDS]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    return {parse_pool_url(row[0].strip("`")).scheme: row[1:] for row in cells}


def expected(scheme: str) -> list[str]:
    """What a pool of a kind can, from what it says it can't."""
    limits = LIMITS[scheme]
    can = {verb: verb not in limits for verb in ("scan", "stat", "delete", "age")}
    look = "nodes" if scheme == "aibrix+redis" else "yes" if can["scan"] else "–"
    evict = "–"
    if can["scan"] and can["stat"] and can["delete"]:
        evict = "yes" if can["age"] else "by model"
    return [
        look,
        "yes" if can["scan"] else "–",
        "yes" if can["stat"] else "–",
        "–" if scheme == "vineyard" else "by key" if can["stat"] and not can["scan"] else look,
        look,
        evict,
        "yes" if scheme in FAMILIES else "–",
        "yes" if scheme == "mooncake" else "–",
    ]


def test_every_kind_has_a_row() -> None:
    assert list(rows()) == list(LIMITS)


@pytest.mark.parametrize("scheme", LIMITS)
def test_a_row_says_what_the_backend_says(scheme: str) -> None:
    assert rows()[scheme] == expected(scheme)


def test_only_a_mooncake_store_drains(tmp_path: Path) -> None:
    with open_pool(f"lmcache+file:{tmp_path}") as pool, pytest.raises(KvPoolUsageError):
        require_segments(pool)


@pytest.mark.parametrize("name", ["infinistore", "hpkv", "priskv"])
def test_what_needs_rdma_says_so(name: str) -> None:
    with pytest.raises(KvPoolUsageError, match="only be reached over RDMA") as caught:
        parse_pool_url(f"{name}://host:12345")
    assert "aibrix+redis://" in caught.value.hint


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
