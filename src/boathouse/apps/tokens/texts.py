"""What comes from outside as text: JSON objects, and characters that no table and no page can hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from boathouse.errors import InputError


def storable(text: str) -> bool:
    """Whether a table can hold a text: no zero character, and no half of a surrogate pair (RFC 8259, 8.2)."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def json_object(body: bytes, content_type: str, kinds: Sequence[str]) -> dict[str, Any]:
    """The JSON object in the body of a request.

    Args:
        body: as it came.
        content_type: of the request; parameters behind a semicolon do not matter.
        kinds: content types that are welcome.

    Raises:
        InputError: there is none, or one of its texts cannot be kept.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in kinds:
        raise InputError(f"the body must be {' or '.join(kinds)}", got=kind[:80] or "no content type")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is not JSON", expected="a JSON object") from error
    if not isinstance(found, dict):
        raise InputError("the body is not a JSON object", got=type(found).__name__)
    if not _holds_storable(found):
        raise InputError("a text holds a zero character or half a character")
    return found


def _holds_storable(document: object) -> bool:
    """Whether all texts of a document can be kept; without recursion, for it may be deep."""
    left: list[object] = [document]
    while left:
        one = left.pop()
        if isinstance(one, str) and not storable(one):
            return False
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one
    return True
