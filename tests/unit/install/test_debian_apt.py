"""Reading apt's sources and indexes, and finding Debian's archive among them."""

from __future__ import annotations

import pytest
from install.debian_apt import (
    Source,
    debian_mirrors,
    host_sources,
    parse_deb822,
    parse_debootstrap,
    parse_one_line,
    parse_stanzas,
)
from install.debian_suite import version_of

ONE_LINE = """\
# deb http://commented.test/debian bookworm main
deb http://mirror.test/debian/ bookworm main contrib # a comment
deb [signed-by=/etc/key.gpg arch=amd64] https://other.test/debian trixie main
deb-src http://mirror.test/debian bookworm main
deb cdrom:[Debian]/ bookworm main
"""

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://one.test/debian mirror+file:///etc/apt/mirrors.list
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: sid
Components: main
"""


def test_one_line_style():
    assert parse_one_line(ONE_LINE)[:2] == [
        Source("http://mirror.test/debian/", "bookworm", ("main", "contrib")),
        Source("https://other.test/debian", "trixie", ("main",)),
    ]


def test_deb822_style():
    assert parse_deb822(DEB822) == [
        Source(uri, suite, ("main",))
        for uri in ("http://one.test/debian", "mirror+file:///etc/apt/mirrors.list")
        for suite in ("bookworm", "bookworm-updates")
    ]


def test_the_host_has_both_styles(tmp_path):
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "old.sources.save").write_text(DEB822)
    assert len(host_sources(tmp_path)) == 7


def test_mirrors_are_those_with_a_suite_of_debian():
    sources = [
        Source("http://archive.test/ubuntu", "jammy", ("main",)),
        Source("http://tools.test/debian", "bookworm", ("stable",)),
        Source("http://security.test/debian-security", "bookworm-security", ("main",)),
        Source("cdrom:[Debian]/", "bookworm", ("main",)),
        *parse_one_line(ONE_LINE)[:2],
    ]
    assert debian_mirrors(sources) == ["http://mirror.test/debian", "https://other.test/debian"]
    assert debian_mirrors(sources[:4]) == []


@pytest.mark.parametrize(
    ("script", "program", "mirror"),
    [
        ("  default_mirror http://a.test/debian\n", 'DEF_MIRROR="http://b.test/ubuntu"', "http://a.test/debian"),
        ("mirror_style release\n", 'X=1\nDEF_MIRROR="http://b.test/debian/"\n', "http://b.test/debian"),
        ("", 'DEF_MIRROR="http://b.test/ubuntu"', None),
        ("", "", None),
    ],
)
def test_the_default_of_debootstrap(script, program, mirror):
    assert parse_debootstrap(script, program) == mirror


def test_stanzas_join_continuation_lines():
    assert parse_stanzas("A: 1\n 2\nB: x\n\n\n# c\nA: 3\n") == [{"A": "1\n2", "B": "x"}, {"A": "3"}]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("v5.5.3", (5, 5, 3)),
        ("6.2.0-2+b1", (6, 2, 0)),
        ("1:5.9.3~rc1-1", (5, 9, 3)),
        ("6.2.0-forky-0123", (6, 2, 0)),
        ("", ()),
        ("unknown", ()),
    ],
)
def test_versions(text, numbers):
    assert version_of(text) == numbers
