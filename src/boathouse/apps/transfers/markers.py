"""The body of a COPY answer: performance markers, then one line that tells the outcome.

The HTTP status of a third-party copy only says that it began. The form of the body is the WLCG's agreement on HTTP
third-party copy::

    Perf Marker
    Timestamp: 1795199517
    Stripe Index: 0
    Stripe Bytes Transferred: 238745
    Total Stripe Count: 1
    RemoteConnections: tcp:127.0.1.11:20501
    End
    success: Created
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Progress:
    """What the body said so far. Feed it lines; ask it afterwards."""

    outcome: str | None = None
    """The final line, verbatim; none while the copy goes on, or when the stream broke."""
    connections: str = ""
    """The last ``RemoteConnections``, verbatim: who was really connected."""
    markers: int = 0
    """Complete markers so far."""
    _stripes: dict[int, int] = field(default_factory=dict)
    _stripe: int = 0

    @property
    def transferred_bytes(self) -> int:
        """Bytes that arrived at the destination, over all stripes."""
        return sum(self._stripes.values())

    @property
    def succeeded(self) -> bool:
        """Whether the destination says that the copy is complete."""
        return self.outcome is not None and self.outcome.lower().startswith("success")

    def feed(self, line: str) -> None:
        """Take the next line, with or without its line end. Unknown lines are no fault: servers add their own."""
        text = line.strip()
        key, separator, value = text.partition(":")
        match key.strip().lower():
            case "stripe index":
                self._stripe = _number(value, self._stripe)
            case "stripe bytes transferred":
                self._stripes[self._stripe] = _number(value, self._stripes.get(self._stripe, 0))
            case "remoteconnections" | "remote connections":
                self.connections = value.strip()
            case "end" if not separator:
                self.markers += 1
            case "success" | "failure" | "aborted" | "error":
                self.outcome = text


def _number(text: str, otherwise: int) -> int:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() else otherwise
