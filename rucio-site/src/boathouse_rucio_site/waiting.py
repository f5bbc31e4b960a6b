"""``GET /rules/<id>/why``: what the files that a rule still waits for wait for, down to the transfer service's answers.

The jobs of the transfer service are Rucio's own, of files of many people each, so nobody else may see them there. Rucio
knows whose rule wants which file: it asks with its own token, and hands on what is said of the rule's files.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import flask
import requests
from rucio.common.exception import AccessDenied, RuleNotFound
from rucio.common.types import InternalAccount
from rucio.common.utils import APIEncoder
from rucio.core.rse import get_rse_name
from rucio.core.rule import get_rule
from rucio.db.sqla import models
from rucio.db.sqla.constants import DatabaseOperationType, LockState
from rucio.db.sqla.session import db_session
from rucio.web.rest.flaskapi.authenticated_bp import AuthenticatedBlueprint
from rucio.web.rest.flaskapi.v1.common import ErrorHandlingMethodView, generate_http_error_flask, response_headers
from sqlalchemy import func, select

from boathouse_rucio_site import tokens
from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.permission import is_admin
from boathouse_rucio_site.transfertool import ANSWER_S

MOST_FILES = 20
"""Files of a rule that are told of; those that are stuck come first."""
ALL_ANSWERS_S = 30.0
"""Time for all questions of one call together; what is left then is not asked."""

_RULE_ID = re.compile(r"[0-9A-Fa-f]{32}")


class RuleWhy(ErrorHandlingMethodView):
    """The view. For the account that owns the rule, and administrators."""

    def get(self, rule_id: str) -> flask.Response:
        """A JSON object: ``files``, and ``left_out``, how many more there are.

        Each has ``scope``, ``name``, ``rse``, ``lock``, ``request`` and ``transfer``.
        """
        environ = flask.request.environ
        try:
            files, left_out = _files(rule_id, environ["issuer"], environ["vo"])
        except RuleNotFound as error:
            return generate_http_error_flask(404, error)
        except AccessDenied as error:
            return generate_http_error_flask(403, error)
        jobs = _Jobs()
        for file in files:
            request = file["request"]
            if request and request["job"] and request["host"]:
                file["transfer"] = _of(jobs.get(request["host"], request["job"]), request["destination"])
        text = json.dumps({"files": files, "left_out": left_out}, cls=APIEncoder)
        return flask.Response(text, content_type="application/json")


def _files(rule_id: str, issuer: str, vo: str) -> tuple[list[dict[str, Any]], int]:
    """The files that a rule waits for, with Rucio's requests.

    Raises:
        RuleNotFound: there is no such rule.
        AccessDenied: it is somebody else's.
    """
    if not _RULE_ID.fullmatch(rule_id):
        raise RuleNotFound(f"No rule with the id {rule_id} found.")
    account = InternalAccount(issuer, vo=vo)
    lock = models.ReplicaLock
    with db_session(DatabaseOperationType.READ) as session:
        rule = get_rule(rule_id, session=session)
        if rule["account"] != account and not is_admin(account, session=session):
            raise AccessDenied(f"The rule belongs to {rule['account'].external}.")
        waits = (lock.rule_id == rule_id, lock.state != LockState.OK)
        stuck_first = (lock.state != LockState.STUCK, lock.scope, lock.name)
        first = select(lock).where(*waits).order_by(*stuck_first).limit(MOST_FILES)
        told = [_file(each, session) for each in session.execute(first).scalars().all()]
        count: int = session.execute(select(func.count()).select_from(lock).where(*waits)).scalar_one()
    # Between the two questions files may have arrived.
    return told, max(0, count - len(told))


def _file(lock: Any, session: Any) -> dict[str, Any]:
    return {
        "scope": lock.scope.external,
        "name": lock.name,
        "rse": get_rse_name(rse_id=lock.rse_id, session=session),
        "lock": lock.state.name,
        "request": _request(lock, session),
        "transfer": None,
    }


def _request(lock: Any, session: Any) -> dict[str, Any] | None:
    """The request for a file, or the last one if there is none now, with the last job that was submitted for it.

    After a failure Rucio makes another request, which has no job yet, and puts the old one away.
    """
    found = _last(models.Request, lock, session)
    last = found if found is not None and found.external_id else _last(models.RequestHistory, lock, session, tried=True)
    known = found if found is not None else last
    if known is None:
        return None
    source = known.source_rse_id and get_rse_name(rse_id=known.source_rse_id, session=session)
    return {
        "state": known.state.name,
        "over": found is None,
        "source": source or None,
        "retries": known.retry_count,
        "error": known.err_msg or (last and last.err_msg),
        "submitted_at": last and last.submitted_at,
        "host": last and last.external_host,
        "job": last and last.external_id,
        "destination": last and last.dest_url,
    }


def _last(model: Any, lock: Any, session: Any, *, tried: bool = False) -> Any:
    this = [model.scope == lock.scope, model.name == lock.name, model.dest_rse_id == lock.rse_id]
    this += [model.external_id.is_not(None)] if tried else []
    return session.execute(select(model).where(*this).order_by(model.created_at.desc()).limit(1)).scalar()


class _Jobs:
    """What the transfer services say of Rucio's jobs, each asked once, within :data:`ALL_ANSWERS_S` together.

    A service that did not answer is not asked again.
    """

    def __init__(self) -> None:
        self._until = time.monotonic() + ALL_ANSWERS_S
        self._known: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._silent: dict[str, Mapping[str, Any]] = {}

    def get(self, host: str, job_id: str) -> Mapping[str, Any]:
        """The service's document of a job; ``error`` says why there is none."""
        key = (host, job_id)
        if key not in self._known:
            self._known[key] = self._silent[host] if host in self._silent else self._ask(host, job_id)
        return self._known[key]

    def _ask(self, host: str, job_id: str) -> Mapping[str, Any]:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            return {"error": f"the transfer service was not asked: the {ALL_ANSWERS_S:.0f} s for all answers are over"}
        try:
            return _job(host, job_id, left_s)
        except (requests.ConnectionError, requests.Timeout, TokenError) as error:
            return self._silent.setdefault(host, _unasked(error))
        except requests.RequestException as error:
            return _unasked(error)


