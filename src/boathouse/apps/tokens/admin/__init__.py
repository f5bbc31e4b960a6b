"""Administration as plain functions: people, groups, requests, policies, clients, and what is given out. No HTTP.

Every function takes a :class:`~boathouse.apps.tokens.admin.desk.Desk` first: who acts, in which transaction, from
which address and for what reason::

    desk = Desk(call.store, Actor.person(session.user), reason=call.value("reason"), address=call.address)
    users.disable(desk, "bob")
    groups.add_member(desk, "/escape/cms", "bob", until=1_800_000_000)
    requests.approve(desk, request_id)
    policies.add(desk, "DENY", "storage.read:/lake/secret", group="/escape/cms")
    secret = clients.new_secret(desk, "mover")
    grants.revoke_client(desk, "boathouse")

A function checks the right to do it (administrator; manager, for the own group; oneself), changes the rows and puts a
record of the change on the desk's store; ``web`` appends these to the audit chain in the same transaction, so that no
change is without its record. Where nothing has to change, nothing is recorded. Results are frozen dataclasses with
``as_dict()``; times are whole seconds since the epoch.

Errors, after which nothing was changed:

- ``AuthError``: the actor has no right to do it;
- ``InputError``: a value is malformed;
- ``NotFoundError``: no such person, group, request, policy or client;
- ``ConflictError``: it exists already, or belongs to the facility file, which alone may change it (``remedy`` says so).
"""

from __future__ import annotations
