from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from boathouse.apps.transfers.signing import presign, split

KEY = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


def test_a41_the_example_of_amazons_manual() -> None:
    url = presign(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        region="us-east-1",
        life_s=86400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
        **KEY,
    )
    assert url.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    assert parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"] == ["host"]


def test_signatures_are_cut_off_and_other_queries_stay() -> None:
    assert split("https://h/b/k?X-Amz-Date=1&X-Amz-Signature=s") == (
        "https://h/b/k",
        "X-Amz-Date=1&X-Amz-Signature=s",
    )
    assert split("https://h/f?Expires=1&Signature=s") == ("https://h/f", "Expires=1&Signature=s")
    assert split("https://h/f?version=2") == ("https://h/f?version=2", "")
    assert split("https://h/f") == ("https://h/f", "")
