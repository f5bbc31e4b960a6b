"""The tables of requests in ``docs/topics/storage.md``: every server of the boxes answers each of them as they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from boathouse.services.xcache import unit_name

from .conftest import Box
from .doors import CACHES, CHAIN, DOORS, Door, say, servers
from .roots import Roots

PAGE = Path(__file__).parents[3] / "docs" / "topics" / "storage.md"
READ = "storage.read:/lake/cms"
OPEN, SECRET = b"anybody of cms may read this", b"only magic may read this"


@dataclass(frozen=True)
class Scene:
    """A place of a box with something to read and something to protect, seen through one door."""

    box: Box
    door: Door
    place: str

    @property
    def open(self) -> str:
        return f"/lake/cms/{self.place}/open"

    @property
    def secret(self) -> str:
        return f"/lake/magic/{self.place}/secret"

    def token(self, scope: str = READ, **claims: object) -> str:
        """Good at all servers, so that only what a test changes decides."""
        return self.box.token(scope, *servers(self.box), **claims)

    def get(self, path: str | None = None, *headers: str, query: str = "", authorization: str | None = "") -> bytes:
        """A GET of a path of the element.

        Args:
            path: the open file's, if there is none.
            headers: further lines.
            query: what follows the path.
            authorization: the value of that header: a good token's if empty; no such line if there is none.
        """
        return self.request("GET", path, *headers, query=query, authorization=authorization)

    def request(
        self,
        method: str,
        path: str | None = None,
        *headers: str,
        query: str = "",
        authorization: str | None = "",
        version: str = "HTTP/1.1",
    ) -> bytes:
        target = self.door.path(self.box, self.open if path is None else path) + query
        lines = [f"{method} {target} {version}", "Host: x", "Connection: close", *headers]
        if authorization is not None:
            lines.append(f"Authorization: {authorization or f'Bearer {self.token()}'}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


Build = Callable[[Scene], bytes]


def bearing(**claims: object) -> Build:
    """A GET of the open file with a token that differs."""
    return lambda s: s.get(authorization=f"Bearer {s.token(**claims)}")


def asking(path: str, query: str = "") -> Build:
    """A GET with a good token; ``{place}`` stands for the scene's directory below ``/lake/cms`` and ``/lake/magic``."""
    return lambda s: s.get(path.replace("{place}", s.place), query=query)


def lacking(name: str) -> Build:
    """A GET of the open file with a token that lacks a claim."""

    def build(s: Scene) -> bytes:
        claims = json.loads(decoded(s.token().split(".")[1]))
        token = jwt.encode({"alg": "ES256", "kid": s.box.key.kid}, without(claims, name), s.box.key)
        return s.get(authorization=f"Bearer {token}")

    return build


def without(claims: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in claims.items() if key != name}


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def unsigned(s: Scene) -> bytes:
    head = encoded(json.dumps({"alg": "none"}).encode())
    return s.get(authorization=f"Bearer {head}.{s.token().split('.')[1]}.")


