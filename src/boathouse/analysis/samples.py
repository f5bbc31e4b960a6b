"""Demonstration data: NanoAOD-like files of simulated muon events, the same bytes on every machine.

The tree ``Events`` has 20 of the branches that CMS's outreach files of 2012 and NanoAOD share, with their names and
types; the rest of those schemas (electrons, taus, jets) would only make the demonstration slower. Floats are shortened
as NanoAOD shortens them, to a precision well below the detector's resolution.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boathouse.analysis.collisions import MUON_MASS_GEV, Uniforms, muons, shorten
from boathouse.analysis.rootwrite import Batch, Branch, Jagged, add_tree, recreate
from boathouse.checksums import Adler32
from boathouse.compute.interrupts import deaf_children
from boathouse.errors import InputError

FORMAT = 1
"""Raised when the content for a seed changes; part of the file names."""
CLUSTER_ENTRIES = 125_000
"""Events that are compressed together."""

_FIRST_RUN = 193_834
_EVENTS_A_RUN = 400_000
_EVENTS_A_LUMINOSITY_BLOCK = 900
_PT_BITS, _ANGLE_BITS, _OTHER_BITS = 13, 14, 10

BRANCHES = {
    "run": Branch("uint32"),
    "luminosityBlock": Branch("uint32"),
    "event": Branch("uint64"),
    "HLT_IsoMu24": Branch("bool"),
    "PV_npvs": Branch("int32"),
    "PV_x": Branch("float32"),
    "PV_y": Branch("float32"),
    "PV_z": Branch("float32"),
    "MET_pt": Branch("float32"),
    "MET_phi": Branch("float32"),
    "Muon_pt": Branch("float32", "nMuon"),
    "Muon_eta": Branch("float32", "nMuon"),
    "Muon_phi": Branch("float32", "nMuon"),
    "Muon_mass": Branch("float32", "nMuon"),
    "Muon_charge": Branch("int32", "nMuon"),
    "Muon_pfRelIso04_all": Branch("float32", "nMuon"),
    "Muon_tightId": Branch("bool", "nMuon"),
    "Muon_dxy": Branch("float32", "nMuon"),
    "Muon_dz": Branch("float32", "nMuon"),
}
"""The branches; beside them ``nMuon``, a ``uint32``, which is their counter."""


@dataclass(frozen=True)
class Sample:
    """What to generate: ``files`` files with ``events`` events in all, from one seed."""

    events: int = 2_000_000
    files: int = 8
    seed: int = 2012

    def __post_init__(self) -> None:
        if self.files < 1 or self.events < self.files:
            raise InputError(
                "cannot spread the events over the files",
                expected="at least one file, and one event a file",
                got=f"{self.events} events in {self.files} files",
            )

    def events_in(self, index: int) -> int:
        """Events of one file; the first files take what does not divide evenly."""
        return self.events // self.files + (index < self.events % self.files)

    def name(self, index: int) -> str:
        """File name, which tells all that its content depends on."""
        return f"dimuon_v{FORMAT}_s{self.seed}_{self.events_in(index)}_{index:03d}.root"


@dataclass(frozen=True)
class SampleFile:
    """A generated file."""

    path: Path
    events: int
    size_bytes: int
    adler32: str
    sha256: str


def generate(
    sample: Sample, directory: Path, *, progress: Callable[[SampleFile], None] | None = None
) -> tuple[SampleFile, ...]:
    """Make the files of a sample, in parallel; those that are there already, whole, are kept.

    A file beside each (``NAME.json``) tells its checksums; a file that does not match is made again. Files appear under
    their names only when they are complete.

    Raises:
        InputError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("cannot make the directory", got=error.strerror or str(error), where=str(directory)) from error
    done = {index: found for index in range(sample.files) if (found := _existing(sample, index, directory))}
    for found in done.values():
        _tell(progress, found)
    missing = [index for index in range(sample.files) if index not in done]
    if missing:
        workers = min(len(missing), len(os.sched_getaffinity(0)))
        # spawn: a fork of a process that runs threads (a progress bar does) may deadlock.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                with deaf_children():
                    futures = {pool.submit(make_file, sample, index, directory): index for index in missing}
                for future in as_completed(futures):
                    done[futures[future]] = future.result()
                    _tell(progress, done[futures[future]])
            except BaseException:
                # Leaving the block would wait for all files: only those that have been begun shall be finished.
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return tuple(done[index] for index in range(sample.files))


