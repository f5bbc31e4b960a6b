"""How full the RSEs are, as the facility measures it: the usage of source ``storage``.

Clients choose by what is free there; ``rucio rse show`` and ``boathouse ls --rses`` show it. The facility's file::

    {"CNAF-STORM": {"used_bytes": 1000, "free_bytes": 19999999000, "files": 3}, …}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rucio.common.constants import DEFAULT_VO
from rucio.common.exception import RSENotFound
from rucio.core import rse
from rucio.daemons.common import HeartbeatHandler
from rucio.db.sqla.constants import DatabaseOperationType
from rucio.db.sqla.session import db_session

SOURCE = "storage"


class Recorder:
    """One round a call: what has changed in the file goes into the catalogue.

    Args:
        path: of the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._recorded: dict[str, Any] = {}

    def __call__(self, heartbeat: HeartbeatHandler) -> None:
        """Read and record.

        Raises:
            ValueError: the file is damaged.
        """
        heartbeat.live()
        try:
            measured: Mapping[str, Mapping[str, int]] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        changed = {name: space for name, space in measured.items() if self._recorded.get(name) != space}
        if not changed:
            return
        with db_session(DatabaseOperationType.WRITE) as session:
            for name, space in changed.items():
                try:
                    rse_id = rse.get_rse_id(rse=name, vo=DEFAULT_VO, session=session)
                except RSENotFound:
                    # The catalogue is told of a new RSE when its server starts again: the next round finds it.
                    continue
                rse.set_rse_usage(
                    rse_id, SOURCE, space["used_bytes"], space["free_bytes"], files=space["files"], session=session
                )
                self._recorded[name] = space
