"""What the issuer says of itself (OpenID Connect Discovery 1.0 and RFC 8414)."""

from __future__ import annotations

from typing import Any

from boathouse.apps.tokens.persistence.records import GRANTS
from boathouse.apps.tokens.protocol.grants import ANY_METHOD, SECRET
from boathouse.wlcg.scopes import COMPUTE, PROFILE, STORAGE


def metadata(issuer: str, *, registration: str | None) -> dict[str, Any]:
    """The metadata document.

    Args:
        issuer: the issuer's URL.
        registration: path at which programs register themselves; None if they may not.
    """
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwk",
        "introspection_endpoint": f"{issuer}/introspect",
        "revocation_endpoint": f"{issuer}/revoke",
        # Ours: see boathouse.apps.tokens.trail.feed.
        "boathouse_denials_endpoint": f"{issuer}/denials",
        "device_authorization_endpoint": f"{issuer}/devicecode",
        **({"registration_endpoint": f"{issuer}{registration}"} if registration else {}),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        "token_endpoint_auth_methods_supported": list(ANY_METHOD),
        "introspection_endpoint_auth_methods_supported": list(SECRET),
        "revocation_endpoint_auth_methods_supported": list(ANY_METHOD),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": [
            "openid",
            "profile",
            "email",
            "offline_access",
            *PROFILE,
            "wlcg.groups",
            "fts",
            *sorted(f"{name}:/" for name in STORAGE),
            *sorted(COMPUTE),
        ],
        "claims_supported": [
            "sub",
            "name",
            "given_name",
            "family_name",
            "preferred_username",
            "email",
            "email_verified",
            "wlcg.groups",
        ],
    }
