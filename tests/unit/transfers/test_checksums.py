from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.apps.transfers.checksums import ALGORITHMS, Checksum, from_headers, parse
from boathouse.errors import InputError

ADLER, CRC, MD5 = (ALGORITHMS[name] for name in ("adler32", "crc32c", "md5"))


@pytest.mark.parametrize("text", ["ADLER32:09600001", "adler32:9600001", "ADLER32:0x9600001", "adler32=09600001 "])
def test_a22_zeros_in_front_do_not_matter(text: str) -> None:
    algorithm, checksum = parse(text)
    assert algorithm is ADLER
    assert checksum == Checksum(ADLER, 0x9600001)
    assert str(checksum) == "ADLER32:09600001"


@given(st.binary(max_size=64))
def test_a22_every_form_of_a_checksum_is_one_number(data: bytes) -> None:
    value = zlib.adler32(data)
    expected = Checksum(ADLER, value)
    assert parse(f"ADLER32:{value:x}") == parse(f"adler32:{value:08X}") == (ADLER, expected)
    for told in (f"{value:x}", f"{value:08x}", f"{value:08X}"):
        assert from_headers({"Digest": f"adler32={told}"}, ADLER) == expected
    assert from_headers({"Repr-Digest": expected.repr_digest}, ADLER) == expected


def test_nothing_and_an_algorithm_alone() -> None:
    assert parse(None) == parse("") == (None, None)
    assert parse("ADLER32") == parse("adler32:") == (ADLER, None)


@pytest.mark.parametrize("text", ["SHA1:00", "ADLER32:xyz", "ADLER32:123456789", "ADLER32:-1", "MD5:" + "0" * 33])
def test_what_is_no_checksum(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


def test_what_storage_answers() -> None:
    # Both seen from XRootD 6.2.0 for one file.
    assert from_headers({"Digest": "adler32=0e6b4fa0"}, ADLER) == Checksum(ADLER, 0x0E6B4FA0)
    assert from_headers({"Repr-Digest": "adler=:DmtPoA==:"}, ADLER) == Checksum(ADLER, 0x0E6B4FA0)
    assert from_headers({"Digest": "md5=abc, adler32=1"}, ADLER) == Checksum(ADLER, 1)
    assert from_headers({}, ADLER) is None
    assert from_headers({"Digest": "adler32=nonsense"}, ADLER) is None
    assert from_headers({"Digest": "crc32c=1"}, ADLER) is None
    assert from_headers({"Digest": "crc32c=1"}, CRC) == Checksum(CRC, 1)


def test_md5_in_both_of_its_forms() -> None:
    raw = bytes(range(16))
    expected = Checksum(MD5, int.from_bytes(raw, "big"))
    assert from_headers({"Digest": f"md5={raw.hex()}"}, MD5) == expected
    assert from_headers({"Digest": f"md5={base64.b64encode(raw).decode()}"}, MD5) == expected
