"""Pieces of work in transactions: one in one of its own, or what waits of a kind in one for all of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from authlib.oauth2.base import OAuth2Error
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from boathouse.apps.tokens.api import problems
from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.passwords import TooBusyError, fingerprint
from boathouse.apps.tokens.persistence import database
from boathouse.apps.tokens.persistence.records import CLIENT, REFRESH
from boathouse.apps.tokens.persistence.shared import ForRefreshes, Shared
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.trail import audit, tracing
from boathouse.apps.tokens.web import Pairs, Work, refuse
from boathouse.apps.tokens.workers import Job, Workers
from boathouse.errors import AuthError, BoathouseError

_LOG = logging.getLogger(__name__)


def workers(issuer: Issuer) -> Workers[Work, Response]:
    """The threads in which handlers work."""
    together = {CLIENT: partial(_clients, issuer), REFRESH: partial(_refreshes, issuer)}
    return Workers(issuer.settings.threads, partial(_alone, issuer), together)


def kind(form: Pairs) -> str | None:
    """What of the token endpoint's work is done together: grants that are asked for by the hundred, and never wait."""
    grant = dict(form).get("grant_type")
    return grant if grant in (CLIENT, REFRESH) else None


def _alone(issuer: Issuer, work: Work) -> Response:
    """Do one piece of work in a transaction of its own."""

    def run(connection: Connection) -> Response:
        call = work.call(issuer, Store(connection, issuer.hasher))
        response = work.handler(call)
        call.server.settle()
        # Last of all: until the transaction ends, no other record is written.
        request = {"request": tracing.current()}
        audit.append(connection, [(event, {**detail, **request}) for event, detail in call.store.changes])
        return response

    return _answer(issuer, work.http, run)


def _clients(issuer: Issuer, jobs: Sequence[Job[Work]]) -> Sequence[Response]:
    """Tokens for clients: nothing is changed but the audit log, so that each statement may be a transaction.

    Done again after a fault, it may leave records of tokens that nobody was given.
    """

    def run(connection: Connection) -> list[Response]:
        responses, records = _handle(issuer, Shared(connection, issuer.hasher), jobs)
        audit.write(connection, records)
        return responses

    return database.transaction(issuer.statements, run)


def _refreshes(issuer: Issuer, jobs: Sequence[Job[Work]]) -> Sequence[Response]:
    """Refreshes, in one transaction that rotates all of their tokens and records it, or none."""
    keys = [fingerprint(dict(work.form).get("refresh_token", "")) for work, _ in jobs]

    def run(connection: Connection) -> list[Response]:
        store = ForRefreshes(connection, issuer.hasher, keys)
        responses, records = _handle(issuer, store, jobs)
        store.flush()
        # Last of all, as above.
        audit.write(connection, records)
        return responses

    return database.transaction(issuer.engine, run)


def _handle(issuer: Issuer, store: Store, jobs: Sequence[Job[Work]]) -> tuple[list[Response], list[audit.Entry]]:
    """Answers to all of it, and the records that must be on disk before one of them leaves."""
    records: list[audit.Entry] = []

    def handle(work: Work) -> Response:
        call = work.call(issuer, store, records)
        try:
            return work.handler(call)
        except OAuth2Error as error:
            return refuse(error)

    return [context.run(handle, work) for work, context in jobs], records


def _answer(issuer: Issuer, http: HttpRequest, run: Callable[[Connection], Response]) -> Response:
    try:
        return database.transaction(issuer.engine, run)
    except OAuth2Error as error:
        return refuse(error)
    except BoathouseError as error:
        if isinstance(error, AuthError):
            detail = {"address": http.client.host if http.client else "", "path": http.url.path, "reason": error.what}
            issuer.audit.sample("administration.refused", detail)
        return problems.reply(http, error)
    except TooBusyError:
        return _unavailable("More passwords are being checked than can be")
    except SQLAlchemyError as error:
        _LOG.error("%s %s: database: %s", http.method, http.url.path, getattr(error, "orig", error))
        return _unavailable("The database does not answer")


def _unavailable(why: str) -> Response:
    body = {"error": "temporarily_unavailable", "error_description": why}
    return JSONResponse(body, 503, {"Retry-After": "1"})
