"""``iam policy …`` and ``iam client …``: who may get which scope on which path, and which programs are known."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, emit, err, out
from boathouse.cli.iam_desk import Commands, Reason, desk, done, remove
from boathouse.cli.lakes import columns
from boathouse.errors import AuthError, InputError, NotFoundError
from boathouse.lake.iam import Iam, part

ClientId = Annotated[str, typer.Argument(help="Of the client.", metavar="CLIENT")]
_EFFECTS = {"permit": "PERMIT", "deny": "DENY"}


def policy_list(
    account: Annotated[str, typer.Option("--account", help="Only those on this login.")] = "",
    group: Annotated[str, typer.Option("--group", help="Only those on this group.")] = "",
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """List scope policies."""
    wanted = {name for name in (account, group) if name}
    found = [one for one in _policies(desk(state)) if not wanted or _whom(one) in wanted]
    if as_json:
        emit(found)
        return
    columns(
        ("ID", "RULE", "FOR", "OWNER", "SCOPES"),
        (
            (str(one["id"]), one["rule"], _whom(one) or "everybody", one["owner"], " ".join(one["scopes"]))
            for one in found
        ),
    )


def _policies(iam: Iam) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = iam.call("GET", "/iam/scope_policies")
    return found


def _whom(policy: dict[str, Any]) -> str:
    """Login or group of a policy; empty for everybody."""
    if policy["account"]:
        return str(policy["account"]["username"])
    return str(policy["group"]["name"]) if policy["group"] else ""


def policy_add(
    effect: Annotated[str, typer.Argument(help="permit or deny.", metavar="permit|deny")],
    scopes: Annotated[list[str], typer.Argument(help="E.g. storage.read:/lake/cms.", metavar="SCOPE…")],
    account: Annotated[str, typer.Option("--account", help="For this login.")] = "",
    group: Annotated[str, typer.Option("--group", help="For the members of this group.")] = "",
    *,
    description: Annotated[str, typer.Option("--description", help="A note.")] = "",
    reason: Reason = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Add a policy for an account, a group, or everybody. It counts at the next token, at each refresh too.

    A path means all below it. A denial also stops every scope that contains the denied path.
    """
    if effect.lower() not in _EFFECTS:
        raise InputError("unknown effect", expected="permit or deny", got=effect)
    iam = desk(state, reason)
    document: dict[str, Any] = {"rule": _EFFECTS[effect.lower()], "scopes": scopes, "description": description}
    if account:
        document["account"] = {"username": account}
    if group:
        document["group"] = {"name": group}
    before = {one["id"] for one in _policies(iam)}
    made = iam.call("POST", "/iam/scope_policies", document)
    done(f"policy {made['id']} is there", made, changed=made["id"] not in before, as_json=as_json)


