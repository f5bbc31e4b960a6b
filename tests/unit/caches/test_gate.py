"""Whom the care of caches tells of which scopes."""

from __future__ import annotations

import pytest

from boathouse.apps.caches.gate import Caller
from boathouse.wlcg.verify import Claims


def caller(*scope: str, operator: bool = False) -> Caller:
    return Caller(Claims("https://issuer", "alice", (), scope, (), 0, "", "", {}), operator=operator)


@pytest.mark.parametrize("scope", ["cms", "user.alice", "group.x", "users.x", "groupdisk.x.y"])
def test_who_may_read_a_scopes_directory_is_told_of_it(scope) -> None:
    for directory in (scope.replace(".", "/"), scope):
        assert caller(f"storage.read:/lake/{directory}").may_read_scope(scope, ["/lake"])
    assert not caller("storage.read:/lake/cmsx", "storage.read:/store").may_read_scope(scope, ["/lake"])
    assert not caller(f"storage.modify:/lake/{scope}").may_read_scope(scope, ["/lake"])


def test_of_files_without_a_scope_operators_alone_are_told() -> None:
    assert not caller("storage.read:/").may_read_scope("", ["/lake"])
    assert caller(operator=True).may_read_scope("", ["/lake"])
