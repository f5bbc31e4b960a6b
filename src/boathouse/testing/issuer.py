"""Issuers that are only a key: they sign what no issuer gives out, such as tokens that have ended or lack a scope."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from boathouse.testing.https import Handler, HttpsServer

_BACKDATED_S = 10


class KeyIssuer:
    """A signature key and the tokens that are signed with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rotate()

    def rotate(self) -> None:
        """Take a new key; the old one is no longer published."""
        self.key = ECKey.generate_key("P-256", {"kid": uuid.uuid4().hex})

    @property
    def jwks(self) -> dict[str, Any]:
        """The public key as servers want it."""
        return {"keys": [{**self.key.as_dict(private=False), "alg": "ES256", "use": "sig"}]}

    def sign(
        self,
        claims: Mapping[str, Any],
        *,
        life_s: float = 3600,
        key: ECKey | OctKey | None = None,
        algorithm: str = "ES256",
    ) -> str:
        """A token with these claims, and with those that every token has where they are not given.

        Args:
            claims: what it says.
            life_s: seconds that it is still good for; it has ended if they are negative.
            key: another key than the issuer's.
            algorithm: how that signs.
        """
        now = int(time.time())
        issued = min(now, now + int(life_s)) - _BACKDATED_S
        usual = {
            "iss": self.url,
            "wlcg.ver": "1.0",
            "iat": issued,
            "nbf": issued,
            "exp": now + int(life_s),
            "jti": str(uuid.uuid4()),
        }
        header = {"alg": algorithm, "kid": self.key.kid}
        return jwt.encode(header, usual | dict(claims), key or self.key, algorithms=["ES256", "HS256"])


class IssuerServer(KeyIssuer):
    """Shows its key over TLS and gives every client what it asks for with client credentials; nothing else."""

    def __init__(self, port: int, tls: tuple[Path, Path]) -> None:
        super().__init__(f"https://localhost:{port}")
        self.requests: list[dict[str, str]] = []
        """What clients asked for, with the name of each."""
        self.grants = ["client_credentials"]
        self._server = HttpsServer(partial(_Issuer, issuer=self), "127.0.0.1", port, tls)

    def start(self) -> None:
        """Answer."""
        self._server.start()

    def stop(self) -> None:
        """Be down; no-op if it is."""
        self._server.stop()

    def documents(self) -> dict[str, dict[str, Any]]:
        """What can be read, by path."""
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
            },
            "/jwks": self.jwks,
        }

    def grant(self, client: str, form: dict[str, str]) -> dict[str, Any]:
        """The answer to client credentials."""
        self.requests.append({"client": client, **form})
        token = self.sign({"sub": client, "aud": form.get("audience", "").split(), "scope": form.get("scope", "")})
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600}


class _Issuer(Handler):
    def __init__(self, *args: Any, issuer: IssuerServer) -> None:
        self._issuer = issuer
        super().__init__(*args)

    def respond(self) -> None:
        if self.command == "GET":
            document = self._issuer.documents().get(self.path)
            self.answer(document or {}, 200 if document else 404)
            return
        form = dict(parse_qsl(self.body().decode()))
        if form.get("grant_type") not in self._issuer.grants:
            self.answer({"error": "unsupported_grant_type"}, 400)
            return
        basic = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        self.answer(self._issuer.grant(basic.split(":")[0], form))
