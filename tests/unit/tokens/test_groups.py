"""The table of section 3.1 of the WLCG profile, row by row: ``/cms`` is the only default group."""

from __future__ import annotations

import pytest

from boathouse.apps.tokens.rights.groups import select
from boathouse.wlcg.scopes import parse

MEMBER_OF = ("/cms", "/cms/uscms", "/cms/ALARM")
OPTIONAL = {"/cms/uscms", "/cms/ALARM"}


@pytest.mark.parametrize(
    ("scope", "claim"),
    [
        ("wlcg.groups", ("/cms",)),
        ("wlcg.groups:/cms/uscms wlcg.groups:/cms/ALARM", ("/cms/uscms", "/cms/ALARM", "/cms")),
        ("wlcg.groups:/cms/uscms wlcg.groups:/cms/ALARM wlcg.groups", ("/cms/uscms", "/cms/ALARM", "/cms")),
        ("wlcg.groups wlcg.groups:/cms/uscms wlcg.groups:/cms/ALARM", ("/cms", "/cms/uscms", "/cms/ALARM")),
        ("wlcg.groups:/cms wlcg.groups:/cms/uscms wlcg.groups:/cms/ALARM", ("/cms", "/cms/uscms", "/cms/ALARM")),
        # Not in the table: no group scope, no groups; a foreign group is not given; nothing occurs twice.
        ("openid storage.read:/", ()),
        ("wlcg.groups:/atlas", ("/cms",)),
        ("wlcg.groups:/cms wlcg.groups wlcg.groups:/cms", ("/cms",)),
    ],
)
def test_section_3_1(scope: str, claim: tuple[str, ...]) -> None:
    assert select(parse(scope), MEMBER_OF, OPTIONAL) == claim


def test_the_order_is_that_of_the_vo() -> None:
    assert select(parse("wlcg.groups"), ("/b", "/a", "/c"), set()) == ("/b", "/a", "/c")
