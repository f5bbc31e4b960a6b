"""The declarative description of a lake, ``lake.json``, and how the catalogue is made to agree with it.

Format::

    {"version": 1,
     "accounts": {"alice": {"type": "USER", "email": "…", "identities": ["SUB=…, ISS=…"],
                            "attributes": {"group-cms": "member"}}, …},
     "scopes": {"cms": "cms", "user.alice": "alice"},
     "rses": {"CNAF-STORM": {"deterministic": true, "volatile": false, "attributes": {"QOS": "FAST", …},
                             "limits": {"MaxSpaceAvailable": 20000000000},
                             "protocols": [{"scheme": "https", "hostname": "127.0.1.11", "port": 8443,
                                            "prefix": "/lake/", "impl": "…", "extended_attributes": null,
                                            "domains": {"lan": {"read": 1, …}, "wan": {"read": 1, …,
                                            "third_party_copy_read": 1}}}, …]}, …},
     "distances": {"CNAF-STORM": {"DESY-DCACHE": 1, …}, …},
     "account_limits": {"alice": {"CNAF-STORM": null}}}

``scopes`` name the owner; a limit of ``null`` is infinite. Whatever the previous description named and this one does
not (an attribute, a protocol, an identity) is taken away; accounts, scopes and RSEs stay, since data hang on them, and
what somebody has added by hand stays too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rucio.common.constants import DEFAULT_VO
from rucio.common.types import InternalAccount, InternalScope
from rucio.core import account as accounts
from rucio.core import account_limit, distance, identity, rse, scope
from rucio.db.sqla import models
from rucio.db.sqla.constants import AccountType, DatabaseOperationType, IdentityType, RSEType
from rucio.db.sqla.session import db_session
from sqlalchemy import select

from boathouse_rucio_site import database
from boathouse_rucio_site.errors import SiteError

VERSION = 1
_log = logging.getLogger(__name__)

Document = Mapping[str, Any]
_OPERATIONS = {
    "lan": ("read", "write", "delete"),
    "wan": ("read", "write", "delete", "third_party_copy_read", "third_party_copy_write"),
}


def read(path: Path) -> dict[str, Any]:
    """Read a description.

    Raises:
        SiteError: it cannot be read, or is of another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SiteError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise SiteError(f"{path} is no description of a lake of version {VERSION}")
    return dict(document)


def synchronise(document: Document) -> int:
    """Make the catalogue agree with a description, in one transaction.

    Returns:
        How many things were changed.
    """
    before: Document = json.loads(database.applied_lake())
    with db_session(DatabaseOperationType.WRITE) as session:
        change = Synchroniser(session, before)
        change.accounts(document["accounts"])
        change.scopes(document["scopes"])
        change.rses(document["rses"])
        change.distances(document["distances"])
        change.account_limits(document["account_limits"])
        database.record_lake(json.dumps(document, sort_keys=True), session=session)
    return change.count


