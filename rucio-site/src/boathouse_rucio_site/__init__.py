"""What Boathouse adds to the Rucio server that it embeds.

Rucio loads this package as its policy package (``[policy] package``): :mod:`.permission` and :mod:`.schema` answer for
it. The other modules replace single functions of Rucio (:mod:`.patches` holds the one table of them), run its server
(:mod:`.server`), its daemons (:mod:`.daemons`) and its set-up (:mod:`.bootstrap`).

Importing the package itself imports nothing of Rucio, since Rucio imports it while it is being imported.
"""

from __future__ import annotations

from collections.abc import Callable

from boathouse_rucio_site import paths

RUCIO_VERSION = "41.5.1"
"""The one version of Rucio whose functions are replaced."""

SUPPORTED_VERSION = [f"=={RUCIO_VERSION.partition('.')[0]}"]
"""Read by Rucio when it loads its policy package; it knows only major versions. :mod:`.patches` checks the whole."""


def _hashed_path(dataset: str, scope: str | None, name: str) -> str:
    """Path of a new replica on a non-deterministic RSE: the one it would have on a deterministic RSE.

    Raises:
        InvalidObject: as a path, the name would lead out of its scope's directory.
    """
    del dataset
    from rucio.common.exception import InvalidObject  # noqa: PLC0415 - Rucio is importing this package
    from rucio.rse.translation import RSEDeterministicTranslation  # noqa: PLC0415 - Rucio is importing this package

    if not paths.is_plain(name) or not paths.is_plain(scope or ""):
        raise InvalidObject(f"{scope}:{name} has empty, dot or escaped segments: no path is made of it")
    return "/" + str(RSEDeterministicTranslation(rse_attributes={"lfn2pfn_algorithm": "hash"}).path(scope, name))


def get_algorithms() -> dict[str, dict[str, Callable[..., str]]]:
    """Algorithms that Rucio may use by name: ``naming_convention=boathouse`` of a non-deterministic RSE."""
    return {"non_deterministic_pfn": {"boathouse": _hashed_path}}
