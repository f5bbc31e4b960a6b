"""Rights of Landlock by version."""

from __future__ import annotations

from boathouse.services import confine
from boathouse.services.confine import Access


def test_a_kernel_gets_only_the_rights_that_it_knows() -> None:
    assert confine.known(1) == (1 << 13) - 1
    assert confine.known(2) == confine.known(1) | Access.REFER
    assert confine.known(3) == confine.known(4) == confine.known(2) | Access.TRUNCATE
    assert confine.known(5) == confine.known(6) == confine.known(3) | Access.IOCTL_DEV


def test_what_can_be_written_cannot_be_executed() -> None:
    assert confine.WRITE & (Access.EXECUTE | Access.MAKE_CHAR | Access.MAKE_BLOCK) == 0
    assert confine.WRITE & confine.READ == confine.READ
