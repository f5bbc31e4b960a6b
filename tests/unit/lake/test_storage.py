from __future__ import annotations

import pytest

from boathouse.lake.storage import digest_adler32, join


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Digest": "adler32=3c920c75"}, "3c920c75"),
        ({"Digest": "ADLER32=9600001"}, "09600001"),
        ({"Digest": "md5=abc, adler32=1"}, "00000001"),
        ({"Repr-Digest": "adler=:PJIMdQ==:"}, "3c920c75"),
        ({"Repr-Digest": "sha-256=:abcd:, adler=:AAAAAQ==:"}, "00000001"),
        ({"Digest": "md5=abc"}, None),
        ({}, None),
    ],
)
def test_a22_checksums_of_every_family_are_read_alike(headers: dict[str, str], expected: str | None) -> None:
    assert digest_adler32(headers) == expected


def test_paths_are_quoted_once() -> None:
    assert join("https://h:1/lake", "cms/a b/c%d") == "https://h:1/lake/cms/a%20b/c%25d"
    assert join("https://h:1/lake/", "/x") == "https://h:1/lake/x"
