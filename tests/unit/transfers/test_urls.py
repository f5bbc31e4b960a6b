from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.apps.transfers.urls import at_door, host_of, over_https, plain, request_url, storage_element
from boathouse.errors import InputError


@pytest.mark.parametrize(
    ("given_", "asked"),
    [
        ("davs://127.0.1.11:1094/lake/cms/a/b/f.root", "https://127.0.1.11:1094/lake/cms/a/b/f.root"),
        ("https://SE.example.org/lake/f", "https://se.example.org/lake/f"),
        ("https://se.example.org:443//lake//f", "https://se.example.org/lake/f"),
        ("davs://h//%6Cake/a%2Fb/%C3%BC", "https://h/lake/a%2Fb/%C3%BC"),
        ("davs://[::1]:8443/lake/f", "https://[::1]:8443/lake/f"),
        ("davs://h/lake/a%20b+c#".removesuffix("#"), "https://h/lake/a%20b+c"),
        ("davs://h/lake/ü", "https://h/lake/%C3%BC"),
        ("https://h/lake/f?X-Sign=a%2Fb&c=d", "https://h/lake/f?X-Sign=a%2Fb&c=d"),
    ],
)
def test_what_is_asked_of_the_server(given_: str, asked: str) -> None:
    assert request_url(given_) == asked


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "/lake/f",
        "http://h/f",
        "davs://h",
        "davs://h/",
        "davs:///f",
        "davs://h:port/f",
        "davs://h:99999/f",
        "davs://user@h/f",
        "davs://h/a b",
        "davs://h/a\r\nX-Evil: yes",
        "davs://h\\@evil/f",
        "davs://h/f#part",
        "davs://h/a/../b",
        "davs://h/a/%2e%2e/b",
        "davs://h/./b",
        "davs://h/a/%252e%252e/b",
        "davs://h/a/%25252e%25252E/b",
        "davs://h/a/%2e%2e%2fb",
        "davs://h/a%2f..%2fb",
        "davs://h/a%252f..%252fb",
        "davs://h/a/%2500",
        "davs://h/a%0d%0aX",
        "davs://h/" + "x" * 3000,
        "davs://h/" + "\u5b57" * 500,
        "davs://localhost./f",
        "davs://./f",
        "davs://a..b/f",
        "davs://-a/f",
    ],
)
def test_what_is_not_the_url_of_a_file(text: object) -> None:
    with pytest.raises(InputError):
        request_url(text)


@given(st.text())
def test_nothing_can_smuggle_in_a_header(text: str) -> None:
    try:
        url = request_url(f"davs://h/{text}")
    except InputError:
        return
    assert url.isascii()
    assert not set("\r\n \t\0") & set(url)
    assert host_of(url) == "h"
    assert request_url(url) == url


def test_the_storage_element_of_a_url() -> None:
    assert host_of("https://h:1/lake/f") == "h:1"
    assert storage_element("davs://h:1/lake/f") == "davs://h:1"


def test_copies_are_asked_of_the_door_of_an_element_that_has_one() -> None:
    doors = {"h:1": "d:2"}
    assert at_door("https://h:1/lake/a%2Fb?x=1", doors) == "https://d:2/lake/a%2Fb?x=1"
    assert at_door("https://h:2/lake/f", doors) == "https://h:2/lake/f"


@pytest.mark.parametrize("rest", ["f?v=2", "f%3Fy", "user%2Fbob/f", "..%3F"])
def test_a_destination_has_no_second_name(rest: str) -> None:
    with pytest.raises(InputError, match="plain URL"):
        plain(request_url(f"davs://h/lake/{rest}"))
    assert plain(request_url("davs://h/lake/f?")) == "https://h/lake/f"


def test_the_port_of_a_root_url_is_known_or_the_protocols_own() -> None:
    known = {"h:1094": "h:8443", "h:2": "h:3", "[::1]:1094": "[::1]:8443"}
    assert over_https("root://H//lake/f", known) == "davs://h:8443/lake/f"
    assert over_https("XROOT://h:2//lake/f", known) == "davs://h:3/lake/f"
    assert over_https("roots://[::1]//lake/f", known) == "davs://[::1]:8443/lake/f"
    for other in ("davs://h:2//lake/f", "", None, 7):
        assert over_https(other, known) == other


@pytest.mark.parametrize(
    "url", ["root://stranger//f", "root://h:3//f", "root://user@h//f", "root:////f", "root://", "root://h?authz=secret"]
)
def test_a_root_url_of_an_unknown_server_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="also speaks https") as caught:
        over_https(url, {"h:1094": "h:3"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("rest", ["", "/", "/f", "//f?authz=secret", "//f#part", "//f%41"])
def test_a_root_url_that_does_not_read_the_same_over_https_is_refused(rest: str) -> None:
    with pytest.raises(InputError) as caught:
        request_url(over_https(f"root://h{rest}", {"h:1094": "h:3"}))
    assert "secret" not in str(caught.value)
