"""The token issuer: OpenID Connect and WLCG profile 1.3.

``protocol`` speaks with clients, ``pages`` with people, ``api`` with programs of administrators; ``admin`` is what the
last two may do. ``rights`` decides, ``signing`` has the keys, ``upstream`` lets people sign in elsewhere, ``trail``
records, ``persistence`` keeps. ``app`` puts them together, ``web`` carries a request through them.
"""
