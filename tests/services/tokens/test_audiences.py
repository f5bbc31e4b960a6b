"""A client with a list of audiences gets tokens for these only, whichever way it asks."""

from __future__ import annotations

from typing import Any

from .conftest import ACCESS_TOKEN, DEVICE, EXCHANGE, STORAGE, CodeFlow, Issuer

DOOR = "127.0.2.11"
CLIENT = {"grant_type": "client_credentials", "scope": "openid"}


def test_client_credentials(issuer: Issuer) -> None:
    for name in ("resource", "aud", "audience"):
        said = issuer.refused("bounded", 400, "invalid_target", **CLIENT, **{name: f"{STORAGE} {DOOR}"})
        assert DOOR in said
    # The first of the three names counts, wherever the others point.
    issuer.refused("bounded", 400, "invalid_target", **CLIENT, resource=DOOR, audience=STORAGE)
    reply = issuer.token("bounded", **CLIENT, audience=f"{STORAGE} rucio")
    assert issuer.verify(reply["access_token"], STORAGE).aud == (STORAGE, "rucio")


def test_without_an_audience_the_token_is_for_the_issuer_alone(issuer: Issuer) -> None:
    assert issuer.verify(issuer.token("bounded", **CLIENT)["access_token"], issuer.url).aud == (issuer.url,)


def test_a_list_leaves_other_clients_alone(issuer: Issuer) -> None:
    assert issuer.verify(issuer.token("plain", **CLIENT, audience=DOOR)["access_token"], DOOR).aud == (DOOR,)


def test_device_codes(issuer: Issuer) -> None:
    answer = issuer.post("/devicecode", "bounded", scope="openid", audience=DOOR)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert DOOR in answer.json["error_description"]

    begun = issuer.post("/devicecode", "bounded", scope="openid", audience=STORAGE).json
    assert issuer.browser("bob").submit(f"/device?user_code={begun['user_code']}", decision="allow").status == 200
    form = {"grant_type": DEVICE, "device_code": begun["device_code"]}
    issuer.refused("bounded", 400, "invalid_target", **form, audience=DOOR)
    assert issuer.verify(issuer.token("bounded", **form)["access_token"], STORAGE).aud == (STORAGE,)


def test_codes(issuer: Issuer) -> None:
    answer = issuer.browser("bob").get(CodeFlow(issuer, "bounded", audience=DOOR).path)
    assert (answer.status, answer.parameters["error"]) == (302, "invalid_target")
    flow = CodeFlow(issuer, "bounded", scope="openid")
    issuer.refused("bounded", 400, "invalid_target", **flow.form, code=flow.code("bob"), audience=DOOR)
    assert issuer.verify(flow.tokens("bob")["access_token"], STORAGE).aud == (STORAGE,)


def test_refresh(issuer: Issuer) -> None:
    first = CodeFlow(issuer, "bounded", scope="openid offline_access").tokens("bob")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    issuer.refused("bounded", 400, "invalid_target", **form, audience=DOOR)
    again = issuer.token("bounded", **form, audience="rucio")
    assert issuer.verify(again["access_token"], "rucio").aud == ("rucio",)


def test_a_shorter_list_counts_at_the_next_refresh(issuer: Issuer) -> None:
    first = CodeFlow(issuer, "bounded", scope="openid offline_access").tokens("bob")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    original = issuer.seed.read_text()

    def shorten(seed: dict[str, Any]) -> None:
        (client,) = (client for client in seed["clients"] if client["client_id"] == "bounded")
        client["audiences"] = ["rucio"]

    issuer.reload(shorten)
    try:
        assert STORAGE in issuer.refused("bounded", 400, "invalid_target", **form)
    finally:
        issuer.seed.write_text(original)
        issuer.reload(lambda _: None)


def test_exchange(issuer: Issuer) -> None:
    held = issuer.device_login("bob", scope="openid storage.read:/")["access_token"]
    form = {"grant_type": EXCHANGE, "subject_token": held, "subject_token_type": ACCESS_TOKEN}
    issuer.refused("bounded", 400, "invalid_target", **form, audience=DOOR)
    assert issuer.token("bounded", **form, audience=STORAGE)["scope"].startswith("openid")
    reply = issuer.token("transfers", **form, audience=DOOR)
    assert issuer.verify(reply["access_token"], DOOR).aud == (DOOR,), "the transfer service may enter by any door"
