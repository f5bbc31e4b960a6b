"""Bring files into the lake: bytes first, verified; then the catalogue; then the rule that protects them.

For each file, in this order, each step being repeatable (docs/behaviour.md numbers the cases):

1. *uploaded*: an exclusive PUT to the file's final path (or a third-party copy), then the element's own adler32 is
   compared with the one computed here. A file that lies there already with the same bytes counts as uploaded.
2. *registering*: files are made known in batches; file, replica and attachment to the dataset are one transaction.
3. *added replica*: the transaction is done.
4. *added rule*: one rule on the dataset, or one on each file.

Killed between two steps, an import leaves at most a file that the catalogue does not know. The next run finds it by
its path and checksum and goes on from there; the audit reports it as dark.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from boathouse.errors import BoathouseError, ConflictError, InputError, PartialError
from boathouse.lake.catalogue import Catalogue, DidInfo, Registration, Replicas
from boathouse.lake.copies import Copies
from boathouse.lake.names import Did
from boathouse.lake.placement import Placement, Target, choose, urls
from boathouse.lake.progress import Progress, silent
from boathouse.lake.rules import Rules
from boathouse.lake.sources import Source
from boathouse.lake.storage import Storage
from boathouse.lake.transfer import Landing, Mover

log = logging.getLogger(__name__)

_BATCH = 100
_BATCH_AGE_S = 0.5


@dataclass(frozen=True)
class UploadResult:
    """What became of one file."""

    did: Did
    source: str
    size_bytes: int
    adler32: str
    rse: str
    outcome: str
    """``uploaded``; ``found``: the bytes lay there already; ``present``: the catalogue had it, nothing was done."""
    streamed: str = ""
    """Why the element could not fetch a web source by itself, if this machine had to."""


@dataclass(frozen=True)
class Item:
    """A source and the name that it gets."""

    source: Source
    did: Did
    path: str | None = None
    """Path below the scope's directory, for an RSE that keeps paths."""


@dataclass(frozen=True)
class Order:
    """What to do with the files."""

    rse_expression: str
    dataset: Did | None = None
    lifetime_s: float | None = None
    activity: str | None = None
    keep_paths: bool = False
    keep_going: bool = False
    workers: int = 6


@dataclass
class _Known:
    """What the catalogue knew about the items before the import."""

    infos: Mapping[Did, DidInfo]
    replicas: Mapping[Did, Replicas] = field(default_factory=dict)


_Landed = queue.SimpleQueue[tuple[Item, Future[Landing]]]


def _landed(landed: _Landed, item: Item, future: Future[Landing]) -> None:
    landed.put((item, future))


