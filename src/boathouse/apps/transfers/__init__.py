"""The transfer service: FTS3 REST on the wire, HTTP third-party copy underneath, its state in PostgreSQL.

No byte of a file passes through it. A job goes this way::

    routes → submission → store ─(NOTIFY)→ worker → copier → storage
                            ↑                 ↓
                          views           recorder

``store`` and ``queue`` are the only modules that write to the database; ``storage`` is the only one that talks to
storage elements; ``copier`` decides what the answers mean.
"""

from __future__ import annotations
