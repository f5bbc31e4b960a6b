"""Who the caller is, and that a token needs no delegation."""

from __future__ import annotations

import uuid
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import views
from boathouse.apps.transfers.rest.base import Handlers, delegation_id


class People(Handlers):
    """``/whoami`` and ``/delegation``."""

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/whoami", self.whoami, methods=["GET"]),
            Route("/whoami/certificate", self.no_certificate, methods=["GET"]),
            Route("/delegation/{id}", self.delegation, methods=["GET"]),
            Route("/delegation/{id}", self.no_certificate, methods=["DELETE"]),
            Route("/delegation/{id}/{what}", self.no_delegation, methods=["GET", "PUT", "POST", "DELETE"]),
        ]

    async def whoami(self, request: Request) -> Response:
        """The caller, as FTS3 describes one."""
        caller = await self._caller(request)
        rights = ("transfer", "deleg", "config", "datamanagement")
        return JSONResponse(
            {
                "user_dn": caller.subject,
                "dn": [caller.subject],
                "delegation_id": delegation_id(caller),
                "vos": [caller.vo],
                "vos_id": [str(uuid.uuid5(self._services.base_id, caller.vo))],
                "base_id": str(self._services.base_id),
                "roles": [],
                "level": dict.fromkeys(rights, "all") if caller.operator else {"transfer": "private"},
                "voms_cred": [],
                "is_root": caller.operator,
                "method": "oauth2",
            }
        )

    async def no_certificate(self, request: Request) -> Response:
        """What FTS3 answers to whoever came without a certificate."""
        await self._caller(request)
        raise HTTPException(HTTPStatus.FORBIDDEN, "Certificate required: this service works with tokens")

    async def delegation(self, request: Request) -> Response:
        """How long the caller's credential lives: there is nothing to delegate beside the token itself."""
        caller = await self._caller(request)
        if request.path_params["id"] != delegation_id(caller):
            raise HTTPException(HTTPStatus.FORBIDDEN, "The requested ID and the credentials ID do not match")
        return JSONResponse({"termination_time": views.timestamp(caller.expires_at), "voms_attrs": []})

    async def no_delegation(self, request: Request) -> Response:
        """Proxies are not taken."""
        await self._caller(request)
        raise HTTPException(HTTPStatus.BAD_REQUEST, "This service works with tokens: there is nothing to delegate")
