"""Lists of directories in which somebody has chosen names badly: they are read, and it shows that they are wrong."""

from __future__ import annotations

import pytest

from boathouse.errors import StorageError
from boathouse.lake.audit import UNNAMED_NAME
from boathouse.lake.http import Http
from boathouse.lake.storage import Storage

from .conftest import Box

NAMES = {
    "a line break first": "%0Afirst",
    "a line break": "mid%0Adle",
    "a control character": "bell%07",
    "no UTF-8": "%FF%FE",
    "what XML cannot say": "%EF%BF%BE",
}


@pytest.mark.parametrize("bad", NAMES.values(), ids=NAMES)
def test_a_bad_name_makes_no_list_unreadable(box: Box, fresh_path: str, bad: str) -> None:
    box.put("NORTH-DISK", f"{fresh_path}/good", b"12345")
    box.put("NORTH-DISK", f"{fresh_path}/{bad}", b"12345")
    storage = Storage(
        Http(str(box.context.layout.ca_bundle), failure=StorageError),
        lambda: box.token("storage.read:/lake/cms", "NORTH-DISK"),
    )
    paths = [entry.path for entry in storage.listing(box.url("NORTH-DISK", fresh_path))]
    # A shifted list may hide a good name, which the audit asks for anyway, but never that it is shifted.
    assert any(UNNAMED_NAME.search(path) for path in paths), paths


def test_names_with_marks_of_xml_are_names(box: Box, fresh_path: str) -> None:
    box.put("NORTH-DISK", f"{fresh_path}/%3Ca%3E%26%22", b"12345")
    token = box.token("storage.read:/lake/cms", "NORTH-DISK")
    storage = Storage(Http(str(box.context.layout.ca_bundle), failure=StorageError), lambda: token)
    (entry,) = storage.listing(box.url("NORTH-DISK", fresh_path))
    assert (entry.path, entry.size_bytes) == (f'{fresh_path}/<a>&"', 5)
