"""The models are the one description: schema, reference page and messages are made from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from boathouse.facility import load, schema
from boathouse.facility.model import Facility


def test_every_setting_is_described() -> None:
    assert [setting.key for setting in schema.settings() if not setting.doc] == []


def _patterns(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "pattern":
                yield value
            elif key == "patternProperties":
                yield from value
            yield from _patterns(value)
    elif isinstance(node, list):
        for item in node:
            yield from _patterns(item)


def test_every_pattern_of_the_models_has_words() -> None:
    patterns = set(_patterns(schema.json_schema()))
    assert len(patterns) >= 5
    for pattern in patterns:
        assert schema.pattern_in_words(pattern)


def test_the_schema_forbids_what_the_models_do_not_know() -> None:
    document = schema.json_schema()
    models = [document, *document["$defs"].values()]
    assert all(one["additionalProperties"] is False for one in models if one["type"] == "object")
    assert set(document["required"]) == {"name", "vo", "sites"}


def test_every_required_setting_has_a_stand_in_for_the_check_of_the_rest() -> None:
    required = {setting.path[-1] for setting in schema.settings() if setting.default is None and not setting.is_free}
    assert required <= set(load._STAND_INS)


def test_the_reference_page_shows_every_setting() -> None:
    page = schema.reference_page()
    for setting in schema.settings():
        if not setting.is_free:
            assert f"| `{setting.path[-1]}` | {setting.kind} |" in page
            assert len(setting.path) == 1 or f"`{'.'.join(setting.path[:-1])}`" in page


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        (20_000_000_000, "size", "20 GB"),
        (524_288, "size", "512 kiB"),
        (1_000_001, "size", "1000001 B"),
        (0, "size", "0"),
        (3600.0, "duration", "1 h"),
        (0.02, "duration", "20 ms"),
        (10**9, "bandwidth", "1 Gbit/s"),
        (2_500_000, "bandwidth", "2500 kbit/s"),
        (90 * 86400.0, "duration", "90 d"),
        (("https", "davs"), None, "[https, davs]"),
        ({"a": "b"}, None, "{a: b}"),
        (None, None, "none"),
        ("", None, "empty"),
        (True, None, "true"),
    ],
)
def test_values_are_shown_as_one_would_write_them(value: object, kind: str | None, written: str) -> None:
    assert schema.as_written(value, kind) == written


def test_every_default_is_one_that_the_file_could_hold() -> None:
    facility = Facility.model_validate({"name": "x", "vo": "x", "sites": {"X": {"storage": {"X": {"qos": "X"}}}}})
    assert facility.storage["X"].capacity == 20_000_000_000
    (capacity,) = [setting for setting in schema.settings() if setting.path[-1] == "capacity"]
    assert capacity.default == "20 GB"
