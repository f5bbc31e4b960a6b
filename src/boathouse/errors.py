"""Every error that Boathouse shows to a user, drawn as one tree.

::

    BoathouseError                 1   never raised itself
    ├── InputError                 2   a file or argument that the user gave cannot be used
    ├── FacilityError              3   the facility file is wrong: all its problems at once
    │   └── HostError              4   the file is right, this machine lacks something for it
    ├── ServiceError               5   a service did not start, or died         (retryable)
    ├── StateError                 6   the state directory is of another version, or not one
    ├── AuthError                  7   not logged in, or a token was refused
    ├── CatalogueError             8   the catalogue refused a request
    │   ├── NotFoundError          8   no such DID, RSE, rule or account
    │   └── ConflictError          8   it exists already, with other content
    ├── StorageError               9   a storage element or cache refused or failed (retryable)
    │   ├── ChecksumError         10   bytes arrived, and they are the wrong ones
    │   └── NoSpaceError           9   the storage is full                       (retryable)
    ├── TransferError             11   a third-party copy failed for good
    ├── AnalysisError             12   events lost, or the user's code failed
    └── PartialError              20   some of what was asked for was done: see the list

The numbers are the exit codes of the command ``boathouse``; 0 is success, 130 is Ctrl-C.
"""

from __future__ import annotations

from typing import ClassVar


class BoathouseError(Exception):
    """An error that a user can act on: what, expected against got, where, and the remedy.

    Args:
        what: one sentence, lower case, without a final full stop.
        expected: what should have been there.
        got: what was there instead.
        where: a file with line, a URL, a unit, a DID.
        remedy: what to do, as a sentence or as the command to type.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.got = got
        self.where = where
        self.remedy = remedy

    @property
    def code(self) -> str:
        """The stable name of this error for scripts: the class name."""
        return type(self).__name__

    def __str__(self) -> str:
        lines = [self.what]
        for label, value in (
            ("expected", self.expected),
            ("got", self.got),
            ("where", self.where),
            ("remedy", self.remedy),
        ):
            if value:
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The same as a JSON object, for ``--json``."""
        return {
            "error": self.code,
            "what": self.what,
            "expected": self.expected,
            "got": self.got,
            "where": self.where,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
            "retryable": self.retryable,
        }


class InputError(BoathouseError):
    """A file or argument that the user gave cannot be used."""

    exit_code = 2


class FacilityError(BoathouseError):
    """The facility file is wrong; ``problems`` holds every fault that was found, in file order."""

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        problems: tuple[BoathouseError, ...] = (),
        expected: str | None = None,
        got: str | None = None,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, where=where, remedy=remedy)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(str(problem) for problem in self.problems)])

    def as_dict(self) -> dict[str, object]:
        """The error with its list of problems."""
        return {**super().as_dict(), "problems": [problem.as_dict() for problem in self.problems]}


class HostError(FacilityError):
    """The machine lacks something that the facility needs: a package, a port, disk, rights."""

    exit_code = 4


class ServiceError(BoathouseError):
    """A service did not become ready, or died; ``log_tail`` holds its last lines."""

    exit_code = 5
    retryable = True

    def __init__(
        self,
        what: str,
        *,
        log_tail: tuple[str, ...] = (),
        expected: str | None = None,
        got: str | None = None,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, where=where, remedy=remedy)
        self.log_tail = log_tail

    def __str__(self) -> str:
        if not self.log_tail:
            return super().__str__()
        return "\n".join([super().__str__(), "  last log lines:", *(f"    {line}" for line in self.log_tail)])

    def as_dict(self) -> dict[str, object]:
        """The error with the service's last log lines."""
        return {**super().as_dict(), "log_tail": list(self.log_tail)}


class StateError(BoathouseError):
    """The state directory is of another version, in use by another process, or not one of ours."""

    exit_code = 6


class AuthError(BoathouseError):
    """Nobody is logged in, or a token was refused; the reason is in ``got``."""

    exit_code = 7


class CatalogueError(BoathouseError):
    """The catalogue refused a request."""

    exit_code = 8


class NotFoundError(CatalogueError):
    """No such DID, RSE, rule or account."""


class ConflictError(CatalogueError):
    """The thing exists already, with other content."""


class StorageError(BoathouseError):
    """A storage element or cache refused or failed."""

    exit_code = 9
    retryable = True


class ChecksumError(StorageError):
    """Bytes arrived, and they are the wrong ones."""

    exit_code = 10
    retryable = False


class NoSpaceError(StorageError):
    """The storage is full."""


class TransferError(BoathouseError):
    """A third-party copy failed for good."""

    exit_code = 11


class AnalysisError(BoathouseError):
    """Events were lost, or the user's code failed."""

    exit_code = 12


_SHOWN = 20
"""Failures of one command that people are shown."""


class PartialError(BoathouseError):
    """Some of what was asked for was done; ``failures`` says what was not, each with its own error."""

    exit_code = 20

    def __init__(self, what: str, *, failures: tuple[BoathouseError, ...], remedy: str | None = None) -> None:
        super().__init__(what, remedy=remedy)
        self.failures = failures

    def __str__(self) -> str:
        lines = [str(failure) for failure in self.failures[:_SHOWN]]
        if len(self.failures) > _SHOWN:
            lines.append(f"… and {len(self.failures) - _SHOWN:,} more; --json has all")
        return "\n".join([super().__str__(), *lines])

    def as_dict(self) -> dict[str, object]:
        """The error with its list of failures."""
        return {**super().as_dict(), "failures": [failure.as_dict() for failure in self.failures]}
