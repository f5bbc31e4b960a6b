"""``login``, ``logout``, ``whoami``, ``token``, ``env``: who the user is, for Boathouse and for stock clients."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from boathouse.cli.common import Json, State, client_programs, emit, err, hint, line, out, state_dir
from boathouse.cli.lakes import columns, endpoints_of, waiting
from boathouse.errors import AuthError, InputError
from boathouse.lake.approve import approve
from boathouse.lake.environment import exports, variables, write_rucio_config
from boathouse.lake.lake import Lake
from boathouse.lake.session import Session, sessions_of
from boathouse.lake.tokens import LOGIN_SCOPE, DeviceCode, Issuer, Tokens
from boathouse.plan import endpoints as endpoints_file
from boathouse.plan.model import Endpoints, LoginEndpoint
from boathouse.units import format_seconds
from boathouse.wlcg.scopes import narrow, parse

_OWN = "own"
"""Stands for the facility's own issuer."""

_VERBS = ("read", "create", "modify", "stage", "poll")


def login(
    user: Annotated[str | None, typer.Option("--user", help="Log in as this user, without a browser.")] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="Its password; `-` reads standard input.", dir_okay=False)
    ] = None,
    scope: Annotated[str, typer.Option("--scope", help="What to ask for; the issuer narrows it.")] = LOGIN_SCOPE,
    issuer_name: Annotated[
        str | None, typer.Option("--issuer", help="Log in at this issuer of the facility file, `own` for its own.")
    ] = None,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Log in: open the page that is shown, anywhere, and enter the code. An agent then keeps the token fresh."""
    directory = state_dir(state)
    endpoints = endpoints_of(directory)
    password = None if user is None else _password(user, password_file)
    session = Session(endpoints, state=directory, login=_login_at(endpoints, issuer_name))
    issuer = session.issuer()
    code = issuer.device_code(session.record.client_id, scope=scope, audience=session.record.audience)
    if user is not None and password is not None:
        approve(issuer.http, code, login=user, password=password)
    else:
        err.print(line("Open ", (code.verification_uri, "bold"), " in a browser and enter the code"))
        err.print("", line("    ", (code.user_code, "bold")), "", sep="\n")
        err.print(f"or open {code.verification_uri_complete}", style="dim")
    tokens = _wait(issuer, session.record.client_id, code)
    # Asked before anything is kept: a login that fails leaves the session that was there.
    account = _account(endpoints, tokens)
    session.begin(tokens)
    if account is not None:
        write_rucio_config(endpoints, session, account)
    if as_json:
        emit({"account": account, "scope": tokens.scope.split(), "token_file": str(session.token_file)})
        return
    if account is None:
        out.print(f"Logged in to {endpoints.facility}, to its storage alone.")
        err.print(no_account(user or "you"), style="yellow")
    else:
        out.print(line(f"Logged in to {endpoints.facility} as ", (account, "bold"), "."))
    if opened := rights(tokens.scope):
        columns(("PATH", "YOU MAY"), opened)
    out.print('Stock clients work after: eval "$(boathouse env)"', style="dim")


def no_account(login: str) -> str:
    """What is said of people whom the issuer knows and the catalogue does not."""
    return (
        f"The catalogue has no account for {login}: it takes its accounts from the facility file. Name {login} in "
        "`users` there, then boathouse up; until then tokens open what policies permit at storage, and nothing in the "
        "catalogue."
    )


def _account(endpoints: Endpoints, tokens: Tokens) -> str | None:
    """The account in the catalogue of who just logged in; None if there is none.

    Raises:
        BoathouseError: the catalogue fails, or does not answer.
    """
    try:
        return Lake(endpoints, lambda: tokens.access).catalogue.account
    except AuthError as error:
        # The token is a minute old at most and was made for the catalogue: what it lacks is a name there.
        if error.got != "CannotAuthenticate":
            raise
        return None


def _login_at(endpoints: Endpoints, name: str | None) -> LoginEndpoint | None:
    """The issuer that is meant; None for the facility's own.

    Raises:
        InputError: there is none of that name.
    """
    name = name or endpoints.login_at or _OWN
    if name == _OWN:
        return None
    known = {login.name: login for login in endpoints.logins}
    if name not in known:
        raise InputError(
            f"nobody can log in at an issuer '{name}'",
            expected=f"one of {', '.join([_OWN, *known])}",
            got=name,
            remedy=f"name one of them, or set issuers.{name}.client_id in the facility file",
        )
    return known[name]


def _wait(issuer: Issuer, client_id: str, code: DeviceCode) -> Tokens:
    with waiting("waiting for the login"):
        return issuer.wait_for_device(client_id, code)


def rights(scope: str) -> list[tuple[str, str]]:
    """What a granted scope allows on storage: each path, and what may be done there."""
    allowed: dict[str, list[str]] = {}
    for granted in parse(scope):
        if granted.is_storage and granted.path is not None:
            allowed.setdefault(granted.path, []).append(granted.name.removeprefix("storage."))
    return [(path, ", ".join(verb for verb in _VERBS if verb in verbs)) for path, verbs in sorted(allowed.items())]


def _password(user: str, file: Path | None) -> str:
    try:
        if file is None:
            return _asked(user)
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            "cannot read the password",
            expected="a file with the password in it, or - for standard input",
            got=error.strerror or str(error),
            where=str(file),
            remedy=f"boathouse login --user {user}, and type it",
        ) from error
    return text.rstrip("\n")


def _asked(user: str) -> str:
    if sys.stdin.isatty():
        try:
            return getpass.getpass(f"Password of {user}: ", stream=sys.stderr)
        except EOFError:
            err.print("")
    raise InputError(
        "no password was given",
        expected="a password typed at a terminal, or a file with it",
        remedy=f"boathouse login --user {user} --password-file FILE",
    )


def logout(state: State = None) -> None:
    """Log out: revoke the token, stop the agent, remove the session's files. The facility may be down, or gone."""
    sessions = sessions_of(state_dir(state))
    if not sessions:
        out.print("Nobody was logged in.")
        return
    told = [session.end() for session in sessions]
    if all(told):
        out.print("Logged out.")
    elif not (state_dir(state) / endpoints_file.FILE_NAME).exists():
        out.print("Logged out here. The facility is down: there the login ends by itself, or with `down --purge`.")
    else:
        err.print("Logged out here; the issuer could not be told, so the login there ends by itself.", style="yellow")


