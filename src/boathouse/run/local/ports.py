"""Ports: chosen once, kept in the state directory, checked before anything starts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from boathouse.errors import HostError
from boathouse.plan.model import PortRequest
from boathouse.run.local.state import write_public

# Below the range from which Linux takes ports for outgoing connections, so that none is taken from under us.
_FIRST, _LAST = 20_000, 31_999


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def load(path: Path) -> dict[str, int]:
    """The ports chosen earlier, by key; empty if none were."""
    try:
        return {str(key): int(port) for key, port in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}


def choose(requests: Iterable[PortRequest], kept: Mapping[str, int], *, seed: int) -> dict[str, int]:
    """A port for every request: the one asked for, the one kept, or a free one.

    Args:
        requests: what the services want.
        kept: ports from an earlier run.
        seed: where to begin looking, so that facilities on one machine do not contend for the same ports.
    """
    chosen: dict[str, int] = {}
    taken: set[int] = set()
    waiting: list[PortRequest] = []
    own: list[PortRequest] = []
    followers: list[PortRequest] = []
    for request in requests:
        (followers if request.same_as else own).append(request)
    addresses = {request.key: [request.address] for request in own}
    for follower in followers:
        addresses[follower.same_as].append(follower.address)
    for request in own:
        port = request.wanted or kept.get(request.key)
        if port is None:
            waiting.append(request)
        else:
            chosen[request.key] = port
            taken.add(port)
    span = _LAST - _FIRST + 1
    candidate = seed % span
    for request in waiting:
        for _ in range(span):
            port = _FIRST + candidate
            candidate = (candidate + 1) % span
            if port not in taken and all(is_free(address, port) for address in addresses[request.key]):
                chosen[request.key] = port
                taken.add(port)
                break
        else:
            raise HostError("no free port", expected=f"one of {_FIRST} to {_LAST}", where=request.address)
    return chosen | {follower.key: chosen[follower.same_as] for follower in followers}


def check_free(requests: Iterable[PortRequest], ports: Mapping[str, int]) -> tuple[HostError, ...]:
    """One error for every port that another program holds."""
    return tuple(
        HostError(
            f"port {ports[request.key]} is in use by another program",
            where=f"{request.address}, wanted for {request.key}",
            remedy=f"find it with `ss -ltnp sport = :{ports[request.key]}` and stop it, "
            "or set another port in the facility file",
        )
        for request in requests
        if not is_free(request.address, ports[request.key])
    )


def save(path: Path, ports: Mapping[str, int]) -> None:
    """Keep the choice."""
    write_public(path, json.dumps(dict(ports), indent=2) + "\n")