class Uploader:
    """One import, from sources to a protected dataset.

    Args:
        catalogue, rules, storage, copies: of the lake.
        order: what to do.
        progress: told of bytes and files.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        rules: Rules,
        storage: Storage,
        copies: Copies,
        order: Order,
        *,
        progress: Progress = silent,
    ) -> None:
        self._catalogue = catalogue
        self._rules = rules
        self._storage = storage
        self._copies = copies
        self._order = order
        self._progress = progress
        self._failures: list[BoathouseError] = []
        self._results: list[UploadResult] = []
        self._dataset_rule = False

    def run(self, items: Sequence[Item]) -> tuple[UploadResult, ...]:
        """Bring all items in.

        Returns:
            One result a file, in the order of ``items``.

        Raises:
            PartialError: with ``keep_going``, when some files failed; the others are in.
            BoathouseError: of the first file that failed, without ``keep_going``; what came before it is in.
        """
        items = self._unique(items)
        infos = self._catalogue.known(item.did for item in items)
        known = _Known(
            infos,
            {replicas.did: replicas for replicas in self._catalogue.replicas(infos, all_states=True)},
        )
        placement = choose(
            self._catalogue,
            self._order.rse_expression,
            size_bytes=sum(item.source.size_bytes for item in items if item.did not in infos),
            dataset=self._order.dataset,
            keep_paths=self._order.keep_paths,
        )
        # Only now: a destination that cannot be used must not leave an empty dataset behind.
        if self._order.dataset is not None:
            self._catalogue.ensure_dataset(self._order.dataset)
        self._transfer(items, known, placement)
        if self._order.dataset is not None and self._results:
            self._protect([self._order.dataset])
        return self._outcome(items)

    # -- step 1: bytes -------------------------------------------------------------------------------------------

    def _transfer(self, items: Sequence[Item], known: _Known, placement: Placement) -> None:
        """Move the bytes in many threads, register what has landed in this one."""
        mover = Mover(
            self._catalogue,
            self._storage,
            self._copies,
            placement=placement,
            locate=self._locate(items),
            progress=self._progress,
        )
        landed: _Landed = queue.SimpleQueue()
        with ThreadPoolExecutor(self._order.workers, thread_name_prefix="upload") as threads:
            try:
                for item in items:
                    before = known.infos.get(item.did), known.replicas.get(item.did)
                    future = threads.submit(mover.move, item.source, item.did, item.path, *before)
                    future.add_done_callback(partial(_landed, landed, item))
                self._collect(len(items), landed, stop=partial(threads.shutdown, wait=False, cancel_futures=True))
            except BaseException:
                mover.stop()
                threads.shutdown(wait=True, cancel_futures=True)
                raise

    def _locate(self, items: Sequence[Item]) -> Callable[[Target], Mapping[Did, str]]:
        """URLs of all items at a target, worked out once a target."""
        memo: dict[str, Mapping[Did, str]] = {}

        def locate(target: Target) -> Mapping[Did, str]:
            if target.name not in memo:
                memo[target.name] = urls(self._catalogue, target, [item.did for item in items])
            return memo[target.name]

        return locate

    def _collect(self, count: int, landed: _Landed, *, stop: Callable[[], None]) -> None:
        """Register what has landed, in batches; after a first failure without ``keep_going``, only that."""
        pending: list[tuple[Item, Landing]] = []
        oldest = time.monotonic()
        for _ in range(count):
            item, future = landed.get()
            if future.cancelled():
                continue
            try:
                landing = future.result()
            except BoathouseError as error:
                self._failures.append(error)
                if not self._order.keep_going:
                    stop()
                continue
            if not pending:
                oldest = time.monotonic()
            pending.append((item, landing))
            if landing.outcome != "present":
                log.info("Successfully uploaded file %s", item.did.name)
            if len(pending) >= _BATCH or time.monotonic() - oldest > _BATCH_AGE_S:
                self._register(pending)
                pending = []
        self._register(pending)

    # -- steps 2 to 4: the catalogue -----------------------------------------------------------------------------

    def _register(self, batch: Sequence[tuple[Item, Landing]]) -> None:
        by_rse: dict[str, list[tuple[Item, Landing]]] = defaultdict(list)
        for item, landing in batch:
            by_rse["" if landing.outcome == "present" else landing.rse].append((item, landing))
        present = by_rse.pop("", [])
        if present:
            known = [item.did for item, _ in present]
            if self._order.dataset is not None:
                self._catalogue.attach(self._order.dataset, known)
            # A file whose rule has ended may still be there, waiting to be deleted.
            self._protect([self._order.dataset] if self._order.dataset else known)
        self._done(present)
        for rse, members in by_rse.items():
            for item, _ in members:
                log.debug("Registering file %s", item.did)
            self._register_at(rse, members)

    def _register_at(self, rse: str, members: Sequence[tuple[Item, Landing]]) -> None:
        """Register a batch; when the catalogue refuses a file for its content, the others still go in."""
        files = [Registration(item.did, landing.size_bytes, landing.adler32, landing.pfn) for item, landing in members]
        try:
            self._catalogue.register(rse, files, dataset=self._order.dataset)
        except ConflictError as error:
            if len(members) > 1:
                middle = len(members) // 2
                self._register_at(rse, members[:middle])
                self._register_at(rse, members[middle:])
                return
            self._failures.append(
                ConflictError(
                    "the name is taken by a file with other content",
                    got=error.what,
                    where=str(members[0][0].did),
                    remedy="give the new file another name: --prefix",
                )
            )
            return
        if stale := [item.did for item, landing in members if landing.stale]:
            self._catalogue.set_available(rse, stale)
        for item, _ in members:
            log.info("Successfully added replica of %s in the catalogue at %s", item.did, rse)
        self._protect([self._order.dataset] if self._order.dataset else [item.did for item, _ in members])
        for item, _ in members:
            log.info("Successfully added replication rule for %s at %s", item.did, rse)
        self._done(members)

    def _protect(self, dids: Sequence[Did]) -> None:
        """The rule that keeps the files: once for a dataset, whose later files it takes in by itself."""
        if self._order.dataset is not None and self._dataset_rule:
            return
        self._rules.ensure(
            dids,
            self._order.rse_expression,
            account=self._catalogue.account,
            lifetime_s=self._order.lifetime_s,
            activity=self._order.activity,
        )
        self._dataset_rule = True

    def _done(self, members: Iterable[tuple[Item, Landing]]) -> None:
        for item, landing in members:
            self._progress(files=1)
            self._results.append(
                UploadResult(
                    did=item.did,
                    source=item.source.where,
                    size_bytes=landing.size_bytes,
                    adler32=landing.adler32,
                    rse=landing.rse,
                    outcome=landing.outcome,
                    streamed=landing.streamed,
                )
            )

    # -- the whole -----------------------------------------------------------------------------------------------

    def _unique(self, items: Sequence[Item]) -> list[Item]:
        """The items, without a second mention of the same file.

        Raises:
            InputError: two different files want one name.
        """
        kept: dict[Did, Item] = {}
        for item in items:
            other = kept.setdefault(item.did, item)
            if other is not item and other.source.where != item.source.where:
                error = InputError(
                    "two files want one name",
                    got=f"{other.source.where} and {item.source.where}",
                    where=str(item.did),
                    remedy="import them apart, with --prefix",
                )
                if not self._order.keep_going:
                    raise error
                self._failures.append(error)
        return list(kept.values())

    def _outcome(self, items: Sequence[Item]) -> tuple[UploadResult, ...]:
        place = {item.did: number for number, item in enumerate(items)}
        results = tuple(sorted(self._results, key=lambda result: place[result.did]))
        if self._failures and not self._order.keep_going:
            raise self._failures[0]
        if self._failures:
            raise partly(len(results), len(results) + len(self._failures), self._failures)
        return results


def partly(done: int, total: int, failures: Iterable[BoathouseError]) -> PartialError:
    """The error of an import of which only some files came in."""
    return PartialError(
        f"{done} of {total} files are in the lake",
        failures=tuple(failures),
        remedy="mend the files below and run the same command again: it adds only what is missing",
    )
