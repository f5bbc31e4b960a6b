"""The catalogue as the lake client sees it: DIDs, replicas, metadata, RSEs. Rules are in :mod:`.rules`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from boathouse.checksums import normalise_adler32
from boathouse.errors import ConflictError, NotFoundError
from boathouse.lake.names import Did
from boathouse.lake.rest import Json, Rest, did_path

T = TypeVar("T")

BATCH = 500
"""DIDs in one request; the server compares batches pairwise, so larger ones get slower."""


COLUMNS = (
    *("campaign", "datatype", "events", "guid", "lumiblocknr", "panda_id", "phys_group", "prod_step", "provenance"),
    *("run_number", "stream_name", "task_id", "version"),
)
"""Keys of metadata that the catalogue keeps in columns of its own, with the types of these."""


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """The items in lists of at most ``size``."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@dataclass(frozen=True)
class DidInfo:
    """What the catalogue knows about a DID."""

    did: Did
    kind: str
    """``FILE``, ``DATASET`` or ``CONTAINER``."""
    size_bytes: int | None = None
    """Of a file, or of all files below a dataset."""
    length: int | None = None
    """Number of files below a dataset or container."""
    adler32: str | None = None
    is_open: bool | None = None
    account: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class Replicas:
    """A file and where it lies."""

    did: Did
    size_bytes: int
    adler32: str
    pfns: Mapping[str, str]
    """RSE by URL, best first."""
    states: Mapping[str, str]
    """State by RSE: ``AVAILABLE``, ``COPYING``, ``BEING_DELETED`` …"""

    def at(self, rse: str) -> str | None:
        """State of the replica at an RSE; ``None`` if there is none."""
        return self.states.get(rse)


@dataclass(frozen=True)
class Registration:
    """A file whose bytes lie on storage, to be made known."""

    did: Did
    size_bytes: int
    adler32: str
    pfn: str | None = None
    """Where it lies, for a non-deterministic RSE."""

    def document(self) -> Json:
        """As the catalogue wants it."""
        document: Json = {
            "scope": self.did.scope,
            "name": self.did.name,
            "bytes": self.size_bytes,
            "adler32": self.adler32,
        }
        return document | ({"pfn": self.pfn} if self.pfn else {})


