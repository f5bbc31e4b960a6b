"""Limits, shares and defaults in FTS3's form: stored here, obeyed by the scheduler and at submission.

What FTS3 can be told and this service has no use for is refused, so that nobody relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from boathouse.apps.transfers import database, views
from boathouse.apps.transfers.policy import ANY
from boathouse.apps.transfers.steering import Steering
from boathouse.apps.transfers.tables import activity_shares, defaults, link_limits, shares, storage_limits
from boathouse.errors import InputError

Json = views.Json
_TPC = ("FULL", "PULL", "PUSH", "NONE")
_STORAGE_FIELDS = {
    "inbound_max_active": int,
    "outbound_max_active": int,
    "inbound_max_throughput": float,
    "outbound_max_throughput": float,
    "site": str,
    "se_metadata": str,
    "tpc_support": str,
}
_STORAGE_UNUSED = ("udt", "ipv6", "debug_level", "skip_eviction", "overwrite_disk_enabled")
_LINK_FIELDS = {"source": str, "destination": str, "symbolicname": str, "min_active": int, "max_active": int}
_LINK_UNUSED = ("optimizer_mode", "tcp_buffer_size", "nostreams", "no_delegation")
_DEFAULT_FIELDS = {"vo_name": str, "retry": int, "max_time_queue": int}
_DEFAULT_UNUSED = ("global_timeout", "sec_per_mb", "no_streaming", "show_user_dn")


class Configuration:
    """Reads and changes limits, shares and defaults.

    Args:
        engine: the database.
        steering: notes who changed what.
    """

    def __init__(self, engine: Engine, steering: Steering) -> None:
        self._engine = engine
        self._reading = database.reading(engine)
        self._steering = steering
        self._hosts = steering.elements.hosts

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with self._reading.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _write(self, statement: Any, admin: str, action: str, config: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(statement)
            self._steering.note(connection, admin, action, config)
        self._steering.forget()

    # Defaults of jobs that do not say.

    def defaults(self) -> Json:
        """Defaults by VO; ``*`` for all."""
        rows = {row["vo_name"]: row for row in self._rows(select(defaults))}
        found = {ANY: {"vo_name": ANY, "retry": 0, "max_time_queue": 0}, **rows}
        unused = dict.fromkeys(_DEFAULT_UNUSED)
        return {vo: {**row, "retry": row["retry"] or 0, **unused} for vo, row in sorted(found.items())}

    def set_defaults(self, wanted: Mapping[str, Any], admin: str) -> Json:
        """Change the defaults of a VO; returns all."""
        values = _values(wanted, _DEFAULT_FIELDS, _DEFAULT_UNUSED)
        vo = values.pop("vo_name", None) or ANY
        statement = upsert(defaults).values(vo_name=vo, **values)
        if values:
            statement = statement.on_conflict_do_update(index_elements=[defaults.c.vo_name], set_=values)
        self._write(statement, admin, "set-globals", dict(wanted))
        return self.defaults()

    def delete_defaults(self, vo: str, admin: str) -> None:
        """Drop the defaults of a VO."""
        if not vo or vo == ANY:
            raise InputError("Missing VO name")
        self._write(delete(defaults).where(defaults.c.vo_name == vo), admin, "delete-globals", {"vo_name": vo})

    # Storage elements.

    def storage(self, se: str | None) -> Json:
        """Limits of storage elements by name."""
        query = select(storage_limits) if se is None else select(storage_limits).where(storage_limits.c.se == se)
        unused = dict.fromkeys(_STORAGE_UNUSED)
        return {
            row["se"]: {"se_info": {**{name: row[name] for name in _STORAGE_FIELDS}, **unused}}
            for row in self._rows(query.order_by(storage_limits.c.se))
        }

    def set_storage(self, wanted: Mapping[str, Any], admin: str) -> list[Any]:
        """Change limits of storage elements; returns those of the last one, as FTS3 does."""
        statements = []
        for se, config in wanted.items():
            info = config.get("se_info") if isinstance(config, Mapping) else None
            if not isinstance(info, Mapping) or config.get("operations"):
                raise InputError("Malformed configuration", expected='{"<se>": {"se_info": {…}}}', got=se[:200])
            values = _values(info, _STORAGE_FIELDS, _STORAGE_UNUSED)
            if values.get("tpc_support") not in (None, *_TPC):
                raise InputError(
                    f"Field tpc_support is expected to be one of the following: {', '.join(_TPC)}",
                    got=values["tpc_support"],
                )
            if any(isinstance(value, int | float) and value < 0 for value in values.values()):
                raise InputError("limits cannot be negative", got=se)
            values["hosts"] = self._hosts(se)
            statement = upsert(storage_limits).values(se=se, **values)
            statements.append(statement.on_conflict_do_update(index_elements=[storage_limits.c.se], set_=values))
        if not statements:
            raise InputError("Malformed configuration")
        with self._engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)
            self._steering.note(connection, admin, "set-se-config", dict(wanted))
        self._steering.forget()
        se = list(wanted)[-1]
        return [{"storage": se, **self.storage(se)[se]["se_info"]}, None]

    def delete_storage(self, se: str, admin: str) -> None:
        """Drop the limits of a storage element."""
        self._write(delete(storage_limits).where(storage_limits.c.se == se), admin, "delete-se-config", {"se": se})

    # Links.

    def links(self, name: str | None = None) -> list[Json]:
        """Limits of links."""
        query = select(link_limits).order_by(link_limits.c.symbolicname)
        if name is not None:
            query = query.where(link_limits.c.symbolicname == name)
        unused = dict.fromkeys(_LINK_UNUSED)
        return [{**{field: row[field] for field in _LINK_FIELDS}, **unused} for row in self._rows(query)]

    def set_link(self, wanted: Mapping[str, Any], admin: str) -> Json:
        """Change the limits of a link."""
        values: dict[str, Any] = {"source": ANY, "destination": ANY, "min_active": 2, "max_active": 2}
        values |= _values(wanted, _LINK_FIELDS, _LINK_UNUSED)
        name = values.get("symbolicname")
        if not name:
            raise InputError("Missing symbolicname")
        if not values["source"] or not values["destination"]:
            raise InputError("Missing source and/or destination")
        if not 0 <= (values["min_active"] or 0) <= (values["max_active"] or 0):
            raise InputError("max_active is lower than min_active, or one of them below 0")
        source_hosts, dest_hosts = self._hosts(values["source"]), self._hosts(values["destination"])
        row = {**values, "source_hosts": source_hosts, "dest_hosts": dest_hosts}
        with self._engine.begin() as connection:
            ends = (link_limits.c.source == values["source"]) & (link_limits.c.destination == values["destination"])
            # One entry for each link: its name may change.
            connection.execute(delete(link_limits).where(ends, link_limits.c.symbolicname != name))
            statement = upsert(link_limits).values(**row)
            connection.execute(statement.on_conflict_do_update(index_elements=[link_limits.c.symbolicname], set_=row))
            self._steering.note(connection, admin, "link", dict(wanted))
        self._steering.forget()
        return self.links(str(name))[0]

    def delete_link(self, name: str, admin: str) -> None:
        """Drop the limits of a link."""
        self._write(delete(link_limits).where(link_limits.c.symbolicname == name), admin, "link-delete", name)

    # Shares.

    def shares(self) -> list[Json]:
        """Weights of VOs on links."""
        query = select(shares).order_by(shares.c.source, shares.c.destination, shares.c.vo)
        return [{name: row[name] for name in ("source", "destination", "vo", "share")} for row in self._rows(query)]

    def set_share(self, wanted: Mapping[str, Any], admin: str) -> int:
        """Change the weight of a VO on a link."""
        values = _values(wanted, {"source": str, "destination": str, "vo": str, "share": int}, ())
        if not all(values.get(name) for name in ("source", "destination", "vo", "share")):
            raise InputError("Missing source, destination, vo and/or share")
        if values["share"] < 0:
            raise InputError("Shares values cannot be negative")
        hosts = {"source_hosts": self._hosts(values["source"]), "dest_hosts": self._hosts(values["destination"])}
        key = [shares.c.source, shares.c.destination, shares.c.vo]
        statement = upsert(shares).values(**values, **hosts)
        statement = statement.on_conflict_do_update(index_elements=key, set_={"share": values["share"], **hosts})
        self._write(statement, admin, "share-set", values)
        return int(values["share"])

    def delete_share(self, source: str, destination: str, vo: str, admin: str) -> None:
        """Drop the weight of a VO on a link."""
        if not source or not destination or not vo:
            raise InputError("Missing source, destination and/or vo")
        where = (shares.c.source == source) & (shares.c.destination == destination) & (shares.c.vo == vo)
        self._write(delete(shares).where(where), admin, "share-delete", [source, destination, vo])

    def activities(self) -> Json:
        """Weights of activities by VO."""
        return {
            row["vo"]: {"share": row["share"], "active": row["active"]} for row in self._rows(select(activity_shares))
        }

    def set_activities(self, wanted: Mapping[str, Any], admin: str) -> Json:
        """Change the weights of a VO's activities."""
        vo, share, active = wanted.get("vo"), wanted.get("share"), wanted.get("active", True)
        if not vo or not isinstance(vo, str):
            raise InputError("Missing VO")
        if not share:
            raise InputError("Missing share")
        if isinstance(share, list) and all(isinstance(each, Mapping) and len(each) == 1 for each in share):
            share = {name: weight for each in share for name, weight in each.items()}
        if not isinstance(share, Mapping) or not isinstance(active, bool):
            raise InputError("share must be an object of activities and weights")
        if any(isinstance(each, bool) or not isinstance(each, int | float) or each < 0 for each in share.values()):
            raise InputError("Share weight must be a number")
        values = {"share": dict(share), "active": active}
        statement = upsert(activity_shares).values(vo=vo, **values)
        statement = statement.on_conflict_do_update(index_elements=[activity_shares.c.vo], set_=values)
        self._write(statement, admin, "activity-share", dict(wanted))
        return {"vo": vo, "activity_share": [{name: weight} for name, weight in share.items()], "active": active}

    def delete_activities(self, vo: str, admin: str) -> None:
        """Drop the weights of a VO's activities."""
        self._write(delete(activity_shares).where(activity_shares.c.vo == vo), admin, "activity-share", {"removed": vo})


def _values(wanted: Mapping[str, Any], fields: Mapping[str, type], unused: tuple[str, ...]) -> dict[str, Any]:
    """The fields of an input, each of its type; text is converted, as FTS3 does.

    Raises:
        InputError: a field is not known, not used by this service, or not of its type.
    """
    values: dict[str, Any] = {}
    for name, value in wanted.items():
        if name in unused and value in (None, 0, False, "", "off"):
            continue
        if name in unused:
            raise InputError(f"Field {name} has no meaning for this service")
        if name not in fields:
            raise InputError(f"Field {name} unknown")
        values[name] = None if value is None else _converted(name, value, fields[name])
    return values


def _converted(name: str, value: object, kind: type) -> object:
    fault = InputError(f"Field {name} is expected to be {kind.__name__}", got=repr(value)[:100])
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise fault
    if isinstance(value, kind) or (kind is float and isinstance(value, int)):
        return value
    if not isinstance(value, str):
        raise fault
    try:
        return kind(value)
    except ValueError as error:
        raise fault from error