def whoami(state: State = None, *, as_json: Json = False) -> None:
    """Say who is logged in here, to what, in which groups, with which rights and until when."""
    session = Session.current(endpoints_of(state_dir(state)))
    session.require()
    person = session.issuer().userinfo(session.token())
    access = session.access
    assert access is not None
    groups = list(person.get("wlcg.groups", ()))
    # Other issuers may not say more than the subject.
    login_name = person.get("preferred_username", person["sub"])
    if as_json:
        left_s = round(access.expires_at - time.time())
        emit({"login": login_name, "groups": groups, "scope": access.scope, "expires_in": left_s})
        return
    out.print(line((login_name, "bold"), f" ({person.get('name', login_name)}), at {session.record.facility}"))
    out.print(f"groups: {', '.join(groups) or 'none'}")
    columns(("PATH", "YOU MAY"), rights(access.scope))
    renewed = (
        "an agent renews it" if session.agent_pid() is not None else "boathouse env starts an agent that renews it"
    )
    left = format_seconds(access.expires_at - time.time())
    out.print(hint(f"The token ends in {left}; {renewed}."), style="dim")


def token(
    audience: Annotated[list[str] | None, typer.Option("--audience", "-a", help="For whom; may be repeated.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", "-s", help="For what, separated by spaces.")] = None,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Print a token: the session's own, or one for less. Put it into a file, never into a command line."""
    session = Session.current(endpoints_of(state_dir(state)))
    session.require()
    if audience is None and scope is None:
        text = session.token()
        access = session.access
        assert access is not None
        expires_at, granted = access.expires_at, access.scope
    else:
        # One option may hold several names, as WLCG's audience parameter does.
        names = tuple(name for entry in audience or () for name in entry.split()) or session.record.audience
        tokens = session.narrowed(audience=names, scope=scope)
        text, expires_at, granted = tokens.access, tokens.expires_at, tokens.scope
        given = parse(granted)
        if missing := [str(wish) for wish in parse(scope or "") if not narrow(given, (wish,))]:
            err.print(f"You may not have {' '.join(missing)}: the token is without.", style="yellow")
    if as_json:
        emit({"access_token": text, "expires_in": round(expires_at - time.time()), "scope": granted})
    else:
        typer.echo(text)


def env(state: State = None, *, as_json: Json = False) -> None:
    """Print shell exports, after which rucio, xrdcp and xrdfs work; curl and davix want a header with the token."""
    endpoints = endpoints_of(state_dir(state))
    session = Session.current(endpoints)
    session.require()
    if session.agent_pid() is None:
        # After a restart of the machine nobody keeps the token fresh; this is a good moment to begin again.
        session.start_agent()
    account = Lake(endpoints, session.token).catalogue.account
    home = write_rucio_config(endpoints, session, account)
    values = variables(endpoints, session, rucio_home=home, account=account, path=client_programs())
    if as_json:
        emit(values)
    else:
        typer.echo(exports(values))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "login",
        epilog="Examples: boathouse login | boathouse login --user alice --password-file secret",
    )(login)
    app.command("logout", epilog="Example: boathouse logout")(logout)
    app.command("whoami", epilog="Example: boathouse whoami --json")(whoami)
    app.command(
        "token",
        epilog="Example: boathouse token --audience 127.0.1.11 --scope storage.read:/lake/cms > reader.token",
    )(token)
    app.command("env", epilog='Example: eval "$(boathouse env)"; rucio whoami')(env)
