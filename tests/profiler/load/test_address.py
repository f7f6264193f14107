from dataclasses import replace

import pytest

from profiler.errors import ProfilerUsageError
from profiler.load.address import headers, parse_url, tls_context
from profiler.load.config import LoadConfig

CONFIG = LoadConfig("https://h", "m", 1, 1, request_rate=1)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://localhost:8000", "localhost:8000", ""),
        ("http://localhost:8000/v1", "localhost:8000", ""),
        ("https://example.org/llm/v1/", "example.org", "/llm"),
        ("http://[::1]:80", "[::1]", ""),
        ("https://example.org:8443", "example.org:8443", ""),
    ],
)
def test_a_url_names_a_server(url: str, authority: str, path: str) -> None:
    address = parse_url(url)
    assert (address.authority, address.path) == (authority, path)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h", "http://", "http://h:99999", "http://h?x=1", "http://[::"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ProfilerUsageError):
        parse_url(url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ProfilerUsageError) as caught:
        parse_url("http://user:sesame@h")
    assert "sesame" not in caught.value.message + str(caught.value.target)


def test_a_key_that_would_break_the_header_is_refused() -> None:
    with pytest.raises(ProfilerUsageError):
        headers(parse_url("http://h"), replace(CONFIG, token="a\r\nX: b"))


def test_a_missing_ca_file_is_named() -> None:
    with pytest.raises(ProfilerUsageError, match="/nowhere/ca"):
        tls_context(replace(CONFIG, ca_file="/nowhere/ca"))
