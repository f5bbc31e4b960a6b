"""A76: caches before a lake of somebody else's. The table of docs/topics/caches.md, asked of a real cache."""

from __future__ import annotations

import json
import socket
import uuid
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from boathouse.run.local import files
from boathouse.run.local.state import write_atomically
from boathouse.testing.wait import wait_for

from .federation import ADDRESS, CACHES, GRID_SERVER, SERVER, federation

PAGE = Path(__file__).parents[3] / "docs" / "topics" / "caches.md"
DIRECTORIES = ("/store/mc", "/store/cms", "/store/magic", "/store/other")
"""What the columns of the table are of: everybody's, a group's, an embargoed group's, nobody's."""
ANYWHERE = "storage.read:/"


@pytest.fixture(scope="module")
def near(programs):
    with federation(programs) as made:
        yield made


def table() -> dict[str, tuple[bool, ...]]:
    """Whether a file of each column is given, by who asks."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head = next(line for line in lines if line[0] == "who reads")
    rows = [line for line in lines[lines.index(head) + 1 :] if len(line) == len(head)]
    return {row[0]: tuple(cell == "yes" for cell in row[1:]) for row in rows}


def shown(near, who: str) -> str | None:
    """The token of a row."""
    cms = {"wlcg.groups": ["/escape", "/escape/cms"]}
    return {
        "a token that names the group `cms`": lambda: near.token("openid", *CACHES, **cms),
        "a token that names the group `magic`": lambda: near.token(
            "openid", *CACHES, **{"wlcg.groups": ["/escape", "/escape/magic"]}
        ),
        "a token that names the VO alone": lambda: near.token("openid", *CACHES, **{"wlcg.groups": ["/escape"]}),
        "a token that names other groups": lambda: near.token(
            "openid", *CACHES, **{"wlcg.groups": ["/escapes", "/escape/cms2", "/escape/cms/magic", "/store/cms"]}
        ),
        "a token for all paths that names no group": lambda: near.token(ANYWHERE, *CACHES),
        "a token for another server": lambda: near.token("openid", "NORTH-DISK", **cms),
        "a token that has ended": lambda: near.token("openid", *CACHES, life_s=-5, **cms),
        "a token signed by somebody else": lambda: near.token(
            "openid", *CACHES, key=ECKey.generate_key("P-256", {"kid": near.key.kid}), **cms
        ),
        "a token that the federation takes": lambda: near.lake.token(
            ANYWHERE, SERVER, aud=[ADDRESS, *near.audience(*CACHES)], **cms
        ),
        "no token": lambda: None,
    }[who]()


def place(near) -> dict[str, bytes]:
    """A new file in each of the directories: content by path."""
    made = {f"{directory}/{uuid.uuid4().hex}": uuid.uuid4().hex.encode() for directory in DIRECTORIES}
    for path, content in made.items():
        near.lake.put(SERVER, path, content)
    return made


@pytest.fixture(scope="module")
def kept(near) -> dict[str, bytes]:
    """Files of which the cache has whole copies, also of what it gives to nobody, as after a change of the table."""
    made = place(near)
    groups = {"wlcg.groups": ["/escape", "/escape/cms", "/escape/magic"]}
    for path, content in made.items():
        copy = near.data("cache-by-client") / path.lstrip("/")
        if path.startswith(DIRECTORIES[3]):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        else:
            assert read(near, path, near.token("openid", *CACHES, **groups)) == content
            wait_for("it is kept", partial(holds, copy, content), timeout_s=120)
    return made


def holds(copy: Path, content: bytes) -> bool:
    return copy.exists() and copy.read_bytes()[: len(content)] == content


def read(near, path: str, token: str | None, cache: str = CACHES[0]) -> bytes | None:
    """What a cache gives over the XRootD protocol."""
    done = near.client("xrdcp", "-s", near.address(path, cache=cache), "-", token=token)
    return done.stdout.encode() if done.returncode == 0 else None


@pytest.mark.parametrize("row", table().items(), ids=lambda row: row[0])
def test_a76_the_table_of_rights(near, kept, row) -> None:
    """Of files that nobody has read yet, and of those that the cache has; over https nothing is given."""
    who, answers = row
    token = shown(near, who)
    for files_of in (place(near), kept):
        given = tuple(read(near, path, token) == content for path, content in files_of.items())
        assert given == answers
        for path, content in files_of.items():
            answer = near.http("GET", near.address(path, "https"), token)
            assert answer.status in {403, 404}
            assert content not in answer.body


@pytest.fixture
def member(near) -> str:
    return near.token("openid", *CACHES, **{"wlcg.groups": ["/escape", "/escape/cms"]})


def test_a76_the_federation_takes_another_credential_than_the_readers(near, member) -> None:
    """It refuses what readers show to the cache, and the cache shows it something else."""
    path, content = next((path, content) for path, content in place(near).items() if "/cms/" in path)
    everything = near.token(ANYWHERE, aud=[ADDRESS], **{"wlcg.groups": ["/escape/cms"]})
    there = f"roots://{near.lake.server(SERVER)}/{path}"
    for token in (member, everything):
        assert near.lake.http("GET", near.lake.url(SERVER, path), token).status == 403
        assert near.lake.client("xrdcp", "-s", there, "-", token=token).returncode != 0
    for cache in CACHES[:2]:
        assert read(near, path, member, cache) == content
        credential = near.credential(cache)
        assert credential.stat().st_mode & 0o777 == 0o600
        shown_there = near.lake.client("xrdcp", "-s", there, "-", token=credential.read_text())
        assert shown_there.stdout.encode() == content
    assert near.lake.issuer.requests[0] == {
        "client": "site", "grant_type": "client_credentials", "audience": ADDRESS, "scope": ANYWHERE,
    }  # fmt: skip


def test_a76_a_services_proxy_opens_a_lake_that_takes_no_tokens(near, member) -> None:
    """As CMS's AAA does: X.509 between the two servers, tokens for people."""
    made = {f"{directory}/{uuid.uuid4().hex}": uuid.uuid4().hex for directory in DIRECTORIES}
    for path, content in made.items():
        file = near.lake.data("se-far-grid") / path.lstrip("/")
        files.make_directory(file.parent, near.lake.state.account)
        write_atomically(file, content, near.lake.state.account, mode=0o600)
    for _ in ("not kept", "kept"):
        given = [read(near, path, member, "BY-PROXY") for path in made]
        assert given == [*(content.encode() for content in list(made.values())[:2]), None, None]
    path = next(iter(made))
    for token in (member, near.lake.token(ANYWHERE)):
        assert near.lake.client(
            "xrdcp", "-s", f"roots://{near.lake.server(GRID_SERVER)}/{path}", "-", token=token
        ).returncode
    done = near.client("xrdcp", "-f", "-d", "3", near.address(path, cache="BY-PROXY"), "-", token=member)
    assert made[path] in done.stdout
    lines = near.credential("BY-PROXY").read_text().splitlines()
    assert len(lines) > 50
    told = done.stdout + done.stderr + near.log("cache-by-proxy") + near.log("keeper")
    assert not any(line in told for line in lines if not line.startswith("-"))


