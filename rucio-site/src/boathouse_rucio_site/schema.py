"""Shapes of names and requests: Rucio's generic ones, with names that are safe as paths.

Rucio loads this module with its policy package. Its schemas refer to one another by name, so that what is replaced
here holds in all that embeds it: DIDs, replicas, attachments, collections.
"""

from __future__ import annotations

from typing import Any

from rucio.common.schema import generic
from rucio.common.schema.generic import *  # noqa: F403 - Rucio reads the names from here
from rucio.common.schema.schema_ref import SchemaRef

from boathouse_rucio_site.paths import SEGMENT

# \Z, since $ would let a line break pass.
_PATH = rf"(?=[A-Za-z0-9]){SEGMENT}(/{SEGMENT})*\Z"
FILE_NAME: dict[str, Any] = {**generic.NAME, "pattern": rf"^{_PATH}"}
"""A file's name is a path below its scope's directory: segments ``.``, ``..`` and empty ones would leave it."""
NAME: dict[str, Any] = {**generic.NAME, "pattern": rf"^/?{_PATH}"}
"""A name of anything. Requests seldom tell files from collections, which may begin with a slash: see :mod:`.naming`."""
SCOPE: dict[str, Any] = {
    **generic.SCOPE,
    "pattern": r"^(?!\.{1,2}\Z)(?!(user|group).*(\.\.|\.\Z))[a-zA-Z_\-.0-9]+\Z",
}
"""A scope is a directory; the dots of users' and groups' scopes become slashes."""
RULE: dict[str, Any] = {
    **generic.RULE,
    "properties": {
        **generic.RULE["properties"],
        "dids": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"scope": SchemaRef("SCOPE"), "name": SchemaRef("NAME")},
                "required": ["scope", "name"],
            },
        },
    },
}
ADD_REPLICA_FILE, DELETE_REPLICA_FILE = (
    {**stock, "properties": {**stock["properties"], "name": SchemaRef("FILE_NAME")}}
    for stock in (generic.ADD_REPLICA_FILE, generic.DELETE_REPLICA_FILE)
)
SCHEMAS: dict[str, Any] = {**generic.SCHEMAS, "name": NAME, "scope": SCOPE, "rule": RULE}