def confused(s: Scene) -> bytes:
    """What whoever mistakes the public key for a shared secret would accept."""
    head = encoded(json.dumps({"alg": "HS256", "kid": s.box.key.kid}).encode())
    signed = f"{head}.{s.token().split('.')[1]}"
    signature = hmac.new(s.box.key.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
    return s.get(authorization=f"Bearer {signed}.{encoded(signature)}")


def forged(s: Scene) -> bytes:
    key = ECKey.generate_key("P-256", {"kid": s.box.key.kid})
    return s.get(authorization=f"Bearer {s.token(key=key)}")


def widened(s: Scene) -> bytes:
    """The claims of one token under the signature of another."""
    head, _, signature = s.token().split(".")
    return s.get(authorization=f"Bearer {head}.{s.token('storage.read:/').split('.')[1]}.{signature}")


def bad(s: Scene) -> str:
    return s.token("storage.read:/lake/magic")


def moving(to: str, scope: str = "storage.read:/lake/cms storage.modify:/lake/cms") -> Build:
    """A MOVE of a new file to a path where, if there, it would replace another."""

    def build(s: Scene) -> bytes:
        for name in (f"{s.door.server}/there", "mine"):
            s.box.put(s.door.element, f"/lake/cms/{s.place}/{name}", name.encode())
        target = to.replace("{place}", f"{s.place}/{s.door.server}")
        return s.request(
            "MOVE",
            f"/lake/cms/{s.place}/mine",
            f"Destination: https://x{target}",
            "Overwrite: T",
            authorization=f"Bearer {s.token(scope)}",
        )

    return build


def writing(name: str) -> Build:
    """An empty PUT, with the scope for it, into a directory of its own."""
    return lambda s: s.request(
        "PUT",
        f"/lake/cms/{s.place}/{s.door.server}/{uuid.uuid4().hex}/{name}",
        "Content-Length: 0",
        authorization=f"Bearer {s.token('storage.modify:/lake/cms')}",
    )


TOKENS: dict[str, Build] = {
    "a good token": lambda s: s.get(),
    "no token": lambda s: s.get(authorization=None),
    "no scope": bearing(scope=""),
    "the scope of another directory": bearing(scope="storage.read:/lake/magic"),
    "the scope of a longer name, `/lake/cmsX`": bearing(scope="storage.read:/lake/cmsX"),
    "the scope of a shorter name, `/lake/cm`": bearing(scope="storage.read:/lake/cm"),
    "a scope for writing": bearing(scope="storage.modify:/lake/cms"),
    "a scope with `..`, `/lake/magic/../cms`": bearing(scope="storage.read:/lake/magic/../cms"),
    "ended 5 seconds ago": bearing(life_s=-5),
    "not valid before 2033": bearing(nbf=2_000_000_000, exp=2_000_000_600),
    "without an end, `exp`": lacking("exp"),
    "another audience": bearing(aud="https://elsewhere.example"),
    "no audience": lacking("aud"),
    "an address that begins like the server's": lambda s: s.get(
        authorization=f"Bearer {s.token(aud=s.box.audience(s.door.server)[0] + '0')}"
    ),
    "another issuer": bearing(iss="https://localhost:1"),
    "the issuer's address and a slash": lambda s: s.get(authorization=f"Bearer {s.token(iss=s.box.issuer.url + '/')}"),
    "`wlcg.ver` of 2.0": bearing(**{"wlcg.ver": "2.0"}),
    "`alg` none": unsigned,
    "signed with another key of the same name": forged,
    "signed with the public key as a secret, HS256": confused,
    "claims exchanged": widened,
    "not a token": lambda s: s.get(authorization="Bearer abc.def.ghi"),
    "a name and password": lambda s: s.get(authorization="Basic YWxpY2U6d29uZGVybGFuZA=="),
    "without the word Bearer": lambda s: s.get(authorization=s.token()),
    "`bearer` in small letters": lambda s: s.get(authorization=f"bearer {s.token()}"),
    "in the query, `authz=`": lambda s: s.get(query=f"?authz=Bearer%20{s.token()}", authorization=None),
    "in the query, `access_token=`": lambda s: s.get(query=f"?access_token={s.token()}", authorization=None),
    "good in the query, bad in the header": lambda s: s.get(
        query=f"?authz=Bearer%20{s.token()}", authorization=f"Bearer {bad(s)}"
    ),
    "bad in the query, good in the header": lambda s: s.get(query=f"?authz=Bearer%20{bad(s)}"),
    "bad and good in the query": lambda s: s.get(
        query=f"?authz=Bearer%20{bad(s)}&authz=Bearer%20{s.token()}", authorization=None
    ),
    "good and bad in the query": lambda s: s.get(
        query=f"?authz=Bearer%20{s.token()}&authz=Bearer%20{bad(s)}", authorization=None
    ),
    "two headers, good and bad": lambda s: s.get(
        None, f"Authorization: Bearer {s.token()}", authorization=f"Bearer {bad(s)}"
    ),
    "two headers, bad and good": lambda s: s.get(None, f"Authorization: Bearer {bad(s)}"),
    "of 2 kB": lambda s: s.get(authorization=f"Bearer {s.token(padding='x' * 700)}"),
    "of 400 kB": lambda s: s.get(authorization=f"Bearer {s.token(padding='x' * 300_000)}"),
    "of 4 MB": lambda s: s.get(authorization=f"Bearer {'x' * 4_000_000}"),
}

PATHS: dict[str, Build] = {
    "the neighbour `/lake/cmsX/open`": asking("/lake/cmsX/open"),
    "another directory's file": asking("/lake/magic/{place}/secret"),
    "another directory's file that is not there": asking("/lake/magic/{place}/none"),
    "its own file that is not there": asking("/lake/cms/{place}/none"),
    "the top, `/lake/`": asking("/lake/"),
    "`/lake/cms/../magic/secret`": asking("/lake/cms/../magic/{place}/secret"),
    "`/lake/cms/%2e%2e/magic/secret`": asking("/lake/cms/%2e%2e/magic/{place}/secret"),
    "`/lake/cms/.%2E/magic/secret`": asking("/lake/cms/.%2E/magic/{place}/secret"),
    "`/lake/cms/..%2fmagic/secret`": asking("/lake/cms/..%2fmagic/{place}/secret"),
    "`/lake/cms/%252e%252e/magic/secret`": asking("/lake/cms/%252e%252e/magic/{place}/secret"),
    "`/lake/cms/..%5cmagic/secret`": asking("/lake/cms/..%5cmagic/{place}/secret"),
    "`/lake/cms/..;/magic/secret`": asking("/lake/cms/..;/magic/{place}/secret"),
    "`/lake/cms//../magic/secret`": asking("/lake/cms//../magic/{place}/secret"),
    "`/lake/cms/./../magic/secret`": asking("/lake/cms/./../magic/{place}/secret"),
    "`/lake/cms/..%00/magic/secret`": asking("/lake/cms/..%00/magic/{place}/secret"),
    "`..` in overlong UTF-8, `%c0%ae%c0%ae`": asking("/lake/cms/%c0%ae%c0%ae/magic/{place}/secret"),
    "`/` in overlong UTF-8, `..%c0%afmagic`": asking("/lake/cms/..%c0%afmagic/{place}/secret"),
    "`..` in wide letters, `%EF%BC%8E%EF%BC%8E`": asking("/lake/cms/%EF%BC%8E%EF%BC%8E/magic/{place}/secret"),
    "`../../etc/passwd` from the top": asking("/../../etc/passwd"),
    "`/lake/cms/open/../../magic`, through a file": asking("/lake/cms/{place}/open/../../../magic/{place}/secret"),
    "double slashes, `//lake//cms//open`": asking("//lake//cms//{place}//open"),
    "dots that stay, `/lake/./cms/open`": asking("/lake/./cms/./{place}/open"),
    "a slash in escapes, `/lake%2Fcms%2Fopen`": asking("/lake%2Fcms%2F{place}%2Fopen"),
    "a slash at the end of a file": asking("/lake/cms/{place}/open/"),
    "`/LAKE/CMS/OPEN`": asking("/LAKE/CMS/{place}/open"),
    "`open%00.root`": asking("/lake/cms/{place}/open%00.root"),
    "`secret%00` of another directory": asking("/lake/magic/{place}/secret%00/lake/cms"),
    "`open%zz`, a broken escape": asking("/lake/cms/{place}/open%zz"),
    "`open%`, half an escape": asking("/lake/cms/{place}/open%"),
    "`open%3Fx`, an escaped question mark": asking("/lake/cms/{place}/open%3Fx"),
    "`open%23x`, an escaped hash": asking("/lake/cms/{place}/open%23x"),
    "`%0Aopen`, a line break": asking("/lake/cms/{place}/%0Aopen"),
    "`open%0D%0ASet-Cookie:x`": asking("/lake/cms/{place}/open%0D%0ASet-Cookie:%20x=1"),
    "`caf%C3%A9`, which is there": asking("/lake/cms/{place}/caf%C3%A9"),
    "`cafe%CC%81`, the same for people": asking("/lake/cms/{place}/cafe%CC%81"),
    "`café`, not escaped": asking("/lake/cms/{place}/café"),
    "a path of 9,000 letters": asking("/lake/cms/{place}/" + "x" * 9_000),
    "a name of 300 letters": asking("/lake/cms/{place}/" + "x" * 300),
    "a full URL of another host": lambda s: s.get().replace(b"GET ", b"GET https://elsewhere.example", 1),
}

OTHERS: dict[str, Build] = {
    "a header line of 100 kB": lambda s: s.get(None, f"X-Long: {'x' * 100_000}"),
    "a header line of 4 MB": lambda s: s.get(None, f"X-Long: {'x' * 4_000_000}"),
    "20,000 header lines": lambda s: s.get(None, *(f"X-{number}: y" for number in range(20_000))),
    "no Host": lambda s: s.get().replace(b"Host: x\r\n", b""),
    "HTTP/1.0": lambda s: s.request("GET", version="HTTP/1.0"),
    "HTTP/9.9": lambda s: s.request("GET", version="HTTP/9.9"),
    "the verb `get`": lambda s: s.request("get"),
    "TRACE": lambda s: s.request("TRACE"),
    "CONNECT": lambda s: s.request("CONNECT"),
    "POST": lambda s: s.request("POST", None, "Content-Length: 0"),
    "LOCK": lambda s: s.request("LOCK", None, "Content-Length: 0"),
    "PROPPATCH": lambda s: s.request("PROPPATCH", None, "Content-Length: 0"),
    "OPTIONS without a token": lambda s: s.request("OPTIONS", authorization=None),
    "PUT with a scope for reading": lambda s: s.request("PUT", f"{s.open}.new", "Content-Length: 0"),
    "DELETE with a scope for reading": lambda s: s.request("DELETE"),
    "MKCOL with a scope for reading": lambda s: s.request("MKCOL", f"{s.open}.new"),
    "MOVE with a scope for reading": lambda s: s.request("MOVE", None, f"Destination: https://x{s.open}.new"),
    "MOVE into another directory": moving("/lake/magic/{place}/moved"),
    "MOVE to `/lake/cms/../magic`": moving("/lake/cms/../magic/{place}/moved"),
    "MOVE to `/lake/cms/%2e%2e/magic`, which is a name": moving("/lake/cms/%2e%2e/magic/{place}/moved"),
    "MOVE over a file with `storage.create`": moving("/lake/cms/{place}/there", "storage.create:/lake/cms"),
    "MOVE to a new name with `storage.create`": moving("/lake/cms/{place}/new", "storage.create:/lake/cms"),
    "PUT of a name with a line break, `%0Ax`": writing("%0Ax"),
    "PUT of a name with `%00`, `x%00y`": writing("x%00y"),
    "the list of a directory with its scope, PROPFIND": lambda s: s.request(
        "PROPFIND", f"/lake/cms/{s.place}", "Depth: 1"
    ),
    "the list of `/lake`, PROPFIND": lambda s: s.request("PROPFIND", "/lake", "Depth: 1"),
    "that `/lake` is there, PROPFIND of depth 0": lambda s: s.request("PROPFIND", "/lake", "Depth: 0"),
    "the list of another directory, PROPFIND": lambda s: s.request("PROPFIND", f"/lake/magic/{s.place}", "Depth: 1"),
    "the checksum of another directory's file": lambda s: s.request("HEAD", s.secret, "Want-Digest: adler32"),
}

KINDS = ("element", "copy door", "cache")


def outcomes(heading: str) -> dict[str, dict[str, str]]:
    """A table of the page, by its heading: what is asked for, and the outcome at each kind of server."""
    below = PAGE.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in below.splitlines() if "|" in line]
    assert rows[0][1:] == list(KINDS)
    return {label: dict(zip(KINDS, cells, strict=True)) for label, *cells in rows[2:]}


