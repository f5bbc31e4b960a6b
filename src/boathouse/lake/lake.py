"""The lake: everything that a client does, given the endpoints of a facility and a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from boathouse.errors import BoathouseError, InputError, StorageError, TransferError
from boathouse.lake.access import LakeFile, Prefer, files
from boathouse.lake.catalogue import Catalogue
from boathouse.lake.copies import Copies
from boathouse.lake.download import DownloadResult, download
from boathouse.lake.http import Http
from boathouse.lake.names import Did
from boathouse.lake.progress import Progress, silent
from boathouse.lake.rest import Rest
from boathouse.lake.rules import Rules
from boathouse.lake.session import Session
from boathouse.lake.sources import LeftOut, LocalSource, Source, scan
from boathouse.lake.storage import Storage
from boathouse.lake.tokens import Issuer, audiences
from boathouse.lake.transfers import Transfers
from boathouse.lake.upload import Item, Order, Uploader, UploadResult
from boathouse.plan.model import Endpoints

OPERATOR = "operator"
"""The client with which the facility looks after itself."""


class Lake:
    """A data lake as one user sees it. One object serves many threads.

    Args:
        endpoints: where everything is; of a facility of ours or of anybody's.
        token: gives the current bearer token, with the audiences of catalogue, transfer service, storage and caches.
    """

    def __init__(self, endpoints: Endpoints, token: Callable[[], str]) -> None:
        self.endpoints = endpoints
        self._token = token

    @classmethod
    def from_session(cls, endpoints: Endpoints, directory: Path | None = None) -> Lake:
        """The lake of whoever is logged in.

        Args:
            endpoints: of the facility.
            directory: of the session; by default the facility's own.

        Raises:
            AuthError: nobody is logged in.
        """
        session = Session.current(endpoints, directory)
        session.require()
        return cls(endpoints, session.token)

    @classmethod
    def operator(cls, endpoints: Endpoints, secret: Path) -> Lake:
        """The lake as its operator sees it: everything may be read, the account is root.

        Args:
            endpoints: of the facility.
            secret: file of the client secret, ``secrets/client-operator`` in the state directory.

        Raises:
            AuthError: the secret cannot be read; only the facility's owner may.
        """
        issuer = Issuer(endpoints.issuer, Http(endpoints.ca_bundle))
        return cls(endpoints, issuer.client(endpoints.operator_id, secret, audiences=audiences(endpoints)))

    def token(self) -> str:
        """The current bearer token."""
        return self._token()

    @cached_property
    def http(self) -> Http:
        """Connections to catalogue and issuer."""
        return Http(self.endpoints.ca_bundle)

    @cached_property
    def catalogue(self) -> Catalogue:
        """DIDs, replicas, metadata, RSEs."""
        return Catalogue(Rest(self.http, self.endpoints.catalogue, self._token))

    @cached_property
    def rules(self) -> Rules:
        """Replication rules."""
        return Rules(self.catalogue.rest)

    @cached_property
    def storage(self) -> Storage:
        """Storage elements over https."""
        return Storage(Http(self.endpoints.ca_bundle, failure=StorageError), self._token)

    @cached_property
    def copies(self) -> Copies:
        """Third-party copies by the transfer service."""
        return Copies(Http(self.endpoints.ca_bundle, failure=TransferError), self.endpoints.transfers, self._token)

    @cached_property
    def transfers(self) -> Transfers:
        """The jobs of the transfer service."""
        return Transfers(Http(self.endpoints.ca_bundle, failure=TransferError), self.endpoints.transfers, self._token)

    # -- reading -------------------------------------------------------------------------------------------------

    def files(self, did: Did, *, prefer: Prefer = "cache", site: str | None = None) -> tuple[LakeFile, ...]:
        """All files at or below a DID with their URLs, sorted by DID.

        Raises:
            NotFoundError: no such DID, or a file without a replica that can be read now.
        """
        return files(self.catalogue, self.endpoints, [did], prefer=prefer, site=site)

    def get(
        self,
        did: Did,
        destination: Path,
        *,
        workers: int = 4,
        keep_going: bool = False,
        progress: Progress = silent,
    ) -> tuple[DownloadResult, ...]:
        """Fetch the files of a DID into a directory, verified (:mod:`boathouse.lake.download`)."""
        wanted = self.files(did, prefer="replica")
        return download(self.storage, wanted, destination, workers=workers, keep_going=keep_going, progress=progress)

    def metadata(self, did: Did) -> dict[str, Any]:
        """The custom metadata of a DID."""
        return self.catalogue.custom_metadata(did)

    def set_metadata(self, did: Did, values: Mapping[str, object]) -> None:
        """Set custom metadata of a DID; other keys stay."""
        self.catalogue.set_metadata(did, values)

    # -- writing -------------------------------------------------------------------------------------------------

    def put(
        self,
        paths: Sequence[Path | str],
        *,
        scope: str,
        rse_expression: str,
        dataset: Did | None = None,
        names: Mapping[str, str] | None = None,
        metadata: Mapping[str, object] | None = None,
        lifetime_s: float | None = None,
        progress: Progress | None = None,
    ) -> tuple[UploadResult, ...]:
        """Bring local files of any kind into the lake, each under its own name.

        Args:
            paths: files of this machine.
            scope: of the new DIDs.
            rse_expression: where the files shall be, e.g. ``QOS=FAST``.
            dataset: takes the files, if given; made if there is none.
            names: DID name by path, where the file's own name will not do.
            metadata: custom metadata of every file.
            lifetime_s: of the rule.
            progress: told of bytes and files.

        Raises:
            BoathouseError: see :class:`~boathouse.lake.upload.Uploader`.
        """
        items = []
        for path in map(Path, paths):
            if not path.is_file():
                raise InputError("not a file", where=str(path))
            source = LocalSource(where=str(path), size_bytes=path.stat().st_size)
            name = (names or {}).get(str(path), source.name)
            items.append(Item(source, Did(scope, name).checked_file(), source.path))
        order = Order(rse_expression=rse_expression, dataset=dataset, lifetime_s=lifetime_s)
        results = self.upload(items, order, progress=progress or silent)
        if metadata:
            for result in results:
                self.set_metadata(result.did, metadata)
        return results

    def upload(self, items: Sequence[Item], order: Order, *, progress: Progress = silent) -> tuple[UploadResult, ...]:
        """Bring files into the lake (:class:`~boathouse.lake.upload.Uploader`)."""
        uploader = Uploader(self.catalogue, self.rules, self.storage, self.copies, order, progress=progress)
        return uploader.run(items)

    def scan(
        self,
        arguments: Sequence[str],
        *,
        scope: str,
        prefix: str = "",
        directory: str | None = None,
        any_file: bool = False,
        keep_going: bool = False,
        tools: Sequence[Path] = (),
        left_out: LeftOut = lambda _: None,
    ) -> tuple[list[Item], list[BoathouseError]]:
        """What an import would bring in.

        Args:
            arguments: files, directories, patterns, ``https://`` and ``root://`` URLs.
            scope: of the new DIDs.
            prefix: put before every name.
            directory: where the files lie below the scope, on an RSE that keeps paths; by default where they
                lie at their source.
            any_file: whether to take files that are not ROOT; without it directories give their ``*.root`` only.
            keep_going: whether to collect errors instead of raising the first.
            tools: directories with ``xrdcp`` and ``xrdfs``, for ``root://`` where the search path has none.
            left_out: told of each file of a directory that is not taken because it is not ``*.root``.

        Returns:
            The items, and with ``keep_going`` an error for each source that cannot be taken.

        Raises:
            InputError: without ``keep_going``, for the first source that cannot be taken.
        """
        items: list[Item] = []
        errors: list[BoathouseError] = []
        http = Http(self.endpoints.ca_bundle, failure=StorageError, remedy="try again later")
        for found in scan(arguments, http, any_file=any_file, tools=tools, left_out=left_out):
            try:
                if not isinstance(found, Source):
                    raise found
                if not any_file:
                    found.check_root()
                path = found.path if directory is None else f"{directory.strip('/')}/{found.name}".lstrip("/")
                items.append(Item(found, Did(scope, prefix + found.name).checked_file(), path))
            except BoathouseError as error:
                if not keep_going:
                    raise
                errors.append(error)
        return items, errors
