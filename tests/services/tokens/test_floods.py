"""What strangers can do to others by asking often: little."""

from __future__ import annotations

import urllib3

from .conftest import Issuer, Start


def seen_from(issuer: Issuer, address: str) -> Issuer:
    """The same issuer, spoken to from another address of this machine."""
    other = Issuer(issuer.units, issuer.name, issuer.url)
    other.http = urllib3.PoolManager(
        ca_certs=str(issuer.ca), cert_reqs="CERT_REQUIRED", retries=False, timeout=90, source_address=(address, 0)
    )
    return other


def test_wrong_passwords_lock_out_only_where_they_come_from(start_issuer: Start) -> None:
    issuer = start_issuer(login_attempts=1)
    for number in range(1, 10):
        guesser = seen_from(issuer, f"127.9.9.{number}")
        assert guesser.browser().sign_in("bob", "wrong").status == 401
        assert guesser.browser().sign_in("bob").status == 429, "even the right one"
    assert issuer.browser().sign_in("bob").status == 303
    assert issuer.sql("SELECT count(*) FROM throttle WHERE key LIKE 'address:%%'") == [(0,)]

    # The tenth wrong one, from wherever, slows the login down for all, but by no more than the first lock.
    assert seen_from(issuer, "127.9.9.10").browser().sign_in("bob", "wrong").status == 401
    assert issuer.browser().sign_in("bob").status == 429
    assert issuer.browser().sign_in("alice").status == 303
    ((pause_s,),) = issuer.sql(
        "SELECT locked_until - extract(epoch FROM now())::int FROM throttle WHERE key = 'login:bob'"
    )
    assert 0 < pause_s <= 30


def test_refusals_of_strangers_are_sampled_and_those_of_clients_are_not(start_issuer: Start) -> None:
    issuer = start_issuer()
    long = "x" * 5000
    for _ in range(100):
        issuer.post("/token", "nobody", grant_type="client_credentials", scope=long)
    for _ in range(20):
        issuer.post("/token", "boathouse", grant_type="refresh_token", refresh_token="x")
    for _ in range(70):
        issuer.refused("plain", 400, "invalid_scope", grant_type="client_credentials", scope="scim:read")
    issuer.stop()
    counts = dict(issuer.sql("SELECT detail->>'client', count(*) FROM audit WHERE event = 'token.refused' GROUP BY 1"))
    assert counts["plain"] == 70
    ((left_out,),) = issuer.sql(
        "SELECT sum((detail->>'count')::int) FROM audit WHERE event = 'token.refused.not-recorded'"
    )
    # A minute may end in between, after which a few more are recorded.
    assert counts.get("nobody", 0) + counts.get("boathouse", 0) + left_out == 120
    assert left_out >= 1
    assert issuer.sql("SELECT max(length(detail->>'scope')) FROM audit WHERE detail->>'client' = 'nobody'") == [(100,)]
    assert issuer.command("audit-verify").returncode == 0


def test_device_codes_are_bounded(start_issuer: Start) -> None:
    issuer = start_issuer(device_codes_at_most=3, device_codes_per_client=2)

    def ask(client: str) -> tuple[int, str]:
        answer = issuer.post("/devicecode", client, scope="openid")
        return answer.status, answer.json.get("error", "")

    full = (503, "temporarily_unavailable")
    assert [ask("boathouse") for _ in range(3)] == [(200, ""), (200, ""), full]
    assert [ask("bounded") for _ in range(2)] == [(200, ""), full], "the place of one client is not taken by another"
    issuer.sql("UPDATE devices SET expires_at = 0 WHERE client_id = 'boathouse'")
    assert ask("boathouse") == (200, "")


def test_a_device_codes_scope_is_bounded(issuer: Issuer) -> None:
    scope = " ".join(f"storage.read:/lake/cms/{number}" for number in range(400))
    assert issuer.post("/devicecode", "boathouse", scope=scope).json["error"] == "invalid_scope"