@dataclass(frozen=True)
class Rse:
    """A storage element as the catalogue describes it."""

    name: str
    deterministic: bool
    volatile: bool
    writable: bool
    algorithm: str
    """How a path follows from a name on a deterministic RSE; ``hash`` is known here."""
    protocols: tuple[Json, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    used_bytes: int | None = None
    free_bytes: int | None = None

    def base(self, operation: str, schemes: Sequence[str] = ("https", "davs")) -> str | None:
        """URL of the RSE's prefix for ``read``, ``write`` or ``delete``, by the smallest priority number.

        ``davs`` is a name for https. There is no final slash.
        """
        found: list[tuple[int, int, str]] = []
        for protocol in self.protocols:
            if protocol["scheme"] not in schemes:
                continue
            for domain in protocol["domains"].values():
                if priority := domain.get(operation):
                    scheme = "https" if protocol["scheme"] == "davs" else protocol["scheme"]
                    prefix = "/" + protocol["prefix"].strip("/")
                    host = f"{scheme}://{protocol['hostname']}:{protocol['port']}"
                    found.append((priority, schemes.index(protocol["scheme"]), host + prefix.rstrip("/")))
        return min(found)[2] if found else None


class Catalogue:
    """Typed requests to a Rucio server. One object serves many threads."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self._account: str | None = None

    # -- who and where -------------------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """The account that the token stands for; asked once."""
        if self._account is None:
            self._account = str(self.rest.call("GET", "/accounts/whoami")["account"])
        return self._account

    def scopes(self) -> list[str]:
        """All scopes, sorted."""
        return sorted(str(name) for name in self.rest.call("GET", "/scopes/"))

    def require_scope(self, scope: str) -> None:
        """Make sure that there is a scope of this name.

        Raises:
            NotFoundError: there is none; the nearest names are in the message.
        """
        there = self.scopes()
        if scope not in there:
            near = get_close_matches(scope, there, n=3)
            raise NotFoundError(
                "no such scope",
                expected="one of " + ", ".join(near or there[:5]) + ("" if near or len(there) <= 5 else ", …"),
                got=scope,
                remedy="boathouse ls, to see the scopes",
            )

    def rses(self, expression: str = "*") -> list[str]:
        """Names of the RSEs that an RSE expression matches.

        Raises:
            InputError: the expression is malformed or matches nothing.
        """
        return sorted(str(line["rse"]) for line in self.rest.lines("GET", "/rses/", query={"expression": expression}))

    def rse(self, name: str, *, space: bool = False) -> Rse:
        """An RSE with its attributes; with ``space`` also what is used and free."""
        document = self.rest.call("GET", f"/rses/{quote(name)}")
        attributes = self.rest.call("GET", f"/rses/{quote(name)}/attr/")
        measured: Json = {}
        if space:
            for line in self.rest.lines("GET", f"/rses/{quote(name)}/usage", query={"source": "storage"}):
                if line.get("source") == "storage":
                    measured = line
        return Rse(
            name=name,
            deterministic=bool(document["deterministic"]),
            volatile=bool(document["volatile"]),
            writable=bool(document["availability_write"]),
            algorithm=str(document.get("lfn2pfn_algorithm") or "hash"),
            protocols=tuple(document["protocols"]),
            attributes=attributes,
            used_bytes=measured.get("used"),
            free_bytes=measured.get("free"),
        )

    # -- DIDs ----------------------------------------------------------------------------------------------------

    def did(self, did: Did, *, deep: bool = False) -> DidInfo:
        """One DID; with ``deep`` the sizes of a dataset or container are summed over its files.

        Raises:
            NotFoundError: there is none.
        """
        query = {"dynamic_depth": "FILE"} if deep else None
        return _did_info(self.rest.call("GET", f"/dids{did_path(did)}", query=query))

    def known(self, dids: Iterable[Did]) -> dict[Did, DidInfo]:
        """Those of the DIDs that exist; asked in batches."""
        found: dict[Did, DidInfo] = {}
        for batch in batches(dids):
            for line in self.rest.lines("POST", "/dids/bulkmeta", {"dids": [_name(did) for did in batch]}):
                info = _did_info(line)
                found[info.did] = info
        return found

    def search(self, scope: str, *, kind: str = "all", pattern: str = "*") -> Iterator[DidInfo]:
        """DIDs of a scope by name pattern; ``kind`` is all, collection, dataset, container or file."""
        query = {"type": kind, "long": "1", "name": pattern}
        for line in self.rest.lines("GET", f"/dids/{quote(scope)}/dids/search", query=query):
            yield _did_info(line)

    def content(self, did: Did) -> Iterator[DidInfo]:
        """What is directly in a dataset or container."""
        for line in self.rest.lines("GET", f"/dids{did_path(did)}/dids"):
            yield _did_info(line)

    def files(self, did: Did) -> Iterator[DidInfo]:
        """All files at or below a DID."""
        for line in self.rest.lines("GET", f"/dids{did_path(did)}/files"):
            yield _did_info(line | {"type": "FILE"})

    def ensure_dataset(self, did: Did) -> bool:
        """Make an open dataset unless it exists; tell whether it is new.

        Raises:
            ConflictError: there is a file or container of that name, or the dataset is closed.
        """
        try:
            self.rest.call("POST", f"/dids{did_path(did)}", {"type": "DATASET"})
        except ConflictError as error:
            info = self.did(did)
            if info.kind != "DATASET" or info.is_open is False:
                raise ConflictError(
                    "files cannot be added here",
                    expected="an open dataset",
                    got=f"a {'closed ' if info.is_open is False else ''}{info.kind.lower()}",
                    where=str(did),
                    remedy="choose another name for the dataset",
                ) from error
            return False
        return True

    # -- replicas ------------------------------------------------------------------------------------------------

    def register(self, rse: str, files: Sequence[Registration], *, dataset: Did | None) -> None:
        """Make files known at an RSE and attach them to a dataset, all in one transaction a batch.

        Files that are there already, with the same size and checksum, are left as they are.

        Raises:
            ConflictError: a file of that name exists with other content; nothing of its batch was registered.
        """
        for batch in batches(files):
            documents = [file.document() for file in batch]
            if dataset is None:
                document = {"rse": rse, "files": documents, "ignore_availability": False}
                self.rest.call("POST", "/replicas", document)
            else:
                attachment = {"scope": dataset.scope, "name": dataset.name, "rse": rse, "dids": documents}
                document = {"ignore_duplicate": True, "attachments": [attachment]}
                self.rest.call("POST", "/dids/attachments", document)

    def attach(self, dataset: Did, files: Iterable[Did]) -> None:
        """Attach known files to a dataset; those that are in it already stay as they are."""
        for batch in batches(files):
            attachment = {"scope": dataset.scope, "name": dataset.name, "dids": [_name(did) for did in batch]}
            self.rest.call("POST", "/dids/attachments", {"ignore_duplicate": True, "attachments": [attachment]})

    def set_available(self, rse: str, files: Iterable[Did]) -> None:
        """Mark replicas whose bytes were verified as available."""
        for batch in batches(files):
            states = [_name(did) | {"state": "A"} for did in batch]
            self.rest.call("PUT", "/replicas", {"rse": rse, "files": states})

    def replicas(
        self,
        dids: Iterable[Did],
        *,
        schemes: Sequence[str] | None = None,
        rse_expression: str | None = None,
        all_states: bool = False,
        lan: bool = False,
    ) -> Iterator[Replicas]:
        """Replicas of files, or of all files of datasets; DIDs that do not exist are left out.

        Without ``all_states`` only what can be read now is listed. URLs are in the order of their protocols'
        priorities: of those for readers inside the facility with ``lan``, else of those for everybody.
        """
        for batch in batches(dids):
            document: Json = {"dids": [_name(did) for did in batch], "all_states": all_states}
            document["schemes"] = list(schemes) if schemes else None
            document["rse_expression"] = rse_expression
            document["domain"] = "lan" if lan else "wan"
            for line in self.rest.lines("POST", "/replicas/list", document):
                yield _replicas(line)

    def declare_bad(self, urls: Sequence[str], *, reason: str) -> list[str]:
        """Tell that the files at these URLs are lost or wrong; the catalogue replaces them or gives them up.

        Returns:
            URLs that are no replica of the catalogue.
        """
        answer = self.rest.call("POST", "/replicas/bad", {"replicas": list(urls), "reason": reason})
        return [str(url) for refused in dict(answer or {}).values() for url in refused]

    # -- metadata ------------------------------------------------------------------------------------------------

    def metadata(self, did: Did) -> Json:
        """The catalogue's own columns and the custom keys of a DID, in one mapping.

        Raises:
            NotFoundError: there is no such DID.
        """
        return dict(self.rest.call("GET", f"/dids{did_path(did)}/meta", query={"plugin": "ALL"}))

    def custom_metadata(self, did: Did) -> Json:
        """What was set on a DID: its custom keys, and those of :data:`COLUMNS` that have a value.

        Raises:
            NotFoundError: there is no such DID.
        """
        every = self.metadata(did)
        custom: Json = self.rest.call("GET", f"/dids{did_path(did)}/meta", query={"plugin": "JSON"})
        return {key: every[key] for key in COLUMNS if every.get(key) is not None} | custom

    def set_metadata(self, did: Did, values: Mapping[str, Any]) -> None:
        """Set custom keys of a DID; other keys stay.

        Raises:
            NotFoundError: there is no such DID.
        """
        self.rest.call("POST", f"/dids{did_path(did)}/meta", {"meta": dict(values), "recursive": False})


def _name(did: Did) -> Json:
    return {"scope": did.scope, "name": did.name}


def _did_info(line: Json) -> DidInfo:
    adler32 = line.get("adler32")
    return DidInfo(
        did=Did(line["scope"], line["name"]),
        kind=str(line.get("did_type") or line.get("type") or "").upper(),
        size_bytes=_integer(line.get("bytes")),
        length=_integer(line.get("length")),
        adler32=normalise_adler32(adler32) if adler32 else None,
        is_open=line.get("open", line.get("is_open")),
        account=str(line.get("account") or ""),
        created_at=str(line.get("created_at") or ""),
    )


def _integer(value: float | None) -> int | None:
    """Sums of sizes come as floating-point numbers."""
    return None if value is None else int(value)


def _replicas(line: Json) -> Replicas:
    return Replicas(
        did=Did(line["scope"], line["name"]),
        size_bytes=int(line["bytes"]),
        adler32=normalise_adler32(line["adler32"]) if line.get("adler32") else "",
        pfns={url: str(entry["rse"]) for url, entry in line["pfns"].items()},
        states={rse: str(state) for rse, state in (line.get("states") or {}).items()},
    )
