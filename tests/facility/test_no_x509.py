"""People show tokens, never certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path

from boathouse.testing.box import Box


def test_a57_no_service_asks_a_client_for_a_certificate(lake_box: Box) -> None:
    endpoints = lake_box.endpoints
    urls = [endpoints.issuer, endpoints.catalogue, endpoints.transfers]
    urls += [place.https for place in (*endpoints.storage, *endpoints.caches)]
    for url in urls:
        shown = subprocess.run(
            ["openssl", "s_client", "-connect", url.removeprefix("https://"), "-CAfile", endpoints.ca_bundle],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "Verify return code: 0 (ok)" in shown, url
        assert "No client certificate CA names sent" in shown, url
        assert "Requested Signature Algorithms" not in shown, url


def test_a57_the_whole_job_passes_with_nothing_but_a_token(lake_box: Box) -> None:
    exported = lake_box.env("alice")
    assert not {name for name in exported if name.startswith(("X509_USER", "X509_VOMS"))}
    note = lake_box.work / "note.txt"
    note.write_text("written and read with a token\n")
    lake_box.cli("put", note, "--scope", "testing", "--name", "a57-note.txt", "--qos", "FAST", user="alice")
    lake_box.cli("get", "testing:a57-note.txt", "--to", lake_box.work / "fetched", user="alice")
    assert (lake_box.work / "fetched" / "a57-note.txt").read_text() == note.read_text()
    session = Path(lake_box.environment("alice")["BOATHOUSE_SESSION"])
    kept = [path for path in session.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"PRIVATE KEY" in path.read_bytes()]
