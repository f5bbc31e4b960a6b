"""Put a result back into the lake, with its lineage.

A result goes into a dataset. Its content hash stands in the dataset's metadata: the same content is found there and
nothing is uploaded twice; other content goes into the next version, ``NAME.v2``, ``NAME.v3`` and so on, and what was
published stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from boathouse.errors import ConflictError, InputError
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.lake.progress import Progress
from boathouse.plan.model import Endpoints
from boathouse.results import record

DEFAULT_QOS = "CHEAP-ANALYSIS"

_MAX_VERSIONS = 1000
_COMPLETE = "complete"


@dataclass(frozen=True)
class Published:
    """Where a result is in the lake."""

    dataset: Did
    files: tuple[Did, ...]
    outcome: Literal["published", "present"]
    """``present``: the same content was there already, and nothing was uploaded."""
    content: str


def publish(
    lake: Lake, directory: Path, to: Did, *, qos: str = DEFAULT_QOS, progress: Progress | None = None
) -> Published:
    """Publish a result directory.

    Interrupted and run again, it goes on with the same version.

    Args:
        lake: the lake.
        directory: what :func:`boathouse.results.write.write` made.
        to: the dataset, for the first version.
        qos: label of the storage that keeps it.
        progress: told of bytes and files.

    Raises:
        InputError: the directory is not a result, or was altered; ``to`` is its input; no storage has this label.
        CatalogueError: the catalogue refused something.
        StorageError: an upload failed.
    """
    document = record.load(directory)
    if document["inputs"]["dataset"] == str(to):
        raise InputError(
            "a result does not go into the dataset that it was made from",
            expected="another dataset",
            got=str(to),
            remedy="name another one with --to DID",
        )
    require_qos(lake.endpoints, qos)
    content = str(document["content"])
    dataset, complete = _version(lake, to, content)
    if complete:
        there = tuple(info.did for info in lake.catalogue.content(dataset))
        return Published(dataset, there, "present", content)
    names = _names(document, dataset)
    about = lineage(document)
    lake.catalogue.ensure_dataset(dataset)
    lake.set_metadata(dataset, {**about, "state": "publishing"})
    put = lake.put(
        [directory / name for name in names],
        scope=dataset.scope,
        dataset=dataset,
        rse_expression=f"QOS={qos}",
        names={str(directory / name): did_name for name, did_name in names.items()},
        metadata=about,
        progress=progress,
    )
    lake.set_metadata(dataset, {"state": _COMPLETE})
    return Published(dataset, tuple(result.did for result in put), "published", content)


def require_qos(endpoints: Endpoints, qos: str) -> None:
    """Check that there is storage of a quality of service.

    Raises:
        InputError: there is none.
    """
    labels = sorted({storage.qos for storage in endpoints.storage})
    if qos not in labels:
        default = ", which is the default" if qos == DEFAULT_QOS else ""
        raise InputError(
            f"{endpoints.facility} has no storage of this quality of service",
            expected=f"one of {', '.join(labels)}" if labels else "storage",
            got=f"{qos}{default}",
            remedy="name one with --qos LABEL",
        )


def lineage(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the metadata of each published DID says: content, inputs, code and environment.

    None of these names is one of the catalogue's own columns (``RESERVED_KEYS`` of Rucio, ``events`` and the like).
    """
    inputs, code = document["inputs"], document["code"]
    return {
        "content": document["content"],
        "record_sha256": document["sha256"],
        "input_dataset": inputs["dataset"],
        "inputs_sha256": inputs["sha256"],
        "inputs": {file["did"]: file["adler32"] for file in inputs["files"]},
        "code": code["file"],
        "code_sha256": code["sha256"],
        "code_commit": code.get("commit"),
        "environment": document["environment"],
        "events_read": document["events"]["read"],
        "cutflow": document["events"]["cutflow"],
    }


def _version(lake: Lake, to: Did, content: str) -> tuple[Did, bool]:
    """The first version that has this content or nothing yet, and whether it is complete."""
    for number in range(1, _MAX_VERSIONS):
        dataset = to if number == 1 else Did(to.scope, f"{to.name}.v{number}").checked()
        if dataset not in lake.catalogue.known([dataset]):
            return dataset, False
        known = lake.metadata(dataset)
        if known.get("content") == content:
            return dataset, known.get("state") == _COMPLETE
        if "content" not in known and not any(True for _ in lake.catalogue.content(dataset)):
            return dataset, False
    raise ConflictError("too many versions of one result", where=str(to), remedy="choose another name")


def _names(document: Mapping[str, Any], dataset: Did) -> dict[str, str]:
    """DID name by file name. A record carries its hash: two runs may publish one content, but not one record."""
    stem = dataset.name.removeprefix("/")
    names = {name: f"{stem}.{name}" for name in document["result"]}
    return {**names, record.FILE_NAME: f"{stem}.record-{document['sha256'][:8]}.json"}
