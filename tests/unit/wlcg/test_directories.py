"""Directories of scopes, which the facility file, the issuer, the lake client and the care of caches must agree on."""

from __future__ import annotations

import pytest

from boathouse.lake.names import Did, hash_path
from boathouse.wlcg.directories import scope_directories


@pytest.mark.parametrize(
    ("scope", "directories"),
    [
        ("cms", ("cms",)),
        ("cms.2012", ("cms.2012",)),
        ("user", ("user",)),
        ("user.alice", ("user/alice", "user.alice")),
        ("group.phys.top", ("group/phys/top", "group.phys.top")),
        # Rucio looks at the beginning of the name, not at its first word.
        ("users.x", ("users/x", "users.x")),
        ("groupdisk.x", ("groupdisk/x", "groupdisk.x")),
    ],
)
def test_dots_are_directories_in_names_that_begin_with_user_or_group(scope, directories) -> None:
    assert scope_directories(scope) == directories
    assert hash_path(Did(scope, "f")).startswith(f"{directories[0]}/")
