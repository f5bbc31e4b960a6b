"""Tests of the site package, run inside Rucio's environment by ``tests/services/rucio/test_site_package.py``.

Rucio reads its configuration while it is imported, so there is one before the first test module.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

SETTINGS = """\
[common]
logdir = {directory}
[database]
default = postgresql+psycopg://nobody@/nothing?host={directory}
[policy]
package = boathouse_rucio_site
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash
[cache]
url = 127.0.0.1:9
[oidc]
idpsecrets = {directory}/idpsecrets.json
admin_issuer = facility
expected_audience = rucio
expected_scope = openid profile
[conveyor]
transfertool = boathouse
"""

IDENTITY_PROVIDERS = {
    "facility": {"issuer": "https://issuer.example.org", "client_id": "rucio", "client_secret": "not-a-secret"}
}

_directory = tempfile.TemporaryDirectory(prefix="bh-site-")
_path = Path(_directory.name)
(_path / "rucio.cfg").write_text(SETTINGS.format(directory=_path))
(_path / "idpsecrets.json").write_text(json.dumps(IDENTITY_PROVIDERS))
os.environ["RUCIO_CONFIG"] = str(_path / "rucio.cfg")

# Elsewhere there is nothing to import.
collect_ignore_glob = [] if find_spec("rucio") else ["test_*.py"]
if find_spec("rucio"):
    importlib.import_module("boathouse_rucio_site.patches").apply()
