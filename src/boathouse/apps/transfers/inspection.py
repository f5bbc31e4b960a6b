"""What lies at either end of a copy, and the tokens with which that is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from boathouse.apps.transfers import checksums
from boathouse.apps.transfers.attempt import Attempt, Done, bare, value
from boathouse.apps.transfers.checksums import Algorithm
from boathouse.apps.transfers.failures import CopyError, ErrorClass, Failure, Side
from boathouse.apps.transfers.renewal import Renewal
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.storage import Found, Storage, matches
from boathouse.apps.transfers.work import Work

# Rucio knows this sentence, and then compares the file that is there.
EXISTS = "Destination file exists and overwrite is not enabled"
CRC32C = checksums.ALGORITHMS["crc32c"]


class Inspection:
    """Looks at sources and destinations, and judges what is there.

    Args:
        storage: who talks to storage elements.
        renewal: who renews tokens.
        limits: the limits.
    """

    def __init__(self, storage: Storage, renewal: Renewal, limits: Limits) -> None:
        self._storage = storage
        self._renewal = renewal
        self._limits = limits
        self._stores = storage.stores

    def to_store(self, work: Work) -> bool:
        """Whether the destination is storage of somebody else's, which knows no third-party copy."""
        return self._stores.at(work.dest_url) is not None

    def at_store(self, work: Work) -> bool:
        """Whether one of the ends is."""
        return self.to_store(work) or self._stores.at(work.source_url) is not None

    async def source_token(self, attempt: Attempt) -> None:
        """Have a token for the source that lives long enough.

        Raises:
            CopyError: there is none any more.
        """
        token, margin = attempt.source_token or attempt.work.source_token, self._limits.token_margin_s
        asked = self.to_store(attempt.work)
        attempt.source_token = await self._renewal.usable(token, Side.SOURCE, margin, asked=asked)

    async def dest_token(self, attempt: Attempt) -> None:
        """Have a token for the destination that lives long enough, and that its copy door takes.

        Raises:
            CopyError: there is none.
        """
        token, margin = attempt.dest_token or attempt.work.dest_token, self._limits.token_margin_s
        attempt.dest_token = await self._renewal.usable(token, Side.DESTINATION, margin, asked=True)

    async def ask_source(self, attempt: Attempt) -> None:
        """Let the source say what the client did not: size and checksum."""
        open_choice = attempt.work.checksum is None and self.at_store(attempt.work)
        if open_choice and attempt.algorithm:
            # S3 has none of the field's own checksum; this one both may know.
            attempt.algorithm = CRC32C
        found = await self.look_at_source(attempt, attempt.algorithm)
        attempt.size_bytes = found.size_bytes if attempt.size_bytes is None else attempt.size_bytes
        attempt.checksum = attempt.checksum or found.checksum
        if attempt.size_bytes is None and attempt.checksum is None:
            cause = "the source tells neither size nor checksum, and none was given: nothing could be compared"
            raise CopyError(Failure(Side.SOURCE, ErrorClass.source, cause, retryable=False))
        if open_choice and attempt.checksum is None:
            attempt.algorithm = None
        if attempt.checksum is None and attempt.work.checksum and attempt.algorithm:
            cause = f"the source does not tell its {attempt.algorithm.name} checksum, and no value was given"
            raise CopyError(Failure(Side.SOURCE, ErrorClass.checksum, cause, retryable=False))

    async def look_at_source(self, attempt: Attempt, algorithm: Algorithm | None) -> Found:
        """What the source has, with a checksum if one is named.

        Raises:
            CopyError: it has no such file, or was not to be asked.
        """
        work = attempt.work
        found = await attempt.ask(
            f"HEAD {bare(work.source_url)}",
            self._storage.look(
                Side.SOURCE, work.source_url, value(attempt.source_token), algorithm, attempt.size_bytes
            ),
        )
        if found is None:
            raise CopyError(Failure(Side.SOURCE, ErrorClass.source, f"no such file: {bare(work.source_url)}"))
        return found

    async def look(self, attempt: Attempt, algorithm: Algorithm | None) -> Found | None:
        """What lies at the destination, with a checksum if one is named; None if nothing does.

        Raises:
            CopyError: it was not to be asked.
        """
        work = attempt.work
        return await attempt.ask(
            f"HEAD {bare(work.dest_url)}" + (f" for its {algorithm.name}" if algorithm else ""),
            self._storage.look(
                Side.DESTINATION, work.dest_url, value(attempt.dest_token), algorithm, attempt.size_bytes
            ),
        )

    async def look_around(self, attempt: Attempt) -> Found | None:
        """Look at a destination that somebody may still write: sizes first, since a checksum costs the reader time."""
        found = await self.look(attempt, None)
        if found is None or attempt.algorithm is None or found.size_bytes not in (None, attempt.size_bytes):
            return found
        return await self.look(attempt, attempt.algorithm)

    def right(self, attempt: Attempt, found: Found) -> bool:
        """Whether a file is known to be the wanted one: size and checksum, or size alone if no more was asked."""
        if matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum) or attempt.size_bytes is None:
            return False
        return attempt.checksum is not None and found.checksum is not None

    @staticmethod
    def require_right(found: Found, attempt: Attempt) -> None:
        """Make sure that the source has the wanted file, as far as it tells.

        Raises:
            CopyError: it has another one.
        """
        if wrong := matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum):
            raise CopyError(Failure(Side.SOURCE, ErrorClass.checksum, mismatches(wrong), retryable=False))

    async def require_right_source(self, attempt: Attempt) -> None:
        """Make sure that the source has the wanted file, before another one is given away for it.

        Raises:
            CopyError: it has another one, or was not to be asked.
        """
        self.require_right(await self.look_at_source(attempt, attempt.algorithm), attempt)

    def already_there(self, attempt: Attempt, found: Found) -> Done:
        """The end of an attempt for a file that may not be overwritten.

        Raises:
            CopyError: it is another one.
        """
        if self.right(attempt, found):
            return Done(found.size_bytes or 0, existed=True)
        attempt.in_the_way = found
        raise CopyError(Failure(Side.DESTINATION, ErrorClass.exists, f"{EXISTS}: {found}"))

    async def whose_bytes(self, attempt: Attempt, failure: Failure) -> Failure:
        """For wrong bytes: whether the source has them already. It is asked only then."""
        if failure.kind is not ErrorClass.checksum:
            return failure
        try:
            found = await self.look_at_source(attempt, attempt.algorithm)
        except CopyError as error:
            return failure.because(f"the source could not be compared: {error.failure.cause}")
        if found.size_bytes is None and found.checksum is None:
            return failure.because("the source tells neither size nor checksum")
        if wrong := matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum):
            cause = f"{mismatches(wrong)}; {failure.cause}"
            return Failure(Side.SOURCE, ErrorClass.checksum, cause, retryable=False)
        return failure

    async def seen(self, attempt: Attempt, failure: Failure) -> Failure:
        """For a source that cannot be reached, as the destination says: whether we see that too.

        A storage element is paused for everybody, and the destination's words hold names that its users chose.
        """
        if failure.kind is not ErrorClass.network or failure.side is not Side.SOURCE:
            return failure
        try:
            await self.look_at_source(attempt, None)
        except CopyError as error:
            if error.failure.kind is ErrorClass.network:
                return error.failure.because(failure.cause)
        return replace(failure, kind=ErrorClass.source, host="", retryable=True)


def mismatches(wrong: Mapping[str, str]) -> str:
    """What differs, in words."""
    return "; ".join(f"{name} mismatch: {difference}" for name, difference in wrong.items())