@pytest.fixture(scope="module")
def scenes(box: Box, layered: Box) -> tuple[Scene, ...]:
    """One directory below ``/lake/cms`` and one below ``/lake/magic`` of the elements, through every door."""
    name = uuid.uuid4().hex[:12]
    found = (*(Scene(box, door, name) for door in DOORS), *(Scene(layered, door, name) for door in CHAIN))
    for behind, element in {(scene.box, scene.door.element) for scene in found}:
        for path, body in {
            f"/lake/cms/{name}/open": OPEN,
            f"/lake/cms/{name}/caf%C3%A9": OPEN,
            f"/lake/magic/{name}/secret": SECRET,
            "/lake/cmsX/open": SECRET,
        }.items():
            behind.put(element, path, body)
    return found


def check(scenes: Sequence[Scene], build: Build, wanted: dict[str, str]) -> None:
    answers = {scene.door: say(scene.box, scene.door, build(scene)) for scene in scenes}
    assert {door.server: answer.outcome for door, answer in answers.items()} == {
        door.server: wanted[door.kind] for door in answers
    }
    for door, answer in answers.items():
        assert SECRET not in answer.body, door
        assert b"Set-Cookie" not in answer.head, door
        if answer.outcome == "200" and answer.body:
            assert answer.body == OPEN, door


