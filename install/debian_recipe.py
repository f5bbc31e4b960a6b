"""What a tree of programs is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[[str], None]
"""Tells the user how far it is."""


@dataclass(frozen=True)
class Program:
    """One program of a tree; it is run by a script ``bin/<name>``."""

    name: str
    path: str
    """Below the tree."""
    first_arguments: tuple[str, ...] = ()
    """Come before the caller's; ``{tree}`` stands for the tree."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables and their values; ``{tree}`` as above."""
    loader_beside: bool = False
    """Whether a copy of the loader must lie beside it: it looks for its own files where ``/proc/self/exe`` lies."""


@dataclass(frozen=True)
class Recipe:
    """What a tree is made of."""

    what: str
    """For messages."""
    packages: tuple[str, ...]
    """Taken with the libraries that they need; the first one's version names the tree."""
    programs: tuple[Program, ...]
    oldest: tuple[int, ...] = ()
    """No older version will do."""
    plugins: str = ""
    """Pattern of further objects in the directory of libraries whose own libraries must be there."""
    library_directories: tuple[str, ...] = ()
    """Further directories with libraries, below that one."""
    files: tuple[tuple[str, str], ...] = ()
    """Further files and what is in them; ``{tree}`` as above."""
