"""``python -m boathouse.cli``: the command, for a launcher that must not depend on a script's first line."""

from __future__ import annotations

from boathouse.cli.main import main

main()