def _unasked(error: Exception) -> Mapping[str, Any]:
    return {"error": f"the transfer service cannot be asked: {error}"}


def _job(host: str, job_id: str, left_s: float) -> Mapping[str, Any]:
    """What the transfer service says of a job of Rucio's; ``error`` says why it says nothing.

    Raises:
        TokenError: there is no token for the service.
        requests.RequestException: it does not answer, or not as it should.
    """
    token = tokens.source().get(urlsplit(host).hostname or "", "fts")
    url = f"{host.rstrip('/')}/jobs/{job_id}/why"
    headers = {"Authorization": f"Bearer {token}"}
    connect_s, answer_s = (min(each, left_s) for each in ANSWER_S)
    response = requests.get(url, headers=headers, timeout=(connect_s, answer_s), allow_redirects=False)
    if response.status_code == 404:
        return {"error": "the transfer service has forgotten the job"}
    response.raise_for_status()
    document = response.json()
    return document if isinstance(document, dict) else {"error": "the transfer service's answer is no object"}


def _of(job: Mapping[str, Any], destination: str | None) -> Any:
    """What is said of one file: others of the job may be other people's.

    Of several sources each has an entry: those that were not needed are left out.
    """
    if "error" in job:
        return {"error": job["error"], "files": []}
    files = [each for each in job.get("files", ()) if each.get("destination") == destination]
    used = [each for each in files if each.get("file_state") != "NOT_USED"]
    return {"error": None, "files": used or files[:1]}


def blueprint() -> AuthenticatedBlueprint:
    """The routes, for Rucio's application."""
    made = AuthenticatedBlueprint("rules_why", __name__, url_prefix="/rules")
    made.add_url_rule("/<rule_id>/why", view_func=RuleWhy.as_view("rule_why"), methods=["GET"])
    made.after_request(response_headers)
    return made
