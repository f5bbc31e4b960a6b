"""Shipped test tools: whole facilities, single units of them, and what stands in for others.

``box``
    a whole facility as a context manager;
``units``, ``processes``, ``postgres``
    some units of a plan, each started, killed and asked by itself, and their databases;
``issuer``, ``https``, ``pki``
    an issuer that signs anything, servers and authorities of a test's own;
``proxy``, ``quirks``
    proxies before real servers: with faults, or as storage of other families behaves;
``faults``, ``reporter``
    services that misbehave on purpose;
``small``, ``scratch``, ``wait``, ``corpus``
    a small facility, a place and ports for it, waiting for it, and bytes whose checksum begins with zeros.
"""

from __future__ import annotations