def test_a76_readers_never_see_the_credential(near, member) -> None:
    """Nor does anybody who reads logs or the plan; and the cache's log does not have the readers' tokens either."""
    made = place(near)
    open_to, embargoed = (next(path for path in made if f"/{group}/" in path) for group in ("cms", "magic"))
    server = near.address("").rstrip("/")
    heard = [
        near.client("xrdcp", "-d", "3", near.address(open_to), "-", token=member),
        near.client("xrdcp", "-d", "3", near.address(open_to), "-", token=member),
        near.client("xrdcp", "-d", "3", near.address(embargoed), "-", token=member),
        near.client("xrdcp", "-d", "3", near.address(f"{open_to}.missing"), "-", token=member),
        near.client("xrdfs", server, "stat", open_to, token=member),
        near.client("xrdfs", server, "locate", open_to, token=member),
        near.client("xrdfs", server, "query", "checksum", open_to, token=member),
        near.client("xrdfs", server, "query", "config", "role", token=member),
    ]
    assert [done.returncode == 0 for done in heard] == [True, True, False, False, True, True, True, True]
    near.lake.stop("se-far-disk")
    try:
        other = next(path for path in made if "/mc/" in path)
        heard.append(near.client("xrdcp", "-d", "3", near.address(other), "-", token=member))
        assert heard[-1].returncode != 0
        assert read(near, open_to, member) == made[open_to], "what it has whole, it gives without the federation"
    finally:
        near.lake.start("se-far-disk")
    wait_for("the cache reaches the federation again", lambda: read(near, other, member) == made[other], timeout_s=180)
    answers = [near.http("GET", near.address(path, "https"), member) for path in made]
    said = "".join(done.stdout + done.stderr for done in heard)
    said += "".join(answer.text + str(answer.headers) for answer in answers)
    assert said.count("kXR_open") >= 5, "the client tells of all that passes"
    told = said + near.log("cache-by-client") + near.log("keeper") + files.plan_document(near.plan)
    for part in near.credential(CACHES[0]).read_text().split("."):
        assert part not in told
    assert member not in near.log("cache-by-client")


