"""The authorization page."""

from __future__ import annotations

from .case import ANY, BACK_NO_CHALLENGE, BACK_NO_SCOPE, CALLBACK, CMS, CONTROL, WRONG, Case, authorization

CASES: tuple[Case, ...] = (
    # The authorization page
    authorization("no-client", f"{WRONG} Missing 'client_id' parameter.", client_id=""),
    authorization("unknown-client", f"{WRONG} The client does not exist on this server.", client_id="nobody"),
    authorization("client-nul", CONTROL, client_id="browser\0"),
    authorization("client-escape", f"{WRONG} A parameter holds a control character", client_id="browser\x1b"),
    authorization(
        "redirect-other-path",
        f"{WRONG} Redirect URI https://localhost:20499/callback/x is not supported by client.",
        redirect_uri=f"{CALLBACK}/x",
    ),
    authorization(
        "redirect-query",
        f"{WRONG} Redirect URI https://localhost:20499/callback?x=1 is not supported by client.",
        redirect_uri=f"{CALLBACK}?x=1",
    ),
    authorization(
        "redirect-fragment",
        f"{WRONG} Redirect URI https://localhost:20499/callback#x is not supported by client.",
        redirect_uri=f"{CALLBACK}#x",
    ),
    authorization(
        "redirect-other-case",
        f"{WRONG} Redirect URI HTTPS://LOCALHOST:20499/CALLBACK is not supported by client.",
        redirect_uri=CALLBACK.upper(),
    ),
    authorization(
        "redirect-dot-dot",
        f"{WRONG} Redirect URI https://localhost:20499/callback/../callback is not supported by client.",
        redirect_uri=f"{CALLBACK}/../callback",
    ),
    authorization(
        "redirect-user",
        f"{WRONG} Redirect URI https://localhost:20499@evil.example/callback is not supported by client.",
        redirect_uri="https://localhost:20499@evil.example/callback",
    ),
    authorization(
        "redirect-backslash",
        f"{WRONG} Malformed redirect_uri",
        redirect_uri="https://evil.example\\@localhost:20499/callback",
    ),
    authorization(
        "redirect-other-port",
        f"{WRONG} Redirect URI https://localhost:20500/callback is not supported by client.",
        redirect_uri="https://localhost:20500/callback",
    ),
    authorization(
        "redirect-plain-http",
        f"{WRONG} Redirect URI http://localhost:20499/callback is not supported by client.",
        redirect_uri="http://localhost:20499/callback",
    ),
    authorization(
        "redirect-line-break",
        f"{WRONG} A parameter holds a control character",
        redirect_uri=f"{CALLBACK}\r\nX-Header: 1",
    ),
    authorization(
        "redirect-script",
        f"{WRONG} Redirect URI javascript:alert(1) is not supported by client.",
        redirect_uri="javascript:alert(1)",
    ),
    authorization(
        "redirect-twice",
        f"{WRONG} Multiple values of parameter redirect_uri",
        more="&redirect_uri=https://evil.example",
    ),
    authorization("client-twice", f"{WRONG} Multiple values of parameter client_id", more="&client_id=rucio"),
    authorization("state-twice", f"{WRONG} Multiple values of parameter state", more="&state=b"),
    authorization("token-response", "302 unsupported_response_type token", response_type="token"),
    authorization("no-response-type", "302 unsupported_response_type", response_type=""),
    authorization("two-response-types", "302 unsupported_response_type code token", response_type="code token"),
    authorization(
        "pkce-none",
        "302 invalid_request A public client must send a code_challenge",
        code_challenge="",
        code_challenge_method="",
    ),
    authorization(
        "pkce-plain", "302 invalid_request Unsupported 'code_challenge_method'", code_challenge_method="plain"
    ),
    authorization(
        "pkce-no-method", "302 invalid_request Only code_challenge_method S256 is supported", code_challenge_method=""
    ),
    authorization(
        "pkce-unknown-method", "302 invalid_request Unsupported 'code_challenge_method'", code_challenge_method="S512"
    ),
    authorization("pkce-short", BACK_NO_CHALLENGE, code_challenge="short"),
    authorization("pkce-long", BACK_NO_CHALLENGE, code_challenge="x" * 129),
    authorization("pkce-padded", BACK_NO_CHALLENGE, code_challenge="x" * 42 + "="),
    authorization("scope-malformed", BACK_NO_SCOPE, scope="storage.read"),
    authorization("scope-of-others", BACK_NO_SCOPE, scope="fts"),
    authorization("scope-dot-dot", BACK_NO_SCOPE, scope=f"{CMS}/%2e%2e"),
    authorization(
        "for-everybody",
        "302 invalid_target The audience must be named; a token for everybody is not given",
        audience=ANY,
    ),
    authorization("prompt-none-signed-out", "302 login_required", login="", prompt="none"),
    authorization("prompt-none-and-more", "302 invalid_request Invalid 'prompt' parameter.", prompt="none login"),
    authorization("prompt-none-unconsented", "302 consent_required", prompt="none", scope="openid email"),
)
