"""A browser for the tests of pages: Chromium from Debian, in a tree of its own, with what tells it whom to trust.

Ubuntu has none as a package, and a tree needs no rights.
"""

from __future__ import annotations

from pathlib import Path

from install import debian_tree
from install.debian_recipe import Program, Recipe, Say

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{tree}/usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""

_TREE = Recipe(
    what="Chromium",
    packages=("chromium-headless-shell", "chromium-common", "libnss3-tools", "fonts-dejavu-core"),
    programs=(
        Program(
            "chromium",
            "usr/lib/chromium/chromium-headless-shell",
            # Its children must start through the loader as well, so they cannot be copies of one that it sets aside
            # early, and its own sandbox, which starts them elsewhere, does not fit. It only shows pages of ours.
            ("--no-zygote", "--no-sandbox", "--browser-subprocess-path={tree}/bin/chromium"),
            (("FONTCONFIG_FILE", "{tree}/fonts.conf"),),
            loader_beside=True,
        ),
        Program("certutil", "usr/bin/certutil"),
    ),
    library_directories=("pulseaudio",),
    files=(("fonts.conf", _FONTS),),
)


def install(into: Path, say: Say) -> None:
    """``chromium`` and ``certutil`` below ``bin`` in a directory, fetched if need be.

    Raises:
        HostError: they cannot be had.
    """
    debian_tree.provide(into, _TREE, "for tests of pages", say)
