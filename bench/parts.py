"""``python -m bench.parts``: makes image cubes and tar files, and reads parts of them; runs where h5py is.

It takes one JSON object a line and answers each with one: ``{"make": DIRECTORY, ...}`` or ``{"url": URL, ...}``.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.ranges import RangeFile

Array = np.ndarray[Any, np.dtype[np.float32]]

# FITS standard 4.0, 3.1: a file is blocks of so many bytes; 4.2: a header is cards of 80 characters.
_BLOCK, _CARD = 2880, 80
_BIG_ENDIAN = np.dtype(">f4")
_CUT_PIXELS, _CUT_CHANNELS = 32, 2
_DATASET = "cube"


# -- making ---------------------------------------------------------------------------------------------------------


def make(directory: Path, shape: tuple[int, int, int], chunks: tuple[int, int, int], members: int, size: int) -> None:
    """One cube as FITS and as HDF5, and one tar file; of noise, which nothing can compress.

    Args:
        directory: where; it must be there.
        shape: channels, rows and columns of the cube.
        chunks: of HDF5, likewise.
        members: of the tar file.
        size: of each of them, in bytes.
    """
    noise = np.random.default_rng(79)
    cube = noise.standard_normal(shape, dtype=np.float32)
    cards = [
        "SIMPLE  =                    T",
        "BITPIX  =                  -32",
        "NAXIS   =                    3",
        *(f"NAXIS{axis}  = {length:20d}" for axis, length in enumerate(reversed(shape), start=1)),
        "END",
    ]
    header = "".join(card.ljust(_CARD) for card in cards).encode("ascii")
    data = cube.astype(_BIG_ENDIAN).tobytes()
    (directory / "cube.fits").write_bytes(_padded(header, b" ") + _padded(data, b"\0"))
    with h5py.File(directory / "cube.h5", "w") as file:
        file.create_dataset(_DATASET, data=cube, chunks=chunks)
    with tarfile.open(directory / "members.tar", "w") as tar:
        for number in range(members):
            member = tarfile.TarInfo(_member(number))
            member.size = size
            tar.addfile(member, io.BytesIO(noise.bytes(size)))


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (-len(content) % _BLOCK)


def _member(number: int) -> str:
    return f"observation/{number:05d}.dat"


# -- parts of a cube ------------------------------------------------------------------------------------------------

Part = tuple[slice, slice, slice]


def _plane(shape: tuple[int, ...]) -> Part:
    channel = shape[0] // 2
    return slice(channel, channel + 1), slice(0, shape[1]), slice(0, shape[2])


def _spectrum(shape: tuple[int, ...]) -> Part:
    row, column = shape[1] // 3, shape[2] // 3
    return slice(0, shape[0]), slice(row, row + 1), slice(column, column + 1)


def _cutout(shape: tuple[int, ...]) -> Part:
    channel, row, column = shape[0] // 4, shape[1] // 2, shape[2] // 2
    return (
        slice(channel, channel + _CUT_CHANNELS),
        slice(row, row + _CUT_PIXELS),
        slice(column, column + _CUT_PIXELS),
    )


CUBE_PARTS: dict[str, Callable[[tuple[int, ...]], Part]] = {
    "plane": _plane,
    "spectrum": _spectrum,
    "cut-out": _cutout,
}


def read_fits(file: RangeFile, part: str) -> bytes:
    """Part of a cube, as bytes of float32 of this machine.

    The data follow the header's last block, axis 1 fastest (FITS standard 4.0, 3.3.2), as big-endian IEEE floats (5.3).
    Each run of pixels that lie together is one request.
    """
    header = file.read(_BLOCK) or b""
    cards = [header[start : start + _CARD].decode("ascii") for start in range(0, _BLOCK, _CARD)]
    values = {card[:8].strip(): card[10:].split("/")[0].strip() for card in cards if card[8:10] == "= "}
    shape = tuple(int(values[f"NAXIS{axis}"]) for axis in range(int(values["NAXIS"]), 0, -1))
    chosen = CUBE_PARTS[part](shape)
    runs: list[bytes] = []
    for offset, count in _runs(shape, chosen):
        file.seek(_BLOCK + 4 * offset)
        runs.append(file.read(4 * count) or b"")
    return np.frombuffer(b"".join(runs), dtype=_BIG_ENDIAN).astype(np.float32).tobytes()


def _runs(shape: tuple[int, ...], part: Part) -> Iterator[tuple[int, int]]:
    """First pixel and number of pixels of each run that lies together."""
    channels, rows, columns = part
    for channel in range(channels.start, channels.stop):
        if columns.stop - columns.start == shape[2]:
            yield (channel * shape[1] + rows.start) * shape[2], (rows.stop - rows.start) * shape[2]
            continue
        for row in range(rows.start, rows.stop):
            yield (channel * shape[1] + row) * shape[2] + columns.start, columns.stop - columns.start


def read_hdf5(file: RangeFile, part: str) -> bytes:
    """The same of HDF5, by its own library: it asks for its indexes, then for whole chunks."""
    with h5py.File(file, "r") as opened:
        dataset = opened[_DATASET]
        values: Array = dataset[CUBE_PARTS[part](dataset.shape)]
    return values.tobytes()


# -- members of a tar file ------------------------------------------------------------------------------------------


def read_tar(file: RangeFile, part: str, member: Mapping[str, Any]) -> bytes:
    """The names of all members, or one member: searched for from the beginning, or at a place that is known."""
    if part == "listing":
        with tarfile.open(fileobj=file, mode="r:") as tar:
            return "\n".join(tar.getnames()).encode()
    offset, size = int(member["offset"]), int(member["size"])
    if part == "search":
        with tarfile.open(fileobj=file, mode="r:") as tar:
            found = next(one for one in tar if one.name == member["name"])
        offset, size = found.offset_data, found.size
    file.seek(offset)
    return file.read(size) or b""


# -- the process ----------------------------------------------------------------------------------------------------


def _read(request: Mapping[str, Any]) -> dict[str, object]:
    part = request["part"]
    began = time.perf_counter()
    with RangeFile(request["url"], Path(request["token_file"]).read_text(), request["ca"]) as file:
        if request["kind"] == "tar":
            content = read_tar(file, part, request["member"])
        else:
            content = {"fits": read_fits, "hdf5": read_hdf5}[request["kind"]](file, part)
    return {
        "seconds": time.perf_counter() - began,
        "requests": file.requests,
        "wanted_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _make(request: Mapping[str, Any]) -> dict[str, object]:
    directory = Path(request["make"])
    make(directory, tuple(request["shape"]), tuple(request["chunks"]), request["members"], request["member_bytes"])
    with tarfile.open(directory / "members.tar") as tar:
        middle = tar.getmember(_member(request["members"] // 2))
    return {"name": middle.name, "offset": middle.offset_data, "size": middle.size}


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(_make(asked) if "make" in asked else _read(asked)), flush=True)
