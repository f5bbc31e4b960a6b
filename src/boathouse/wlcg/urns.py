"""Long names that OAuth 2.0 gave to grants (RFC 8628, RFC 8693) and to kinds of tokens (RFC 8693, section 3)."""

from __future__ import annotations

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind of token
JWT = "urn:ietf:params:oauth:token-type:jwt"
