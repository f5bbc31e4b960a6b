"""The doors of caches that give what one group may read: to machines of a network, or to who shows the group's claim.

Neither looks at the paths of a token's scopes. What may be given is a list of directories (``docs/topics/caches.md``),
which holds three times: the cache exports no other paths, its rules open no other paths, and the token with which it
reads is for no other paths.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from boathouse.facility.caches import group_paths
from boathouse.facility.model import Cache
from boathouse.plan.model import File
from boathouse.plan.service import Context
from boathouse.services.xrootd import Door

# A token in the header is not looked at, and not handed on: the element would judge the cold read by it.
# Addresses one by one: patterns are compared with the names that a name server gives for them.
_BY_NETWORK = """\
acc.authdb {rules}
{allowed}
"""

# Over https none gets in: a token that the server sees there goes on to the element, which would judge by its scopes,
# or to a federation, which it is none of the business of.
_BY_CLAIM = """\
xrootd.seclib libXrdSec.so
sec.protocol ztn
sec.protbind * only ztn
ofs.authlib ++ libXrdAccSciTokens.so config={scitokens}
acc.authdb {rules}
"""

_SCITOKENS = """\
[Global]
audience = {audience}
onmissing = passthrough

[Issuer facility]
issuer = {issuer}
base_path = /
authorization_strategy = group
"""


def paths_at_elements(context: Context, cache: Cache) -> dict[str, tuple[str, ...]]:
    """By RSE, the directories that a cache of mode ``group`` gives, without slashes at their ends."""
    return {
        rse: tuple(f"{element.prefix.rstrip('/')}/{path}" for path in group_paths(context.facility, cache))
        for rse, element in context.facility.storage.items()
    }


def door(context: Context, unit: str, name: str, *, exports: Iterable[str], care: str) -> Door:
    """Who gets into a cache of mode ``group``.

    Args:
        context: who the issuer is, where files lie.
        unit: the cache's unit.
        name: the cache.
        exports: what it gives, directories without slashes at their ends.
        care: the section of ``scitokens.cfg`` for the care of caches.
    """
    cache = context.facility.caches[name]
    rules = context.config(unit, "authdb")
    if cache.networks:
        # The own machine asks whether the cache is well; over loopback it comes from one address.
        own = (context.addresses[f"{name}.https"], "127.0.0.1")
        addresses = (str(address) for network in cache.networks for address in ipaddress.IPv4Network(network))
        allowed = "\n".join(f"xrd.allow host {address}" for address in dict.fromkeys((*own, *addresses)))
        return Door(_BY_NETWORK.format(rules=rules, allowed=allowed), (File(rules, _rules("u *", exports)),))
    assert cache.group is not None
    return claim_door(context, unit, name, {context.facility.group_path(cache.group): exports}, care=care)


def claim_door(context: Context, unit: str, name: str, readers: Mapping[str, Iterable[str]], *, care: str = "") -> Door:
    """The door for those whose token for this server names a group: whatever else it says, the group decides.

    Args:
        context: who the issuer is, where files lie.
        unit: the cache's unit.
        name: the cache.
        readers: by group, as tokens name it, the directories that its members may read, without slashes at their ends.
        care: the section of ``scitokens.cfg`` for the care of caches.
    """
    rules, scitokens = context.config(unit, "authdb"), context.config(unit, "scitokens.cfg")
    text = _SCITOKENS.format(audience=context.addresses[f"{name}.https"], issuer=context.issuer)
    return Door(
        _BY_CLAIM.format(scitokens=scitokens, rules=rules),
        (
            File(scitokens, text + care),
            File(rules, "".join(_rules(f"g {group}", paths) for group, paths in readers.items())),
        ),
    )


def _rules(whom: str, exports: Iterable[str]) -> str:
    """Rules of XRootD's own authorization: read and look up below these directories.

    With a slash at their ends: a rule opens every path that begins so.
    """
    return " ".join((whom, *(f"{path}/ rl" for path in exports))) + "\n"