def test_a76_a_renewed_credential_is_shown_without_a_restart(near, member) -> None:
    """On new connections: XRootD's client shows it once, when it connects, for each connection of a reader."""
    cache, made = "BY-FILE", place(near)
    first, second = (path for path in made if path.startswith(DIRECTORIES[:2]))

    def show(life_s: float) -> str:
        token = near.lake.token(ANYWHERE, SERVER, life_s=life_s)
        near.show(token)
        wait_for("the cache has the token", lambda: near.credential(cache).read_text() == token)
        return token

    def shown_alone(life_s: float) -> str:
        token = show(life_s)
        near.stop("cache-by-file")
        near.start("cache-by-file")
        return token

    # On a busy machine a short one ends before it is used.
    lives_s = (6, 30, 90, 300)
    used = (token for life_s in lives_s if (token := shown_alone(life_s)) and read(near, first, member, cache))
    old = next(used, None)
    assert old, "the cache reads with none of them"
    there = near.lake.url(SERVER, second)
    wait_for("the old one has ended", lambda: near.lake.http("GET", there, old).status == 403, timeout_s=400)
    assert read(near, second, member, cache) is None
    assert read(near, first, member, cache) == made[first], "what it has, it gives to whom the table says"
    show(600)
    with ExitStack() as stack:
        # The cache tells its readers apart by descriptors: with these taken, the next one is a new reader to it.
        for _ in range(20):
            stack.enter_context(
                socket.create_connection((near.context.addresses[f"{cache}.root"], near.context.ports[f"{cache}.root"]))
            )
        shows = partial(read, near, second, member, cache)
        wait_for("the cache shows the new one", lambda: shows() == made[second], timeout_s=180)


def test_a_fault_of_a_credential_is_told_and_stops_nothing_else(near, member) -> None:
    """A token of the facility's own in that file, say: no federation is ever shown one."""
    kept_before = near.credential("BY-FILE").read_text()
    report = near.context.run("keeper") / "report.json"

    def told() -> str:
        document = json.loads(report.read_text())
        assert document["ok"], document
        return document["detail"]

    near.show(near.token(ANYWHERE, aud=[ADDRESS]))
    wait_for("the keeper tells of it", lambda: "credential of by-file" in told() and "this facility" in told())
    assert near.credential("BY-FILE").read_text() == kept_before
    near.show(near.lake.token(ANYWHERE, SERVER))
    wait_for("it is right again", lambda: "credential" not in told())
    path, content = next(iter(place(near).items()))
    assert read(near, path, member) == content


def test_a52_no_way_of_writing_a_path_leads_to_what_is_embargoed(near, kept, member) -> None:
    path = next(path for path in kept if path.startswith("/store/magic/"))
    file = path.rpartition("/")[2]
    for form in (
        f"/store/cms/../magic/{file}",
        f"/store/cms/%2e%2e/magic/{file}",
        f"/store/cms/./../magic/{file}",
        f"//store//magic//{file}",
        f"/store/cms/../../store/magic/{file}",
        f"/roots:/{near.lake.server(SERVER)}{path}",
        f"/roots://{near.lake.server(SERVER)}/{path}",
    ):
        assert read(near, form, member) is None, form
        for answer in (near.http("GET", near.address(form, "https"), token) for token in (member, None)):
            assert answer.status in {400, 403, 404}, form
            assert kept[path] not in answer.body


def test_a76_nothing_is_written_through_the_cache(near, kept, member) -> None:
    path = next(path for path in kept if path.startswith("/store/cms/"))
    server = near.address("").rstrip("/")
    for command in (("rm", path), ("mkdir", "/store/cms/new"), ("truncate", path, "0")):
        assert near.client("xrdfs", server, *command, token=member).returncode != 0
    for verb in ("PUT", "DELETE", "MKCOL"):
        assert near.http(verb, near.address(path, "https"), member, b"x" if verb == "PUT" else None).status >= 400
    theirs = near.lake.token(ANYWHERE, SERVER)
    assert near.lake.http("GET", near.lake.url(SERVER, path), theirs).body == kept[path]


def test_a_token_in_a_url_goes_on_to_the_federation_which_refuses_it(near, member) -> None:
    """Why https is closed, and why readers leave tokens out of URLs."""
    path, content = next((path, content) for path, content in place(near).items() if "/cms/" in path)
    query = f"?authz=Bearer%20{member}"
    assert near.http("GET", near.address(path + query, "https")).status == 403
    assert read(near, path + query, member) is None
    assert read(near, path, member) == content