@pytest.mark.parametrize("label", TOKENS)
def test_c6_tokens(scenes: tuple[Scene, ...], label: str) -> None:
    check(scenes, TOKENS[label], outcomes("Tokens")[label])


@pytest.mark.parametrize("label", PATHS)
def test_c6_paths(scenes: tuple[Scene, ...], label: str) -> None:
    check(scenes, PATHS[label], outcomes("Paths")[label])


@pytest.mark.parametrize("label", OTHERS)
def test_c6_verbs_and_headers(scenes: tuple[Scene, ...], label: str) -> None:
    check(scenes, OTHERS[label], outcomes("Verbs and headers")[label])


@dataclass(frozen=True)
class Login:
    """One request over the XRootD protocol."""

    do: str = "read"
    path: str = "{open}"
    token: Callable[[Scene], str | None] = Scene.token
    more: tuple[object, ...] = ()

    def outcome(self, roots: Roots, scene: Scene) -> str:
        names = {"open": scene.open, "secret": scene.secret, "place": scene.place}
        path, _, query = self.path.partition("?")
        for name in ("good", "bad", "ended"):
            if query == name:
                token = {"good": scene.token(), "bad": bad(scene), "ended": scene.token(life_s=-5)}[name]
                query = f"authz=Bearer%20{token}"
        path = path.format(**names) + (f"?{query}" if query else "")
        more = [scene.door.path(scene.box, scene.open + ".new") if self.do == "mv" else word for word in self.more]
        answer = roots.ask(scene.door, self.do, path, self.token(scene), more=more)
        assert SECRET.decode() not in answer.data
        return answer.outcome


