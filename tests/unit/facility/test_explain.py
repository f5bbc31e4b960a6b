"""A value and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boathouse.errors import InputError
from boathouse.facility.explain import explain
from boathouse.facility.load import Document, read

from .conftest import GOOD


@pytest.fixture
def document(write: Callable[[str], Path]) -> Document:
    return read(write(GOOD + "  some.data: {group: cms}\nservices: {token_lifetime: 30 min}\n"))


@pytest.mark.parametrize(
    ("key", "value", "source"),
    [
        ("services.token_lifetime", "30 min", ":16:12"),
        ("services.certificate_lifetime", "90 d", "default"),
        ("CNAF-STORM.qos", "FAST", ":6:20"),
        ("CNAF-STORM.capacity", "20 GB", "default"),
        ("CNAF-XCACHE.upstreams", "[CNAF-STORM]", ":8:21"),
        ("sites.CNAF.storage.CNAF-STORM.deterministic", "true", "default"),
        ("users.alice.groups", "[cms]", ":12:11"),
        ("scopes.some.data.group", "cms", ":15:15"),
        ("name", "small", ":1:1"),
    ],
)
def test_value_and_source(key: str, value: str, source: str, document: Document) -> None:
    explanation = explain(document, key)
    assert (explanation.value, explanation.source[-len(source) :]) == (value, source)
    assert explanation.doc


def test_a_mapping_tells_what_stands_below_it(document: Document) -> None:
    assert explain(document, "users").below == ("alice",)
    assert "qos" in explain(document, "CNAF-STORM").below


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("CNAF-STORM.capcity", "did you mean 'sites.CNAF.storage.CNAF-STORM.capacity'?"),
        ("servces.token_lifetime", "did you mean 'services'?"),
        ("name.more", None),
        ("qos", "'qos' stands in sites.<site>.storage.<rse>.qos"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, remedy: str | None, document: Document) -> None:
    with pytest.raises(InputError) as caught:
        explain(document, key)
    assert caught.value.remedy == remedy
