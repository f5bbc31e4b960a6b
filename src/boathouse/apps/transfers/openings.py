"""What may be done with a store: asked once, when a job comes, with who submits it.

A store knows no third-party copy, so the other end of a copy is an element of the facility. Its secret is used for
those whom the facility file names; whoever else brings a signed URL or a token of the store's.
"""

from __future__ import annotations

from dataclasses import replace

from boathouse.apps.transfers import jwt, stores, urls
from boathouse.apps.transfers.settings import Settings, Store, StoreKind
from boathouse.apps.transfers.store import Caller
from boathouse.apps.transfers.stores import Stores
from boathouse.apps.transfers.submission import Place, Submission, Transfer
from boathouse.errors import InputError


class Openings:
    """Decides about jobs that name stores.

    Args:
        settings: the stores and the facility's elements.
    """

    def __init__(self, settings: Settings) -> None:
        self.stores = Stores(settings.stores)
        self._elements = settings.elements
        self._issuer = settings.issuer

    def admit(self, submission: Submission, caller: Caller) -> Submission:
        """The submission, with what opens each of its places at a store.

        Raises:
            InputError: a copy from or to a store that cannot be, or that nothing opens for the caller.
        """
        if not self.stores:
            return submission
        transfers = (self._transfer(each, caller, overwrite=submission.overwrite) for each in submission.transfers)
        return replace(submission, transfers=tuple(transfers))

    def _transfer(self, transfer: Transfer, caller: Caller, *, overwrite: bool) -> Transfer:
        destination = transfer.destination
        if urls.host_of(destination.url) in self.stores.hosts:
            destination = self._sink(transfer, caller, overwrite=overwrite)
        return replace(
            transfer,
            destination=destination,
            sources=tuple(
                self._opened(source, store, caller) if (store := self.stores.at(source.url)) else source
                for source in transfer.sources
            ),
        )

    def _sink(self, transfer: Transfer, caller: Caller, *, overwrite: bool) -> Place:
        """The destination, if files may be copied into it from these sources."""
        place = transfer.destination
        store = self.stores.at(place.url)
        if store is None or not store.write:
            raise InputError(
                "the destination is no store that files may be copied into",
                expected="a place in a store of the facility file with write: true",
                got=place.url,
                remedy=f"stores.{store.name}.write: true" if store else "name its bucket or directory in stores",
            )
        for source in transfer.sources:
            if urls.host_of(source.url) not in self._elements:
                raise InputError(
                    "neither end can copy by itself",
                    expected="a storage element of this facility as the source of a copy into a store",
                    got=f"{source.surl} to {place.surl}",
                    remedy="copy it into an element first (multihop does both)",
                )
        place = self._opened(place, store, caller)
        if stores.is_signed(place.token) and not overwrite:
            raise InputError(
                "a signed URL to write to does not tell whether a file is there",
                expected="overwrite, or a store that is opened with the facility's secret",
                got=place.surl,
                remedy="submit with overwrite",
            )
        return place

    def _opened(self, place: Place, store: Store, caller: Caller) -> Place:
        """A place with what opens it: the store's secret if the caller may use that, or what the caller brought."""
        may = caller.operator or caller.subject in store.subjects or not set(store.groups).isdisjoint(caller.groups)
        if may and store.secret:
            return replace(place, token=stores.own(store.name))
        if place.token is None or not self._is_for(store, place.token):
            raise InputError(
                f"nothing opens the store {store.name} for you",
                expected="a signed URL, a token of the store's, or a group that the facility's secret is lent to",
                got=place.surl,
                remedy=f"stores.{store.name}.groups: [GROUP] in the facility file" if store.secret else "sign the URL",
            )
        return place

    def _is_for(self, store: Store, token: str) -> bool:
        """Whether the store may see it: S3 knows signatures only, and a token of the lake says whom it is for."""
        if stores.is_signed(token):
            return True
        if store.kind is StoreKind.s3:
            return False
        claims = jwt.payload(token)
        names = {store.host, f"https://{store.host}", jwt.address(store.host)}
        return claims.get("iss") != self._issuer or not names.isdisjoint(jwt.audiences(claims))
