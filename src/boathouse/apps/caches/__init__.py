"""The care of caches: what passed through them, what leaves them, whether what they keep is right.

XCache says itself what happened to a file once its last reader has closed it (the g-stream ``pfc``, JSON over UDP on
loopback)::

    cache ─(datagram)→ collector → ledger ←─ routes ← people, Prometheus
                                     ↑          ↓
                           scrubber ─┴───→ evictor ─(XRootD protocol)→ cache

``ledger`` is the only module that writes the database, ``evictor`` the only one that makes a cache forget.
"""

from __future__ import annotations
