"""The smallest facility with one of each thing: enough where only starting, stopping and checking are looked at."""

from __future__ import annotations

from typing import Any

import yaml

TEXT = """\
name: small
vo: escape
sites:
  CNAF:
    storage:
      CNAF-STORM: {qos: FAST}
    caches:
      CNAF-XCACHE: {upstreams: [CNAF-STORM]}
groups:
  cms: {}
users:
  alice: {groups: [cms]}
scopes:
  cms: {group: cms}
"""


def small(**changes: object) -> dict[str, Any]:
    """Its document, a new one each time, with these keys added or replaced."""
    return {**yaml.safe_load(TEXT), **changes}
