"""Our path algorithm against Rucio's own, from the catalogue's environment."""

from __future__ import annotations

import json
import random
import string
import subprocess

from boathouse.lake.names import Did, hash_path
from boathouse.plan.service import Programs

COUNT = 10_000

RUCIO = """
import json, sys
from rucio.rse.translation import RSEDeterministicTranslation
hash_ = RSEDeterministicTranslation._RSEDeterministicTranslation__hash
print(json.dumps([hash_(scope, name, None, None, None) for scope, name in json.load(sys.stdin)]))
"""


def test_a7_ten_thousand_random_names_get_the_same_path(programs: Programs) -> None:
    source = random.Random(7)
    letters = string.ascii_letters + string.digits
    scopes = ("cms", "magic", "user.alice", "user.bob.x", "group.top", "userdata", "a.b", "CMS_INFN")
    names = [
        Did(
            source.choice(scopes),
            source.choice(letters) + "".join(source.choices(letters + ".-_", k=source.randrange(120))),
        )
        for _ in range(COUNT)
    ]
    done = subprocess.run(
        [programs.rucio_python, "-c", RUCIO],
        input=json.dumps([(did.scope, did.name) for did in names]),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [hash_path(did) for did in names]
