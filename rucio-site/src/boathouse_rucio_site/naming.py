"""Names of files, checked where every way to a new file leads through: as paths, they must not lead elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rucio.common.exception import InvalidObject
from rucio.core import did, replica

from boathouse_rucio_site.paths import is_plain

_stock_add_replicas = replica.add_replicas
_stock_add_files_to_archive = getattr(did, "__add_files_to_archive")


def add_replicas(
    rse_id: str,
    files: Iterable[dict[str, Any]],
    account: Any,
    ignore_availability: bool = True,  # noqa: FBT001, FBT002 - Rucio's signature
    dataset_meta: Mapping[str, Any] | None = None,
    *,
    session: Any,
) -> None:
    """Replaces ``rucio.core.replica.add_replicas``.

    Raises:
        InvalidObject: a file's name is no plain relative path.
    """
    known = list(files)
    _require_paths(file["name"] for file in known)
    _stock_add_replicas(
        rse_id=rse_id,
        files=known,
        account=account,
        ignore_availability=ignore_availability,
        dataset_meta=dataset_meta,
        session=session,
    )


def add_files_to_archive(
    parent_did: Any,
    files_temp_table: Any,
    files: Mapping[tuple[Any, str], Mapping[str, Any]],
    account: Any,
    ignore_duplicate: bool = False,  # noqa: FBT001, FBT002 - Rucio's signature
    *,
    session: Any,
) -> None:
    """Replaces ``rucio.core.did.__add_files_to_archive``.

    Raises:
        InvalidObject: a file's name is no plain relative path.
    """
    _require_paths(name for _, name in files)
    _stock_add_files_to_archive(
        parent_did=parent_did,
        files_temp_table=files_temp_table,
        files=files,
        account=account,
        ignore_duplicate=ignore_duplicate,
        session=session,
    )


def _require_paths(names: Iterable[str]) -> None:
    bad = next((name for name in names if not is_plain(name)), None)
    if bad is not None:
        raise InvalidObject(
            f"{bad} cannot be the name of a file, of which a path is made: "
            "it begins with a slash, or has empty, dot or escaped segments"
        )