def make_file(sample: Sample, index: int, directory: Path) -> SampleFile:
    """Make one file of a sample, and the note of its checksums beside it."""
    path = directory / sample.name(index)
    # A ROOT file contains its own name: the unfinished one has the final name in a directory of its own.
    with tempfile.TemporaryDirectory(prefix=".making-", dir=directory) as scratch:
        partial = Path(scratch) / path.name
        with recreate(partial) as file:
            add_tree(file, "Events", BRANCHES, _clusters(sample, index), cluster_entries=CLUSTER_ENTRIES)
        made = _describe(partial, path, sample.events_in(index))
        note = Path(scratch) / "note"
        note.write_text(json.dumps({"size_bytes": made.size_bytes, "sha256": made.sha256, "adler32": made.adler32}))
        partial.replace(path)
        note.replace(_note(path))
    return made


def _clusters(sample: Sample, index: int) -> Iterator[Batch]:
    first = sum(sample.events_in(earlier) for earlier in range(index))
    for cluster, start in enumerate(range(0, sample.events_in(index), CLUSTER_ENTRIES)):
        events = min(CLUSTER_ENTRIES, sample.events_in(index) - start)
        yield _cluster(Uniforms(FORMAT, sample.seed, index, cluster), first + start, events)


def _cluster(random: Uniforms, first: int, events: int) -> Batch:
    """All branches of one cluster whose first event has this number in the sample."""
    seen = muons(random, events)
    count = len(seen.pt)
    number = np.arange(first, first + events, dtype=np.uint64)
    dxy_error = 0.0015 + random.exponential(count, 0.004)
    dz_error = 0.003 + random.exponential(count, 0.008)
    isolation = np.where(random.uniform(count) < 0.35, 0.0, random.exponential(count, 0.1))
    per_muon = {
        "pt": shorten(seen.pt, _PT_BITS),
        "eta": shorten(seen.eta, _ANGLE_BITS),
        "phi": shorten(seen.phi, _ANGLE_BITS),
        "mass": np.full(count, MUON_MASS_GEV, dtype=np.float32),
        "charge": seen.charge,
        "pfRelIso04_all": shorten(isolation, _OTHER_BITS),
        "tightId": random.uniform(count) < 0.85,
        "dxy": shorten(dxy_error * random.normal(count), _OTHER_BITS),
        "dz": shorten(dz_error * random.normal(count), _OTHER_BITS),
    }
    return {
        "run": (_FIRST_RUN + number // np.uint64(_EVENTS_A_RUN)).astype(np.uint32),
        "luminosityBlock": (1 + number // np.uint64(_EVENTS_A_LUMINOSITY_BLOCK)).astype(np.uint32),
        "event": number,
        "HLT_IsoMu24": random.uniform(events) < 0.3,
        "PV_npvs": np.maximum(1, np.rint(14 + 5 * random.normal(events))).astype(np.int32),
        "PV_x": shorten(0.07 + 0.002 * random.normal(events), _OTHER_BITS),
        "PV_y": shorten(0.06 + 0.002 * random.normal(events), _OTHER_BITS),
        "PV_z": shorten(5.0 * random.normal(events), _OTHER_BITS),
        "MET_pt": shorten(18.0 * np.sqrt(-2.0 * np.log1p(-random.uniform(events))), _OTHER_BITS),
        "MET_phi": shorten(random.uniform(events, -np.pi, np.pi), _OTHER_BITS),
        **{f"Muon_{name}": Jagged(seen.counts, values) for name, values in per_muon.items()},
    }


def _describe(content: Path, path: Path, events: int) -> SampleFile:
    data = content.read_bytes()
    return SampleFile(
        path=path,
        events=events,
        size_bytes=len(data),
        adler32=Adler32(data).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _existing(sample: Sample, index: int, directory: Path) -> SampleFile | None:
    """A file made earlier, if its content is still what its note says."""
    path = directory / sample.name(index)
    try:
        note = json.loads(_note(path).read_text())
        found = _describe(path, path, sample.events_in(index))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    same = note == {"size_bytes": found.size_bytes, "sha256": found.sha256, "adler32": found.adler32}
    return found if same else None


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _tell(progress: Callable[[SampleFile], None] | None, made: SampleFile) -> None:
    if progress:
        progress(made)