LOGINS: dict[str, Login] = {
    "a good token": Login(),
    "no token": Login(token=lambda s: None),
    "ended 5 seconds ago": Login(token=lambda s: s.token(life_s=-5)),
    "another audience": Login(token=lambda s: s.token(aud="https://elsewhere.example")),
    "another issuer": Login(token=lambda s: s.token(iss="https://localhost:1")),
    "not a token": Login(token=lambda s: "abc.def.ghi"),
    "the scope of another directory": Login(token=bad),
    "the scope of a longer name": Login(token=lambda s: s.token("storage.read:/lake/cmsX")),
    "another directory's file": Login(path="{secret}"),
    "another directory's file that is not there": Login(path="{secret}.none"),
    "its own file that is not there": Login(path="{open}.none"),
    "`/lake/cms/../magic/secret`": Login(path="/lake/cms/../magic/{place}/secret"),
    "`/lake/cms/./../magic/secret`": Login(path="/lake/cms/./../magic/{place}/secret"),
    "`/lake/cms/%2e%2e/magic/secret`": Login(path="/lake/cms/%2e%2e/magic/{place}/secret"),
    "double slashes, `//lake//cms//open`": Login(path="//lake//cms//{place}//open"),
    "dots that stay, `/lake/./cms/open`": Login(path="/lake/./cms/./{place}/open"),
    "a line break in the name": Login(path="/lake/cms/{place}/\nopen"),
    "good login, bad `?authz=`": Login(path="{open}?bad"),
    "bad login, good `?authz=`": Login(path="{open}?good", token=bad),
    "good login, ended `?authz=`": Login(path="{open}?ended"),
    "`stat` of another directory's file": Login("stat", "{secret}"),
    "`stat` of `/lake`": Login("stat", "/lake"),
    "`locate` of another directory's file": Login("locate", "{secret}"),
    "`query checksum` of another directory's file": Login("checksum", "{secret}"),
    "attributes of another directory's file": Login("get_xattr", "{secret}"),
    "space of another directory": Login("statvfs", "/lake/magic"),
    "`ls` of `/lake`": Login("ls", "/lake"),
    "`ls` of another directory": Login("ls", "/lake/magic/{place}"),
    "`ls` of its own directory": Login("ls", "/lake/cms/{place}"),
    "`prepare` of another directory's file": Login("prepare", "{secret}"),
    "`rm` with a scope for reading": Login("rm"),
    "`mv` with a scope for reading": Login("mv", more=("",)),
    "`mkdir` with a scope for reading": Login("mkdir", "{open}.new"),
    "`truncate` with a scope for reading": Login("truncate", more=(0,)),
    "`chmod` with a scope for reading": Login("chmod", more=(0o600,)),
}


