"""The administrators' pages about clients."""

from __future__ import annotations

from starlette.responses import Response

from boathouse.apps.tokens.admin import clients
from boathouse.apps.tokens.pages.forms import Action, Visit, link, page, value, wanted
from boathouse.apps.tokens.web import Call

_CLIENTS, _CLIENT = "/admin/clients", "/admin/client"
_GRANTS = (
    ("authorization_code", "Authorization code: people sign in with a browser and return to it"),
    ("device_code", "Device code: people sign in on another machine"),
    ("refresh_token", "Refresh: it goes on while people are away"),
    ("client_credentials", "Client credentials: it acts for itself"),
    ("token_exchange", "Token exchange: it acts for whose token it got"),
)


def programs(call: Call) -> Response:
    """All clients, and a form to add one."""
    return page(call, _show_clients, {"add": _add})


def _show_clients(visit: Visit) -> Response:
    found = clients.list_(visit.desk)
    return visit.render("admin_clients", section="admin", tab="clients", wide=True, clients=found, grants=_GRANTS)


def _add(visit: Visit) -> Response | str:
    audiences = value(visit, "audiences").split()
    added, secret = clients.add(
        visit.desk,
        value(visit, "client_id"),
        name=value(visit, "name"),
        grants=[name for name, _ in _GRANTS if value(visit, f"grant.{name}") == "yes"],
        scopes=value(visit, "scopes"),
        redirect_uris=value(visit, "redirect_uris").split(),
        audiences=audiences or None,
        public=value(visit, "public") == "yes",
    )
    if secret:
        return _with(visit, added, secret)
    return link(_CLIENT, "saved", id=added.client_id)


def program(call: Call) -> Response:
    """One client, and what may be done with it."""
    actions: dict[str, Action] = {
        "disable": _disable,
        "enable": _enable,
        "new-secret": _new_secret,
        "remove": _remove,
    }
    return page(call, _show_client, actions)


def _show_client(visit: Visit) -> Response:
    return _with(visit, clients.get(visit.desk, wanted(visit, "id")), "")


def _with(visit: Visit, client: clients.Registration, secret: str) -> Response:
    """The client's page; a secret stands on the answer to the form that made it, and nowhere else."""
    return visit.render("admin_client", section="admin", tab="clients", wide=True, client=client, secret=secret)


def _back(visit: Visit) -> str:
    return link(_CLIENT, "saved", id=wanted(visit, "id"))


def _disable(visit: Visit) -> str:
    clients.disable(visit.desk, wanted(visit, "id"))
    return _back(visit)


def _enable(visit: Visit) -> str:
    clients.enable(visit.desk, wanted(visit, "id"))
    return _back(visit)


def _new_secret(visit: Visit) -> Response:
    secret = clients.new_secret(visit.desk, wanted(visit, "id"))
    return _with(visit, clients.get(visit.desk, wanted(visit, "id")), secret)


def _remove(visit: Visit) -> str:
    clients.remove(visit.desk, wanted(visit, "id"))
    return link(_CLIENTS, "removed")