class Synchroniser:
    """Compares with what is there and changes what differs; each change is logged."""

    def __init__(self, session: Any, before: Document) -> None:
        self._session = session
        self._before = before
        self._rse_ids: dict[str, str] = {}
        self.count = 0

    def accounts(self, wanted: Document) -> None:
        """Accounts with their OIDC identities and attributes."""
        known = {row.account.external: row for row in self._session.execute(select(models.Account)).scalars()}
        identities = self._identities()
        attributes: dict[str, dict[str, str]] = {}
        for row in self._session.execute(select(models.AccountAttrAssociation)).scalars():
            attributes.setdefault(row.account.external, {})[row.key] = str(row.value)
        for name, entry in wanted.items():
            account = InternalAccount(name, vo=DEFAULT_VO)
            email = entry.get("email") or None
            if name not in known:
                self._changed("account %s", name)
                accounts.add_account(account, AccountType[entry["type"]], email, session=self._session)
            elif email and known[name].email != email:
                self._changed("e-mail address of %s", name)
                accounts.update_account(account, "email", email, session=self._session)
            before = self._before.get("accounts", {}).get(name, {})
            self._identify(account, entry, before, identities.get(name, set()))
            self._attribute(account, entry.get("attributes", {}), before, attributes.get(name, {}))

    def _identities(self) -> dict[str, set[str]]:
        rows = self._session.execute(
            select(models.IdentityAccountAssociation.account, models.IdentityAccountAssociation.identity).where(
                models.IdentityAccountAssociation.identity_type == IdentityType.OIDC
            )
        )
        found: dict[str, set[str]] = {}
        for account, name in rows:
            found.setdefault(account.external, set()).add(name)
        return found

    def _identify(self, account: InternalAccount, entry: Document, before: Document, present: set[str]) -> None:
        wanted = list(entry.get("identities", ()))
        for name in wanted:
            if name not in present:
                self._changed("identity %s of %s", name, account.external)
                identity.add_account_identity(
                    name, IdentityType.OIDC, account, entry.get("email") or "", default=True, session=self._session
                )
        for name in set(before.get("identities", ())) & present - set(wanted):
            self._changed("no longer identity %s of %s", name, account.external)
            identity.del_account_identity(name, IdentityType.OIDC, account, session=self._session)

    def _attribute(
        self, account: InternalAccount, wanted: Document, before: Document, present: Mapping[str, str]
    ) -> None:
        gone = set(before.get("attributes", {})) & set(present) - set(wanted)
        for key in gone | {key for key in wanted if key in present and not _same(present[key], wanted[key])}:
            self._changed("no longer attribute %s of %s", key, account.external)
            accounts.del_account_attribute(account, key, session=self._session)
            self._forget_deleted()
        for key, value in wanted.items():
            if key not in present or not _same(present[key], value):
                self._changed("attribute %s of %s", key, account.external)
                accounts.add_account_attribute(account, key, value, session=self._session)

    def scopes(self, wanted: Document) -> None:
        """Scopes and their owners."""
        owners = {
            row["scope"].external: row["account"].external
            for row in scope.list_scopes_with_account(session=self._session)
        }
        for name, owner in wanted.items():
            account, internal = InternalAccount(owner, vo=DEFAULT_VO), InternalScope(name, vo=DEFAULT_VO)
            if name not in owners:
                self._changed("scope %s of %s", name, owner)
                scope.add_scope(internal, account, session=self._session)
            elif owners[name] != owner:
                self._changed("scope %s goes from %s to %s", name, owners[name], owner)
                scope.update_scope(internal, account, session=self._session)

    def rses(self, wanted: Document) -> None:
        """RSEs with their attributes, limits and protocols."""
        present = {entry["rse"]: entry for entry in rse.list_rses(session=self._session)}
        for name, entry in wanted.items():
            flags = {"deterministic": entry["deterministic"], "volatile": entry["volatile"]}
            if name in present:
                rse_id = present[name]["id"]
                if any(present[name][key] != value for key, value in flags.items()):
                    self._changed("flags of %s", name)
                    rse.update_rse(rse_id, dict(flags), session=self._session)
            else:
                self._changed("RSE %s", name)
                rse_id = rse.add_rse(
                    name,
                    vo=DEFAULT_VO,
                    rse_type=RSEType.DISK,
                    availability_read=True,
                    availability_write=True,
                    availability_delete=True,
                    **flags,
                    session=self._session,
                )
            self._rse_ids[name] = rse_id
            before = self._before.get("rses", {}).get(name, {})
            self._rse_attributes(name, entry["attributes"], before.get("attributes", {}))
            self._rse_limits(name, entry.get("limits", {}))
            self._protocols(name, entry["protocols"], before.get("protocols", ()))

    def _rse_attributes(self, name: str, wanted: Document, before: Document) -> None:
        rse_id = self._rse_ids[name]
        present = rse.list_rse_attributes(rse_id, session=self._session)
        for key in set(before) & set(present) - set(wanted):
            self._changed("no longer attribute %s of %s", key, name)
            rse.del_rse_attribute(rse_id, key, session=self._session)
        for key, value in wanted.items():
            if key in present and _same(present[key], value):
                continue
            self._changed("attribute %s of %s", key, name)
            if key in present:
                rse.del_rse_attribute(rse_id, key, session=self._session)
                self._forget_deleted()
            rse.add_rse_attribute(rse_id, key, value, session=self._session)

    def _rse_limits(self, name: str, wanted: Document) -> None:
        rse_id = self._rse_ids[name]
        limits = rse.get_rse_limits(rse_id, session=self._session)
        for key, value in wanted.items():
            if limits.get(key) != value:
                self._changed("limit %s of %s", key, name)
                rse.set_rse_limits(rse_id, key, value, session=self._session)

    def _protocols(self, name: str, wanted: list[Document], before: list[Document]) -> None:
        rse_id = self._rse_ids[name]
        present = {
            _endpoint(entry): entry for entry in rse.get_rse_protocols(rse_id, session=self._session)["protocols"]
        }
        keep = {_endpoint(entry) for entry in wanted}
        # A moved port is another endpoint: the old one goes first, or both would have the same priority.
        for scheme, host, port in {_endpoint(entry) for entry in before} & set(present) - keep:
            self._changed("no longer protocol %s of %s at %s:%d", scheme, name, host, port)
            rse.del_protocols(rse_id, scheme, host, port, session=self._session)
        for entry in wanted:
            endpoint = _endpoint(entry)
            complete = {**entry, "domains": _domains(entry)}
            if endpoint not in present:
                self._changed("protocol %s of %s at %s:%d", endpoint[0], name, *endpoint[1:])
                rse.add_protocol(rse_id, complete, session=self._session)
            elif _differs(present[endpoint], complete):
                self._changed("protocol %s of %s at %s:%d, changed", endpoint[0], name, *endpoint[1:])
                rse.update_protocols(rse_id, endpoint[0], complete, endpoint[1], endpoint[2], session=self._session)

    def distances(self, wanted: Document) -> None:
        """Distances between RSEs; a pair without one exchanges no files."""
        present = {
            (row["src_rse_id"], row["dest_rse_id"]): row["distance"]
            for row in self._session.execute(
                select(models.Distance.src_rse_id, models.Distance.dest_rse_id, models.Distance.distance)
            ).mappings()
        }
        for source, target, value in _pairs(wanted):
            pair = (self._rse_ids[source], self._rse_ids[target])
            if pair not in present:
                self._changed("distance from %s to %s", source, target)
                distance.add_distance(*pair, distance=value, session=self._session)
            elif present[pair] != value:
                self._changed("distance from %s to %s", source, target)
                distance.update_distances(*pair, distance=value, session=self._session)
        for source, target, _ in _pairs(self._before.get("distances", {})):
            known = source in self._rse_ids and target in self._rse_ids
            if known and target not in wanted.get(source, {}):
                self._changed("no longer distance from %s to %s", source, target)
                distance.delete_distances(self._rse_ids[source], self._rse_ids[target], session=self._session)

    def account_limits(self, wanted: Document) -> None:
        """How much each account may ask for on each RSE, in bytes."""
        present = {
            (row.account.external, row.rse_id): row.bytes
            for row in self._session.execute(select(models.AccountLimit)).scalars()
        }
        for name, limits in wanted.items():
            for rse_name, value in limits.items():
                rse_id = self._rse_ids[rse_name]
                # Rucio writes infinity as -1.
                size = -1 if value is None else int(value)
                if present.get((name, rse_id)) != size:
                    self._changed("limit of %s on %s", name, rse_name)
                    account_limit.set_local_account_limit(
                        account=InternalAccount(name, vo=DEFAULT_VO), rse_id=rse_id, bytes_=size, session=self._session
                    )

    def _forget_deleted(self) -> None:
        """The session keeps a deleted row, and takes a new one with its key for the same."""
        self._session.flush()
        self._session.expunge_all()

    def _changed(self, what: str, *arguments: object) -> None:
        self.count += 1
        _log.info(what, *arguments)


def _same(present: object, wanted: object) -> bool:
    """Whether an attribute has its value; Rucio gives the string ``true`` back as ``True``."""
    return str(present).lower() == str(wanted).lower()


def _endpoint(protocol: Document) -> tuple[str, str, int]:
    return protocol["scheme"], protocol["hostname"], int(protocol["port"])


def _domains(protocol: Document) -> dict[str, dict[str, int | None]]:
    """Every operation, with ``None`` for those that the protocol does not offer."""
    return {
        domain: {operation: protocol["domains"].get(domain, {}).get(operation) for operation in operations}
        for domain, operations in _OPERATIONS.items()
    }


def _differs(present: Document, wanted: Document) -> bool:
    return (
        any(present[key] != wanted[key] for key in ("prefix", "impl"))
        or (present.get("extended_attributes") or None) != (wanted.get("extended_attributes") or None)
        or any(
            present["domains"].get(domain, {}).get(operation) != priority
            for domain, operations in wanted["domains"].items()
            for operation, priority in operations.items()
        )
    )


def _pairs(distances: Document) -> Iterator[tuple[str, str, int]]:
    for source, targets in distances.items():
        for target, value in targets.items():
            yield source, target, value