def policy_remove(
    number: Annotated[int, typer.Argument(help="Of the policy; see `list`.", metavar="ID")],
    reason: Reason = "",
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Remove a policy; those of the facility file are changed there."""
    iam = desk(state, reason)
    path = f"/iam/scope_policies/{number}"
    remove(f"policy {number}", {"id": number}, lambda: iam.call("DELETE", path), as_json=as_json)


def policy_test(
    login: Annotated[str, typer.Argument(help="Who.", metavar="LOGIN")],
    verb: Annotated[str, typer.Argument(help="read, create, modify, stage or poll; or a scope.", metavar="VERB")],
    path: Annotated[str, typer.Argument(help="Where.", metavar="[PATH]")] = "",
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Say whether a person may do something now, and which policies decide it. Exit code 0 if they may, 7 if not."""
    scope = f"storage.{verb}:{path}" if path else verb
    verdict = desk(state).call("GET", "/iam/scope_policies/test", user=login, scope=scope)
    if as_json:
        emit(verdict)
    else:
        word = "may" if verdict["allowed"] else "may not"
        part_of = f", only {' '.join(verdict['granted'])}" if verdict["granted"] and not verdict["allowed"] else ""
        style = "green" if verdict["allowed"] else "red"
        out.print(f"{verdict['login']} {word} {verdict['scope']}{part_of}", style=style)
        for reason in verdict["because"]:
            out.print(f"  {reason}")
    if not verdict["allowed"]:
        raise typer.Exit(AuthError.exit_code)


# Clients


def client_list(state: State = None, *, as_json: Json = False) -> None:
    """List clients."""
    found = list(desk(state).every("/iam/api/clients"))
    if as_json:
        emit(found)
        return
    columns(
        ("CLIENT", "NAME", "STATE", "OWNER", "GRANTS"),
        (
            (
                one["client_id"],
                one["client_name"],
                "active" if one["active"] else "disabled",
                one["owner"],
                " ".join(grant.rpartition(":")[2] for grant in one["grant_types"]),
            )
            for one in found
        ),
    )


def client_show(client_id: ClientId, state: State = None, *, as_json: Json = False) -> None:
    """Show a client."""
    found = desk(state).call("GET", f"/iam/api/clients/{part(client_id)}")
    if as_json:
        emit(found)
        return
    columns(("WHAT", "VALUE"), ((key, _plain(value)) for key, value in found.items()))


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "any" if value is None else str(value)


def client_add(
    client_id: ClientId,
    grant: Annotated[list[str], typer.Option("--grant", help="E.g. client_credentials; may be repeated.")],
    scope: Annotated[str, typer.Option("--scope", help="All that it may ask for, separated by spaces.")],
    *,
    name: Annotated[str, typer.Option("--name", help="For people.")] = "",
    redirect_uri: Annotated[list[str] | None, typer.Option("--redirect-uri", help="May be repeated.")] = None,
    audience: Annotated[
        list[str] | None, typer.Option("--audience", help="That it may ask for; any if none is given.")
    ] = None,
    reason: Reason = "",
    state: State = None,
    public: Annotated[bool, typer.Option("--public", help="It can keep no secret.")] = False,
    as_json: Json = False,
) -> None:
    """Add a client and print its secret, which nobody can see again; if it is there, change it to what is given."""
    iam = desk(state, reason)
    document: dict[str, Any] = {
        "client_name": name or client_id,
        "grant_types": grant,
        "scope": scope,
        "redirect_uris": redirect_uri or [],
        "audiences": audience or None,
    }
    try:
        there = iam.call("GET", f"/iam/api/clients/{part(client_id)}")
    except NotFoundError:
        method = "none" if public else "client_secret_basic"
        made = iam.call(
            "POST", "/iam/api/clients", {**document, "client_id": client_id, "token_endpoint_auth_method": method}
        )
        _secret(f"{client_id} is added", made, as_json=as_json)
        return
    changed = iam.call("PUT", f"/iam/api/clients/{part(client_id)}", document)
    done(f"{client_id} is there", changed, changed=changed != there, as_json=as_json)


def _secret(text: str, client: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit({"changed": True, **client})
        return
    err.print(text)
    if secret := client.get("client_secret"):
        # Alone on standard output, so that it can go into a file.
        typer.echo(secret)


def client_disable(client_id: ClientId, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Switch a client off at once. This holds for clients of the facility file too: its service stops working."""
    _switch(desk(state, reason), client_id, active=False, as_json=as_json)


def client_enable(client_id: ClientId, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Switch a client on again."""
    _switch(desk(state, reason), client_id, active=True, as_json=as_json)


def _switch(iam: Iam, client_id: str, *, active: bool, as_json: bool) -> None:
    path = f"/iam/api/clients/{part(client_id)}"
    there = iam.call("GET", path)
    changed = there["active"] != active
    if changed:
        there = iam.call("PATCH", f"{path}/{'enable' if active else 'disable'}")
    word = "active" if active else "disabled"
    done(f"{client_id} is {word}", there, changed=changed, as_json=as_json)


def client_remove(client_id: ClientId, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Remove a client for good; its name is not given to another one."""
    iam = desk(state, reason)
    path = f"/iam/api/clients/{part(client_id)}"
    remove(client_id, {"client_id": client_id}, lambda: iam.call("DELETE", path), as_json=as_json)


def client_new_secret(client_id: ClientId, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Give a client a new secret and print it; the old one is worth nothing at once."""
    made = desk(state, reason).call("POST", f"/iam/api/clients/{part(client_id)}/secret")
    _secret(f"{client_id} has a new secret", made, as_json=as_json)


Origin = Annotated[str, typer.Argument(help="Client whose tokens it exchanges.", metavar="ORIGIN")]


def client_allow_exchange(
    client_id: ClientId, origin: Origin, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Let a client exchange the tokens of another one (RFC 8693)."""
    iam = desk(state, reason)
    changed = _exchange(iam, client_id, origin) is None
    if changed:
        pair = {"destinationClient": {"matchParam": client_id}, "originClient": {"matchParam": origin}}
        iam.call("POST", "/iam/api/exchange/policies", pair)
    text = f"{client_id} may exchange tokens of {origin}"
    done(text, {"client_id": client_id, "origin": origin}, changed=changed, as_json=as_json)


def client_forbid_exchange(
    client_id: ClientId, origin: Origin, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Let a client exchange the tokens of another one no more."""
    iam = desk(state, reason)
    there = _exchange(iam, client_id, origin)
    if there is not None:
        iam.call("DELETE", f"/iam/api/exchange/policies/{there}")
    text = f"{client_id} may not exchange tokens of {origin}"
    done(text, {"client_id": client_id, "origin": origin}, changed=there is not None, as_json=as_json)


def _exchange(iam: Iam, client_id: str, origin: str) -> str | None:
    """Id of the policy that lets one exchange the other's tokens."""
    for pair in iam.call("GET", "/iam/api/exchange/policies"):
        parties = pair["destinationClient"]["matchParam"], pair["originClient"]["matchParam"]
        if parties == (client_id, origin):
            return str(pair["id"])
    return None


def register(iam: typer.Typer) -> None:
    """Add the commands to ``iam``."""
    policy = typer.Typer(no_args_is_help=True, help="Scope policies: who may get which scope on which path.")
    of_policies: Commands = (
        ("list", policy_list, "boathouse iam policy list --group /escape/cms"),
        ("add", policy_add, "boathouse iam policy add permit storage.read:/lake/cms --group /escape/visitors"),
        ("remove", policy_remove, "boathouse iam policy remove 17 --reason 'the summer is over'"),
        ("test", policy_test, "boathouse iam policy test alice read /lake/magic/run1"),
    )
    for name, function, example in of_policies:
        policy.command(name, epilog=f"Example: {example}")(function)
    iam.add_typer(policy, name="policy")
    client = typer.Typer(no_args_is_help=True, help="Clients: programs and services that may ask for tokens.")
    of_clients: Commands = (
        ("list", client_list, "boathouse iam client list --json"),
        ("show", client_show, "boathouse iam client show transfers"),
        (
            "add",
            client_add,
            "boathouse iam client add mover --grant client_credentials --scope storage.read:/lake/cms > secret",
        ),
        ("disable", client_disable, "boathouse iam client disable mover --reason 'secret was in a log'"),
        ("enable", client_enable, "boathouse iam client enable mover"),
        ("remove", client_remove, "boathouse iam client remove mover"),
        ("new-secret", client_new_secret, "boathouse iam client new-secret mover > secret"),
        ("allow-exchange", client_allow_exchange, "boathouse iam client allow-exchange mover boathouse"),
        ("forbid-exchange", client_forbid_exchange, "boathouse iam client forbid-exchange mover boathouse"),
    )
    for name, function, example in of_clients:
        client.command(name, epilog=f"Example: {example}")(function)
    iam.add_typer(client, name="client")
