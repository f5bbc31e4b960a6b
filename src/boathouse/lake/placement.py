"""Where new files go: from a quality of service to the storage elements that can take them, best first."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from boathouse.errors import BoathouseError, InputError, NoSpaceError, StorageError
from boathouse.lake.catalogue import Catalogue, Rse, batches
from boathouse.lake.names import Did, hash_path
from boathouse.lake.rest import did_path
from boathouse.lake.storage import join


@dataclass(frozen=True)
class Target:
    """A storage element that can take files over https."""

    rse: Rse
    base: str
    """URL of its prefix."""

    @property
    def name(self) -> str:
        """Name of the RSE."""
        return self.rse.name


class Placement:
    """The targets of one import, in order of preference. Shared by its threads.

    A target that failed is put out of use for the rest of the import, and the next one takes over.
    """

    def __init__(self, targets: Iterable[Target], expression: str) -> None:
        self._targets = list(targets)
        self._expression = expression
        self._reasons: dict[str, BoathouseError] = {}
        self._lock = threading.Lock()

    @property
    def current(self) -> Target:
        """The best target in use.

        Raises:
            StorageError: none is left; the reasons are in the message.
        """
        with self._lock:
            for target in self._targets:
                if target.name not in self._reasons:
                    return target
            reasons = "; ".join(f"{name}: {error.what}" for name, error in self._reasons.items())
            full = any(isinstance(error, NoSpaceError) for error in self._reasons.values())
            raise (NoSpaceError if full else StorageError)(
                "no storage element takes the files", expected=self._expression, got=reasons, remedy="boathouse status"
            )

    @property
    def alternatives(self) -> bool:
        """Whether another target is left besides the current one."""
        with self._lock:
            return sum(target.name not in self._reasons for target in self._targets) > 1

    def give_up(self, target: Target, error: BoathouseError) -> None:
        """Put a target out of use."""
        with self._lock:
            self._reasons.setdefault(target.name, error)


def choose(
    catalogue: Catalogue, expression: str, *, size_bytes: int, dataset: Did | None, keep_paths: bool
) -> Placement:
    """Targets of an RSE expression that have room for ``size_bytes``.

    First come RSEs where the dataset lies already, so that an append needs no transfer; then those with the
    most free space. An RSE without deterministic paths is taken only with ``keep_paths``, or if there is no other.

    Raises:
        InputError: the expression matches no RSE that can be written over https.
        NoSpaceError: none has room.
    """
    found: list[Target] = []
    unfit: list[str] = []
    for name in catalogue.rses(expression):
        rse = catalogue.rse(name, space=True)
        base = rse.base("write")
        if rse.volatile or not rse.writable or base is None:
            unfit.append(f"{name} ({'volatile' if rse.volatile else 'takes no writes over https'})")
        else:
            found.append(Target(rse, base))
    if not found:
        raise InputError(
            "no storage element here can be written",
            expected="an RSE with write access over https",
            got=", ".join(unfit),
            where=expression,
        )
    roomy = [target for target in found if target.rse.free_bytes is None or target.rse.free_bytes >= size_bytes]
    if not roomy:
        raise NoSpaceError("no storage element has room", expected=f"{size_bytes} bytes free", where=expression)
    preferred = _locations(catalogue, dataset) if dataset else set()
    roomy.sort(
        key=lambda target: (
            target.rse.deterministic is keep_paths,
            target.name not in preferred,
            -(target.rse.free_bytes or 0),
            target.name,
        )
    )
    return Placement(roomy, expression)


def urls(catalogue: Catalogue, target: Target, dids: Iterable[Did]) -> dict[Did, str]:
    """Where files lie on a deterministic target; an algorithm that is unknown here is asked of the catalogue."""
    if target.rse.algorithm == "hash":
        return {did: join(target.base, hash_path(did)) for did in dids}
    found: dict[Did, str] = {}
    for batch in batches(dids, 100):
        query = "&".join(f"lfn={did.scope}%3A{did.name}" for did in batch)
        path = f"/rses/{target.name}/lfns2pfns?{query}&scheme=https&operation=write"
        answer = catalogue.rest.call("GET", path)
        found |= {did: str(answer[str(did)]) for did in batch}
    return found


def _locations(catalogue: Catalogue, dataset: Did) -> set[str]:
    """RSEs where rules keep the dataset."""
    lines = catalogue.rest.lines("GET", f"/locks{did_path(dataset)}", query={"did_type": "dataset"})
    return {str(line["rse"]) for line in lines}
