"""Names of the lake: data identifiers, and where a file's path on storage follows from its name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from boathouse.errors import InputError
from boathouse.wlcg.directories import scope_directories

# Rucio's schema "generic", without what leads elsewhere as a path; boathouse_rucio_site.schema has the same.
_SCOPE = re.compile(r"[a-zA-Z_\-.0-9]{1,25}")
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9.\-_]+"
_FILE_NAME = re.compile(rf"(?=.{{1,250}}\Z)(?=[A-Za-z0-9]){_SEGMENT}(?:/{_SEGMENT})*")
_NAME = re.compile(rf"(?=.{{1,250}}\Z)/?(?=[A-Za-z0-9]){_SEGMENT}(?:/{_SEGMENT})*")
_LETTERS = "1 to 250 of letters, digits, '.', '-', '_', '/', the first a letter or digit, no part '.', '..' or empty"


@dataclass(frozen=True, order=True)
class Did:
    """A data identifier: ``scope:name`` of a file, a dataset or a container.

    Of a file's name its path is made. Datasets and containers have none: their names may begin with a slash, as in CMS.
    """

    scope: str
    name: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Did:
        """A DID from ``scope:name``.

        Raises:
            InputError: the text is not a DID, or holds letters that the catalogue does not take.
        """
        scope, colon, name = text.partition(":")
        if not colon:
            raise InputError(
                "not a DID", expected="SCOPE:NAME", got=repr(text), remedy="boathouse ls, to see the scopes"
            )
        return cls(scope, name).checked()

    def checked(self) -> Did:
        """The DID itself, if the catalogue takes its letters.

        Raises:
            InputError: scope or name is malformed.
        """
        if not _SCOPE.fullmatch(self.scope):
            raise InputError(
                "not a scope",
                expected="1 to 25 of letters, digits, '.', '-', '_'",
                got=repr(self.scope),
                where=str(self),
            )
        if not _NAME.fullmatch(self.name):
            raise InputError(
                "not a DID name",
                expected=f"{_LETTERS}; datasets and containers may have a '/' before it",
                got=repr(self.name),
                where=str(self),
            )
        return self

    def checked_file(self) -> Did:
        """The DID itself, if a file may be called so.

        Raises:
            InputError: scope or name is malformed, or the name cannot be a path.
        """
        if not _FILE_NAME.fullmatch(self.checked().name):
            raise InputError(
                "not a name for a file",
                expected=f"{_LETTERS}: its path is made of it",
                got=repr(self.name),
                where=str(self),
            )
        return self


def hash_path(did: Did) -> str:
    """Path of a file below the prefix of a deterministic RSE, by Rucio's algorithm ``hash``.

    ``scope/xx/yy/name`` with the first two bytes of the MD5 of ``scope:name``. In the scopes of users and groups
    the dots are directories: ``user.alice`` lies below ``user/alice``.
    """
    digest = hashlib.md5(str(did).encode(), usedforsecurity=False).hexdigest()
    return f"{scope_directories(did.scope)[0]}/{digest[0:2]}/{digest[2:4]}/{did.name}"
