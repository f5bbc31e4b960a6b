"""Third-party copies by the transfer service, beside the same copies by other clients; and what a long queue costs."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import backlog, copies
from bench.harness import Benchmark, Effort, Row, timed
from bench.pair import Made, Pair, pair
from boathouse.apps.transfers.settings import Limits

_AT_ONCE = Limits().per_link
_WIDTHS = (4, 8, 16, 24, 32)
"""How many bare COPY requests at once are tried; the best counts."""
_LARGE_TARGET, _SMALL_TARGET, _TIMES_GFAL, _FILES_PER_S = 0.95, 0.8, 5.0, 100.0


@dataclass(frozen=True)
class Size:
    """What is copied, and how often."""

    large: int
    large_bytes: int
    small: int
    sample: int
    """Files for the peers that would take too long with all."""
    turns: int
    """How often the large ones are; the many small ones take long enough for one turn to be steady."""


_SMALL_BYTES = 10_000
_SIZES = {
    Effort.full: Size(large=10, large_bytes=1_000_000_000, small=10_000, sample=30, turns=3),
    Effort.quick: Size(large=2, large_bytes=1_000_000, small=20, sample=2, turns=1),
}


_Copy = Callable[[Pair, Sequence[Made]], None]


def _copied(running: Pair, files: Sequence[Made], copy: _Copy) -> float:
    """Seconds that it takes to copy files; they are there afterwards, and removed."""
    running.clear()
    # What was written before is not to be on its way to the disk beside what is measured.
    os.sync()
    seconds = timed(lambda: copy(running, files))
    running.require_copied(files)
    running.clear()
    return seconds


def _ours(running: Pair, files: Sequence[Made]) -> None:
    running.copy(files)


def _cp(running: Pair, files: Sequence[Made]) -> None:
    running.destination.folder.mkdir()
    names = [str(running.source.folder / file.name) for file in files]
    subprocess.run(["cp", *names, str(running.destination.folder)], check=True)


def _bare(at_once: int) -> _Copy:
    return lambda running, files: copies.bare(running, files, at_once=at_once)


@dataclass(frozen=True)
class _Turns:
    """Seconds in each turn; neighbours in time are compared."""

    ours: tuple[float, ...]
    bare: tuple[float, ...]
    checked: tuple[float, ...]
    """Bare requests, then a HEAD for each checksum."""

    def beside(self, peer: Sequence[float]) -> float:
        """Our rate, in those of a peer."""
        return statistics.median(other / own for own, other in zip(self.ours, peer, strict=True))


def _rate(amount: float, took: Sequence[float]) -> float:
    return amount / statistics.median(took)


def _in_turns(running: Pair, files: Sequence[Made], at_once: int, turns: int) -> _Turns:
    each: list[_Copy] = [
        _bare(at_once),
        _ours,
        lambda pair, some: copies.checked(pair, some, at_once=at_once),
    ]
    bare, ours, checked = zip(*([_copied(running, files, copy) for copy in each] for _ in range(turns)), strict=True)
    return _Turns(ours, bare, checked)


def _large(running: Pair, size: Size) -> Row:
    files = running.make("large", count=size.large, size_bytes=size.large_bytes)
    at_once = min(size.large, _AT_ONCE)
    took = _in_turns(running, files, at_once, size.turns)
    gfal_s = _copied(running, files, lambda pair, some: copies.gfal(pair, some, at_once=at_once))
    cp_s = _copied(running, files, _cp)
    shutil.rmtree(running.source.folder)
    megabytes = size.large * size.large_bytes / 1e6
    ratio = took.beside(took.bare)
    return Row(
        id="tpc.large",
        what=f"{size.large} third-party copies of {size.large_bytes / 1e6:.0f} MB, checksums compared at the end",
        unit="MB/s",
        better="higher",
        ours=_rate(megabytes, took.ours),
        peers={
            f"bare COPY by curl, {at_once} at once, nothing checked": _rate(megabytes, took.bare),
            "the same, then a HEAD for each checksum": _rate(megabytes, took.checked),
            f"gfal-copy with checksums, {at_once} at once": megabytes / gfal_s,
        },
        limit=megabytes / cp_s,
        target=(
            f"{_LARGE_TARGET} of bare COPY (this run: {ratio:.2f}; {took.beside(took.checked):.2f} of those with a "
            "HEAD); the limit is cp"
        ),
        met=ratio >= _LARGE_TARGET,
    )


def _small(running: Pair, size: Size) -> Row:
    files = running.make("small", count=size.small, size_bytes=_SMALL_BYTES)
    sample = files[: size.sample]
    # The first copies open connections and fetch keys.
    _copied(running, sample, _ours)
    tried = {width: _copied(running, files[: 10 * size.sample], _bare(width)) for width in _WIDTHS}
    at_once = min(tried, key=tried.__getitem__)
    took = _in_turns(running, files, at_once, 1)
    gfal_s = _copied(running, sample, lambda pair, some: copies.gfal(pair, some, at_once=1))
    listed_s = _copied(running, sample, copies.gfal_list)
    shutil.rmtree(running.source.folder)
    ours, gfal = _rate(len(files), took.ours), len(sample) / gfal_s
    ratio = took.beside(took.bare)
    return Row(
        id="tpc.small",
        what=f"{len(files):,} files of {_SMALL_BYTES / 1e3:.0f} kB, from submission to the end of the last job",
        unit="files/s",
        better="higher",
        ours=ours,
        peers={
            f"bare COPY by curl, {at_once} at once, then a HEAD for each checksum": _rate(len(files), took.checked),
            f"gfal-copy, a process a file ({len(sample)} files)": gfal,
            f"one gfal-copy for a list ({len(sample)} files)": len(sample) / listed_s,
        },
        limit=_rate(len(files), took.bare),
        target=(
            f"{_FILES_PER_S:g} files/s, {_TIMES_GFAL:g} times gfal-copy, and {_SMALL_TARGET} of {at_once} bare COPYs "
            f"at once, which is the limit (this run: {ratio:.2f}; {took.beside(took.checked):.2f} of those with a HEAD)"
        ),
        met=ours >= _FILES_PER_S and ours >= _TIMES_GFAL * gfal and ratio >= _SMALL_TARGET,
    )


def _run_large(effort: Effort) -> list[Row]:
    with pair() as running:
        return [_large(running, _SIZES[effort])]


def _run_small(effort: Effort) -> list[Row]:
    with pair() as running:
        return [_small(running, _SIZES[effort])]


def _run_backlog(effort: Effort) -> list[Row]:
    with pair() as running:
        return backlog.measure(running, effort)


BENCHMARKS = (
    Benchmark("transfers.large", ("tpc.large",), _run_large),
    Benchmark("transfers.small", ("tpc.small",), _run_small),
    Benchmark("transfers.backlog", ("tpc.submit_1e6", "tpc.query_1e6", "tpc.small_1e6", "tpc.rss_1e6"), _run_backlog),
)
