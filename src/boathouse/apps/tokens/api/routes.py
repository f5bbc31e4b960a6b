"""Which path leads where."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.apps.tokens.api import iam, scim
from boathouse.apps.tokens.web import Handler

_IAM: tuple[tuple[str, Handler, tuple[str, ...]], ...] = (
    ("/iam/scope_policies", iam.policy_list, ("GET", "POST")),
    ("/iam/scope_policies/test", iam.policy_test, ("GET",)),
    ("/iam/scope_policies/{id}", iam.policy_one, ("GET", "DELETE")),
    ("/iam/group_requests", iam.request_list, ("GET", "POST")),
    ("/iam/group_requests/{id}", iam.request_one, ("GET", "DELETE")),
    ("/iam/group_requests/{id}/{decision}", iam.request_decide, ("POST",)),
    ("/iam/api/clients", iam.client_list, ("GET", "POST")),
    ("/iam/api/clients/{id}", iam.client_one, ("GET", "PUT", "DELETE")),
    ("/iam/api/clients/{id}/{verb}", iam.client_switch, ("POST", "PATCH")),
    ("/iam/api/exchange/policies", iam.exchange_list, ("GET", "POST")),
    ("/iam/api/exchange/policies/{id}", iam.exchange_one, ("DELETE",)),
    ("/iam/accounts", iam.account_list, ("GET",)),
    ("/iam/account/{id}/grants", iam.account_grants, ("GET", "DELETE")),
    ("/iam/account/{id}/managed-groups/{group}", iam.manager, ("POST", "DELETE")),
    ("/iam/groups", iam.group_list, ("GET",)),
    ("/iam/groups/{id}/members", iam.members, ("GET",)),
    ("/iam/groups/{id}/members/{user}", iam.member, ("PUT", "DELETE")),
    ("/iam/audit", iam.audit_list, ("GET",)),
    ("/iam/audit/verify", iam.audit_verify, ("GET",)),
    ("/iam/audit/who-could", iam.audit_who_could, ("GET",)),
)
_SCIM: tuple[tuple[str, Handler, tuple[str, ...]], ...] = (
    ("/Me", scim.me, ("GET",)),
    ("/Users", scim.user_list, ("GET", "POST")),
    ("/Users/{id}", scim.user_one, ("GET", "PUT", "PATCH", "DELETE")),
    ("/Groups", scim.group_list, ("GET", "POST")),
    ("/Groups/{id}", scim.group_one, ("GET", "PUT", "PATCH", "DELETE")),
)


def routes() -> Iterator[tuple[str, Handler, tuple[str, ...]]]:
    """Path, handler and methods of everything here."""
    yield from _IAM
    for base in ("/scim", "/scim/v2"):
        yield from ((base + path, handler, methods) for path, handler, methods in _SCIM)
