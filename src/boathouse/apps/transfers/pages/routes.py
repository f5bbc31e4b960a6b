"""``/pages``: the overview and single jobs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import diagnosis
from boathouse.apps.transfers.metrics import RECENT_S
from boathouse.apps.transfers.pages.signin import DONE, HOME, SignIn
from boathouse.apps.transfers.rest.base import Handlers, Services, thread
from boathouse.apps.transfers.settings import Pages
from boathouse.apps.transfers.states import JOB_TERMINAL
from boathouse.apps.transfers.store import Caller, Filter
from boathouse.errors import AuthError, BoathouseError
from boathouse.units import format_bytes

_STYLE = (Path(__file__).parents[1] / "static" / "style.css").read_bytes()
_STYLE_URL = f"/pages/style.css?{hashlib.sha256(_STYLE).hexdigest()[:12]}"
_REFRESH_S = 5
_MOST_JOBS = 50
_MOST_FILES = 200
_ENDED = timedelta(days=1)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_TEMPLATES = Environment(
    loader=PackageLoader("boathouse.apps.transfers"),
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_TEMPLATES.filters |= {"bytes": format_bytes}
_Page = Callable[[Request, Caller], Awaitable[Response]]


@dataclass
class _Link:
    """A link on the page."""

    source: str
    destination: str
    waiting: int = 0
    active: int = 0
    unclean: int = 0
    limit: int | None = None
    ended: Counter[str] = field(default_factory=Counter)
    rate: float = 0.0
    """Bytes per second over the last ten minutes."""

    @property
    def copied(self) -> int:
        """Attempts that ended well."""
        return self.ended["finished"] + self.ended["existed"]

    @property
    def success(self) -> int | None:
        """Percent of the attempts that ended well."""
        total = self.ended.total()
        return round(100 * self.copied / total) if total else None

    @property
    def errors(self) -> str:
        """Errors by class."""
        bad = sorted((name, count) for name, count in self.ended.items() if name not in ("finished", "existed"))
        return ", ".join(f"{count} {name}" for name, count in bad)


class PageRoutes(Handlers):
    """The pages.

    Args:
        services: what they show.
        pages: where they are.
    """

    def __init__(self, services: Services, pages: Pages) -> None:
        super().__init__(services)
        self._sign_in = SignIn(services.settings, pages, services.gate)
        self._origin = pages.url

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route(HOME, self._page(self.overview), methods=["GET"]),
            Route(f"{HOME}/jobs/{{id}}", self._page(self.job), methods=["GET"]),
            Route(f"{HOME}/style.css", self.style, methods=["GET"]),
            Route(f"{HOME}/sign-out", self.sign_out, methods=["POST"]),
            Route(DONE, self.signed_in, methods=["GET"]),
        ]

    def _page(self, page: _Page) -> Callable[[Request], Awaitable[Response]]:
        """A page for who has signed in; others sign in first."""

        async def answer(request: Request) -> Response:
            there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            try:
                caller = await thread(self._sign_in.caller, request)
                if caller is None:
                    return await thread(self._sign_in.begin, there)
                if caller.subject in (await thread(self._steering.decisions)).people:
                    return _message("You have been banned", "Ask the operator.", HTTPStatus.FORBIDDEN)
                return await page(request, caller)
            except BoathouseError as error:
                return _message("That did not work", str(error), HTTPStatus.SERVICE_UNAVAILABLE)

        return answer

    async def signed_in(self, request: Request) -> Response:
        """The end of a sign-in."""
        try:
            token, there, seconds = await thread(self._sign_in.finish, request)
        except AuthError as error:
            return _message("You are not signed in", str(error), HTTPStatus.FORBIDDEN)
        except BoathouseError as error:
            return _message("That did not work", str(error), HTTPStatus.SERVICE_UNAVAILABLE)
        response = _render("signed_in", there=there)
        self._sign_in.remember(response, token, seconds)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget who is signed in; only a page of ours can ask for it."""
        if request.headers.get("origin") != self._origin:
            return _message("Nothing was changed", "The form came from another site.", HTTPStatus.FORBIDDEN)
        response = _message("You are signed out", "The token that the page had is forgotten.")
        self._sign_in.forget(response)
        return response

    async def style(self, _: Request) -> Response:
        """The style sheet."""
        return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=31536000, immutable"})

    async def overview(self, request: Request, caller: Caller) -> Response:
        """The queue, the links, jobs."""
        seen = self._services.overview
        ended = Filter(states=tuple(JOB_TERMINAL), window=_ENDED, limit=_MOST_JOBS)
        return _render(
            "overview",
            me=caller,
            live=_live(request),
            refresh=_REFRESH_S,
            here=HOME,
            queue=await thread(seen.queue, caller.sees),
            links=await self._links(caller.sees),
            unreachable=list((await thread(seen.unreachable, caller.sees)).values()),
            bans=[ban.words for ban in await thread(seen.bans, caller.sees)],
            open_jobs=await thread(self._store.search, Filter(limit=_MOST_JOBS), caller),
            ended_jobs=await thread(self._store.search, ended, caller),
        )

    async def _links(self, vo: str | None) -> list[_Link]:
        found: dict[tuple[str, str], _Link] = {}

        def link(source: str, destination: str) -> _Link:
            return found.setdefault((source, destination), _Link(source, destination))

        names = {"SUBMITTED": "waiting", "ACTIVE": "active", "UNCLEAN": "unclean"}
        for row in await thread(self._services.overview.links, vo):
            setattr(link(row["source_host"], row["dest_host"]), names[row["file_state"]], row["count"])
        for ends, state in self._services.metrics.recent(vo).items():
            link(*ends).ended = state.ended
            link(*ends).rate = state.size_bytes / RECENT_S
        for ends, active in (await thread(self._services.overview.decided, vo)).items():
            if ends in found:
                found[ends].limit = active
        return [found[ends] for ends in sorted(found)]

    async def job(self, request: Request, caller: Caller) -> Response:
        """A job: its files, what was tried, and why."""
        job_id = request.path_params["id"]
        (job,) = await self._jobs([job_id], caller)
        if job["http_status"] != "200 Ok":
            # Whether there is such a job of somebody else is nobody's business.
            return _message("No such job", "There is none of this id among yours.", HTTPStatus.NOT_FOUND)
        rows = (await thread(self._store.files, [job_id]))[job_id]
        shown = sorted(rows, key=lambda row: _ORDER.get(row["file_state"], 9))[:_MOST_FILES]
        tries, unreachable = await thread(self._store.attempts, job_id), await thread(self._store.unreachable)
        why = diagnosis.why(job, shown, tries, unreachable, self._steering.decisions().policy)
        return _render(
            "job",
            me=caller,
            live=_live(request) and job["job_finished"] is None,
            refresh=_REFRESH_S,
            here=f"{HOME}/jobs/{job_id}",
            job=job,
            files=list(zip(shown, why["files"], strict=True)),
            left_out=len(rows) - len(shown),
        )


_ORDER = {"ACTIVE": 0, "FAILED": 1, "SUBMITTED": 2, "CANCELED": 3}


def _live(request: Request) -> bool:
    return request.query_params.get("live") != "off"


def _message(heading: str, text: str, status: int = HTTPStatus.OK) -> Response:
    return _render("message", status, message_heading=heading, text=text)


def _render(template: str, status: int = HTTPStatus.OK, **values: Any) -> Response:
    usual = {"style": _STYLE_URL, "me": None, "live": False, "refresh": _REFRESH_S, "here": HOME}
    return HTMLResponse(_TEMPLATES.get_template(f"{template}.html").render(**usual | values), status, _HEADERS)
