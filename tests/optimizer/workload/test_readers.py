"""Traces of every known format, and each way in which a file can be bad."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from accelerators.errors import UsageError
from optimizer.errors import OptimizerUsageError
from optimizer.workload import detect, read

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:48.6805900,396,109
2023-11-16 18:15:50.6805900,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:04.009930+00:00,2399,6
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,API log
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}
"""
AIBRIX_V2 = """\
{"timestamp": 0, "requests": [{"prompt": "a", "prompt_length": 3, "output_length": 9}]}
{"timestamp": 2000, "requests": [{"prompt": "b", "prompt_length": 5, "output_length": null},\
 {"prompt": "c", "prompt_length": 7, "output_length": 11}]}
"""
AIBRIX_V1 = """\
{"Timestamp": 0, "Requests": [{"Prompt": "a", "Prompt Length": 3, "Output Length": 9}]}
{"Timestamp": 1000, "Requests": [{"Prompt": "b", "Prompt Length": 5, "Output Length": 2}]}
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def call(text: str) -> Path:
        path = tmp_path / "trace"
        path.write_text(text)
        return path

    return call


@pytest.mark.parametrize(
    ("text", "name", "rate", "sizes"),
    [
        (AZURE, "azure", 3 / 4, [(374, 44), (396, 109), (879, 55)]),
        (AZURE_2024, "azure", 2 / 4, [(2162, 5), (2399, 6)]),
        (BURSTGPT, "burstgpt", 2 / 113, [(417, 276), (472, 18)]),
        (MOONCAKE, "mooncake", 2 / 3, [(6758, 500), (7322, 490)]),
        (AIBRIX_V2, "aibrix-v2", 2 / 2, [(3, 9), (7, 11)]),
        (AIBRIX_V1, "aibrix-v1", 2 / 1, [(3, 9), (5, 2)]),
    ],
)
def test_each_format_is_found_and_read(
    write: Write, text: str, name: str, rate: float, sizes: list[tuple[int, int]]
) -> None:
    path = write(text)
    assert detect(path) == name
    workload = read(path)
    found = list(zip(workload.input_tokens.tolist(), workload.output_tokens.tolist(), strict=True))
    assert found == sizes
    assert workload.request_rate == pytest.approx(rate)
    assert workload.digest is not None
    assert workload.digest.startswith("sha256:")


def test_failed_requests_are_left_out_and_counted(write: Write) -> None:
    assert read(write(BURSTGPT)).notes == (
        "1 requests (33.33%) without input or output tokens left out",
    )
    assert "1 requests" in read(write(AIBRIX_V2)).notes[0]


def test_last_line_without_newline_is_whole(write: Write) -> None:
    assert read(write(AZURE.rstrip())).total == 3


@pytest.mark.parametrize(("text", "total"), [(AZURE, 3), (MOONCAKE, 2)])
def test_a_byte_order_mark_is_no_obstacle(write: Write, text: str, total: int) -> None:
    assert read(write("\ufeff" + text)).total == total


@pytest.mark.parametrize(("text", "total"), [(AZURE, 3), ("\ufeff" + MOONCAKE, 2)])
def test_packed_traces_are_unpacked(tmp_path: Path, text: str, total: int) -> None:
    path = tmp_path / "trace.gz"
    packed = gzip.compress(text.encode())
    path.write_bytes(packed)
    assert read(path).total == total
    path.write_bytes(packed[:-12])
    with pytest.raises(OptimizerUsageError, match="end-of-stream"):
        read(path)


def test_a_missing_column_is_named_without_a_page_of_others(write: Write) -> None:
    with pytest.raises(OptimizerUsageError) as caught:
        read(write("TIMESTAMP," + "x" * 100_000 + "\n1,2\n"))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "workload.empty", "is empty"),
        ("  \n\n", "workload.empty", "is empty"),
        (AZURE.splitlines()[0] + "\n", "workload.empty", "no rows"),
        (AZURE[:-3], "workload.bad_number", "line 4, GeneratedTokens: found nothing"),
        (AZURE[:-7], "workload.bad_number", "line 4, ContextTokens: found nothing"),
        (AZURE[:-28], "workload.bad_number", "line 4"),
        (AZURE.replace("ContextTokens", "Prompt"), "workload.columns", "lacks column ContextTok"),
        (AZURE.replace("TIMESTAMP", "when"), "workload.format", "no known trace"),
        (AZURE.replace("396", "-396"), "workload.bad_number", "line 3, ContextTokens: found -396"),
        (AZURE.replace("396", "20000000"), "workload.bad_number", "found 20000000"),
        (AZURE.replace("396", "39.6"), "workload.bad_number", "found 39.6"),
        (
            AZURE.replace("396", "many"),
            "workload.bad_number",
            "line 3, ContextTokens: found 'many'",
        ),
        (AZURE.replace(",109", ",109,7"), "workload.damaged", "line 3"),
        (AZURE.replace("18:15:48", "18:15:40"), "workload.time_order", "line 3, TIMESTAMP"),
        (AZURE.replace("2023-11-16 18:15:48", "later"), "workload.bad_time", "line 3, TIMESTAMP"),
        (AZURE.replace("2023-11-16 18:15:48", "9023-99-99"), "workload.bad_time", "line 3"),
        (AZURE.replace("2023", "2923"), "workload.bad_time", "line 2"),
        (AZURE.replace("2023-11", "0,2023-11"), "workload.damaged", "line 2 has more fields"),
        (BURSTGPT.replace("45,", "soon,"), "workload.bad_time", "line 3, Timestamp"),
        (BURSTGPT.replace(",18,", ",0,").replace(",276,", ",0,"), "workload.empty", "none with an"),
        (MOONCAKE[:-30], "workload.not_json", "line 2 is not JSON"),
        (MOONCAKE.replace("7322", "-1"), "workload.bad_number", "line 2, input_length: found -1"),
        (MOONCAKE.replace("7322", '"x"'), "workload.columns", "line 2 has 'x'"),
        (MOONCAKE.replace("7322", "null"), "workload.bad_number", "line 2, input_length"),
        (MOONCAKE.replace("3000", "-5"), "workload.time_order", "line 2, timestamp"),
        (
            MOONCAKE.replace("3000", "3").replace('"input_length": 7322, ', ""),
            "workload.columns",
            "line 2 lacks 'input_length'",
        ),
        ('{"a": 1}\n', "workload.format", "no known trace"),
        (MOONCAKE.replace("3000", "0"), "workload.no_duration", "same time"),
    ],
)
def test_bad_files_are_refused_by_line_and_column(
    write: Write, text: str, code: str, words: str
) -> None:
    with pytest.raises(OptimizerUsageError) as caught:
        read(write(text))
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OptimizerUsageError, match="cannot read") as caught:
        read(tmp_path / "none.csv")
    assert caught.value.code == "workload.unreadable"


def test_a_pipe_or_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OptimizerUsageError, match="not a regular file") as error:
            read(path)
        assert "save it to a file" in error.value.hint


def test_one_moment_is_usable_with_a_rate(write: Write) -> None:
    assert read(write(MOONCAKE.replace("3000", "0")), request_rate=7).request_rate == 7


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_absurd_rates_are_refused(write: Write, rate: float) -> None:
    with pytest.raises(UsageError):
        read(write(AZURE), request_rate=rate)


def test_a_format_can_be_named(write: Write) -> None:
    with pytest.raises(OptimizerUsageError, match="expected one of azure"):
        read(write(AZURE), format_name="parquet")
    with pytest.raises(OptimizerUsageError, match="lacks column Timestamp"):
        read(write(AZURE), format_name="burstgpt")


def test_lines_are_counted_across_chunks(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.workload.tabular.CHUNK_ROWS", 2)
    assert read(write(AZURE)).total == 3
    with pytest.raises(OptimizerUsageError, match="line 4, ContextTokens"):
        read(write(AZURE.replace("879", "-879")))
    with pytest.raises(OptimizerUsageError, match="line 4, TIMESTAMP"):
        read(write(AZURE.replace("18:15:50", "18:15:47")))


def test_real_traces(shared_data: Path) -> None:
    azure = read(shared_data / "azure_llm_2023_conv.csv")
    assert (azure.total, azure.request_rate) == (19_366, pytest.approx(5.53, abs=0.01))
    assert azure.size_stats("input_tokens").p50 == 1020
    mooncake = read(shared_data / "mooncake_conversation.jsonl")
    assert (mooncake.total, mooncake.size_stats("input_tokens").max) == (12_031, 126_195)