@pytest.fixture(scope="module")
def roots(box: Box, layered: Box) -> Iterator[dict[Box, Roots]]:
    with Roots(box) as one, Roots(layered) as other:
        yield {box: one, layered: other}


@pytest.mark.parametrize("label", LOGINS)
def test_a77_requests_over_root(scenes: tuple[Scene, ...], roots: dict[Box, Roots], label: str) -> None:
    found = {scene.door: LOGINS[label].outcome(roots[scene.box], scene) for scene in scenes}
    wanted = outcomes("The XRootD protocol")[label]
    assert {door.server: outcome for door, outcome in found.items()} == {
        door.server: wanted[door.kind] for door in found
    }


@pytest.mark.parametrize("door", CACHES, ids=str)
@pytest.mark.parametrize("command", ["evict", "fevict"])
def test_no_reader_makes_a_cache_forget_what_others_read(
    scenes: tuple[Scene, ...], box: Box, door: Door, command: str
) -> None:
    scene = next(each for each in scenes if each.door == door)
    assert say(box, door, scene.get()).body == OPEN
    (kept,) = box.data(unit_name(door.server)).rglob(scene.open.lstrip("/"))
    token = scene.token("storage.read:/lake/cms storage.modify:/lake/cms storage.stage:/lake/cms")
    through = door.path(box, scene.open)
    beside = f"{through.removesuffix('/open')}/../../magic/{scene.place}/secret"
    for path in (scene.open, scene.secret, beside, f"{through}/../../../../../..{scene.open}"):
        server = box.context.url(f"{door.server}.root", "roots")
        asked = box.client("xrdfs", server, "cache", command, path, token=token)
        assert asked.returncode != 0, path
    assert kept.read_bytes() == OPEN


@pytest.mark.parametrize(
    ("heading", "asked"),
    [
        ("Tokens", TOKENS),
        ("Paths", PATHS),
        ("Verbs and headers", OTHERS),
        ("The XRootD protocol", LOGINS),
    ],
)
def test_the_page_tells_of_these_requests_and_no_others(heading: str, asked: dict[str, object]) -> None:
    assert list(outcomes(heading)) == list(asked)
