from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.checksums import Adler32, normalise_adler32
from boathouse.errors import InputError


def test_a22_leading_zeros_stay() -> None:
    assert Adler32().hexdigest() == "00000001"
    assert Adler32(b"hello").hexdigest() == "062c0215"
    assert normalise_adler32("62c0215") == "062c0215"
    assert normalise_adler32("9600001") == "09600001"


@given(st.integers(min_value=0, max_value=0xFFFFFFFF))
def test_a22_a_checksum_is_eight_digits_whoever_wrote_it(value: int) -> None:
    written = {normalise_adler32(text) for text in (f"{value:x}", f"{value:08x}", f"0x{value:X}", f" {value:x}\n")}
    assert written == {f"{value:08x}"}


@given(st.binary(max_size=64))
def test_a22_what_we_sum_is_written_the_same_way(content: bytes) -> None:
    digits = Adler32(content).hexdigest()
    assert re.fullmatch(r"[0-9a-f]{8}", digits)
    assert digits == normalise_adler32(f"{zlib.adler32(content):x}")


@pytest.mark.parametrize("text", ["", "0x", "123456789", "0600000g", "-1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        normalise_adler32(text)


@pytest.mark.parametrize("size_bytes", [0, 1, 1 << 20, (1 << 21) + 7])
def test_a_file_a_stream_and_blocks_give_the_same(tmp_path: Path, size_bytes: int) -> None:
    content = (b"boathouse" * (size_bytes // 9 + 1))[:size_bytes]
    (tmp_path / "file").write_bytes(content)
    stream, blocks = Adler32(), Adler32(content[:5])
    stream.update_from(io.BytesIO(content).read)
    blocks.update(content[5:])
    sums = {each.hexdigest() for each in (Adler32(content), Adler32.of(tmp_path / "file"), stream, blocks)}
    assert sums == {f"{zlib.adler32(content):08x}"}
