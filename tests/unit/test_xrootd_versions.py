"""Which versions of XRootD may run, and what is said of the others."""

from __future__ import annotations

from itertools import pairwise

import pytest

from boathouse.xrootd_versions import FLAWS, OLDEST, numbers, unsafe


@pytest.mark.parametrize(
    ("version", "flaws"),
    [("5.5.3", 5), ("v5.8.1", 4), ("5.8.4-2", 3), ("5.9.1", 2), ("5.9.2-1+b1", 1), ("XrdHttp 4.12", 5)],
)
def test_an_old_one_is_refused_for_every_flaw_that_it_has(version: str, flaws: int) -> None:
    reason = unsafe(version)
    assert reason
    assert [flaw for _, flaw in FLAWS if flaw in reason] == [flaw for _, flaw in FLAWS][-flaws:]
    assert reason.endswith(FLAWS[-1][1])


@pytest.mark.parametrize("version", ["5.9.3", "v5.9.3-1", "5.10.0", "6.0", "v6.2.0"])
def test_a_newer_one_will_do(version: str) -> None:
    assert unsafe(version) is None


@pytest.mark.parametrize("version", ["", "unknown", "no such file"])
def test_one_that_does_not_tell_its_version_is_refused(version: str) -> None:
    assert unsafe(version) == "its version cannot be told"


def test_the_oldest_that_will_do_is_the_first_without_any_flaw() -> None:
    assert max(fixed for fixed, _ in FLAWS) == OLDEST
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(FLAWS))


def test_a_version_is_found_in_what_a_program_says() -> None:
    assert numbers("xrootd v6.2.0 (Debian)") == (6, 2, 0)
    assert numbers("none") == ()
