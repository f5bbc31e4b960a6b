"""Copies between real storage elements: what arrives, what is refused, what is left behind."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from boathouse.checksums import Adler32
from boathouse.testing.corpus import with_zeros
from boathouse.testing.pki import Authority
from boathouse.testing.wait import wait_for

from .box import Box, Service, Storage
from .equipment import DESTINATION, SOURCE, Gated


def only(job: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    (file,) = job["files"]
    return file


def test_a_file_is_copied_and_told_as_fts3_tells_it(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(300_000)
    path = f"{place}/deep/below/file #1 +ü.root".replace(" ", "%20").replace("#", "%23").replace("ü", "%C3%BC")
    box.put(f"{place}/deep/below/file #1 +ü.root", data)
    job = shared.finished(shared.submit(box.file(path, data), job_metadata={"multi_sources": False}))
    assert job["job_state"] == "FINISHED"
    assert job["http_status"] == "200 Ok"
    assert job["job_metadata"] == {"multi_sources": False}
    file = only(job)
    assert file["file_state"] == "FINISHED"
    assert file["reason"] is None
    assert file["staging_start"] is file["staging_finished"] is None
    assert file["file_metadata"] == {"request_id": path}
    started, ended = (datetime.strptime(str(file[key]), "%Y-%m-%dT%H:%M:%S") for key in ("start_time", "finish_time"))  # noqa: DTZ007
    assert started <= ended
    assert box.destination.holds(f"{place}/deep/below/file #1 +ü.root") == data


def test_a_copy_goes_over_the_distance_that_lies_between_its_ends(box: Box, place: str) -> None:
    """The source is named to the destination by the address where that sees it, and by its own to everybody else."""
    data = os.urandom(300_000)
    box.put(f"{place}/far", data)
    distance = box.proxy(box.source)
    service = box.service("far", far={box.destination.host: {box.source.host: distance.host}})
    with ExitStack() as stack:
        distance.start()
        stack.callback(distance.stop)
        service.start()
        stack.callback(service.stop)
        job = service.finished(service.submit(box.file(f"{place}/far", data)))
    assert job["job_state"] == "FINISHED"
    assert only(job)["source_surl"] == f"{box.source.davs}{place}/far"
    assert box.destination.holds(f"{place}/far") == data
    assert distance.seen.body_bytes["GET"] == len(data)


def test_an_empty_file_is_copied(box: Box, shared: Service, place: str) -> None:
    box.put(f"{place}/empty", b"")
    assert shared.finished(shared.submit(box.file(f"{place}/empty", b"")))["job_state"] == "FINISHED"
    assert box.destination.holds(f"{place}/empty") == b""


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_a22_zeros_in_front_of_a_checksum_do_not_matter(box: Box, shared: Service, place: str, zeros: int) -> None:
    data = with_zeros(zeros)
    stripped = f"ADLER32:{zlib.adler32(data):x}"
    box.put(f"{place}/full", data)
    box.put(f"{place}/stripped", data)
    job = shared.finished(
        shared.submit(box.file(f"{place}/full", data), box.file(f"{place}/stripped", data, checksum=stripped))
    )
    assert job["job_state"] == "FINISHED", job


def test_sizes_of_more_than_32_bits_are_compared_whole(box: Box, shared: Service, place: str) -> None:
    """Files that are holes: a disk keeps nothing of them, and their adler32 is a sum."""
    size = 2**32 + 5000
    adler32 = f"ADLER32:{size % 65521:04x}0001"

    def hole(storage: Storage, path: str, length: int) -> None:
        storage.put(path, b"")
        os.truncate(storage.path(path), length)

    for name, there in (("whole", size), ("cut", size % 2**32)):
        hole(box.source, f"{place}/{name}", size)
        hole(box.destination, f"{place}/{name}", there)
    facts: dict[str, object] = {"filesize": size, "checksum": adler32}
    whole = shared.finished(shared.submit(box.file(f"{place}/whole", b"", **facts)), timeout_s=120)
    assert whole["job_state"] == "FINISHED", only(whole)
    assert shared.why(whole["job_id"])[0]["attempts"][0]["outcome"] == "EXISTED"
    assert shared.rows("SELECT filesize FROM files WHERE job_id = %s", whole["job_id"]) == [(size,)]
    cut = shared.finished(shared.submit(box.file(f"{place}/cut", b"", **facts), overwrite=False))
    assert (cut["job_state"], "5000 bytes" in str(only(cut)["reason"])) == ("FAILED", True), only(cut)
    for storage in (box.source, box.destination):
        for name in ("whole", "cut"):
            storage.path(f"{place}/{name}").unlink()


def test_a_hundred_small_files(box: Box, shared: Service, place: str) -> None:
    contents = {f"{place}/{number}": os.urandom(10_000) for number in range(100)}
    for path, data in contents.items():
        box.put(path, data)
    job = shared.finished(shared.submit(*(box.file(path, data) for path, data in contents.items())))
    assert job["job_state"] == "FINISHED"
    assert {path: box.destination.holds(path) for path in contents} == contents


def test_a_file_that_is_not_what_was_expected_leaves_nothing(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    other = f"ADLER32:{(zlib.adler32(data) ^ 1):08x}"
    job_id = shared.submit(box.file(f"{place}/f", data, checksum=other))
    file = only(shared.finished(job_id))
    assert file["file_state"] == "FAILED"
    assert str(file["reason"]).startswith("SOURCE [checksum] checksum mismatch")
    steps = shared.why(job_id)[0]["attempts"][0]["steps"]
    assert [step["asked"].split()[0] for step in steps] == ["COPY", "HEAD", "DELETE", "HEAD"]
    assert steps[0]["answered"].startswith("HTTP 202 success"), "small files are not asked about ahead"
    assert box.destination.holds(f"{place}/f") is None


def test_a_source_is_asked_for_its_checksum_before_many_bytes_move(box: Box, place: str) -> None:
    service = box.service("medium", limits={"digest_from_bytes": 5000}).start()
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    other = f"ADLER32:{(zlib.adler32(data) ^ 1):08x}"
    job_id = service.submit(box.file(f"{place}/f", data, checksum=other))
    assert str(only(service.finished(job_id))["reason"]).startswith("SOURCE [checksum] checksum mismatch")
    copies = [step for step in service.why(job_id)[0]["attempts"][0]["steps"] if step["asked"].startswith("COPY")]
    assert [step["answered"][:8] for step in copies] == ["HTTP 412"], copies
    service.stop()


def test_a_large_file_begins_to_move_at_once_and_is_compared_at_the_end(box: Box, place: str) -> None:
    """Its source is not asked for a checksum first: that may take longer than a copy may stand still."""
    service = box.service("large", limits={"digest_from_bytes": 1, "digest_to_bytes": 4999}).start()
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    other = f"ADLER32:{(zlib.adler32(data) ^ 1):08x}"
    job_id = service.submit(box.file(f"{place}/f", data, checksum=other))
    assert str(only(service.finished(job_id))["reason"]).startswith("SOURCE [checksum] checksum mismatch")
    steps = service.why(job_id)[0]["attempts"][0]["steps"]
    assert [step["asked"].split()[0] for step in steps] == ["COPY", "HEAD", "DELETE", "HEAD"]
    assert steps[0]["answered"].startswith("HTTP 202 success")
    assert box.destination.holds(f"{place}/f") is None
    assert service.finished(service.submit(box.file(f"{place}/f", data)))["job_state"] == "FINISHED"
    assert box.destination.holds(f"{place}/f") == data
    service.stop()


def test_a_file_of_another_size_leaves_nothing(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    file = only(shared.finished(shared.submit(box.file(f"{place}/f", data, filesize=4999))))
    assert str(file["reason"]).startswith("SOURCE [checksum] size mismatch: 5000 bytes, expected 4999")
    assert box.destination.holds(f"{place}/f") is None


def test_the_source_is_asked_for_a_checksum_that_the_client_does_not_know(
    box: Box, shared: Service, place: str
) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    job_id = shared.submit(box.file(f"{place}/f", data, checksum="ADLER32", filesize=None))
    assert shared.finished(job_id)["job_state"] == "FINISHED"
    asked = [step["asked"] for step in shared.why(job_id)[0]["attempts"][0]["steps"]]
    assert [words.split()[0] for words in asked] == ["HEAD", "COPY", "HEAD"]


def test_a30_what_is_named_root_is_copied_over_https(box: Box, shared: Service, place: str) -> None:
    path, data = f"{place}/f", os.urandom(5000)
    box.put(path, data)
    source, destination = f"{box.source.xrootd}/{path}", f"{box.destination.xrootd}/{path}"
    job_id = shared.submit(box.file(path, data, sources=[source]) | {"destinations": [destination]})
    file = only(shared.finished(job_id))
    assert file["file_state"] == "FINISHED", shared.why(job_id)
    assert (file["source_surl"], file["dest_surl"]) == (source, destination)
    assert box.destination.holds(path) == data
    asked = [step["asked"] for step in shared.why(job_id)[0]["attempts"][0]["steps"]]
    copied = f"COPY {box.destination.davs}{path} from {box.source.davs}{path}".replace("davs://", "https://")
    assert any(words.startswith(copied) for words in asked), asked


def test_a_root_url_of_a_server_that_the_facility_does_not_know_is_refused(
    box: Box, shared: Service, place: str
) -> None:
    path = f"{place}/f"
    stranger = f"root://{box.source.host}/{path}"
    for sides in ({"sources": [stranger]}, {"destinations": [stranger]}):
        reply = shared.request("POST", "/jobs", {"files": [box.file(path, b"x") | sides], "params": {}})
        assert reply.status == 400, reply.body
        assert "also speaks https" in str(reply.body)


def test_a_missing_source_is_not_tried_again(box: Box, shared: Service, place: str) -> None:
    job_id = shared.submit(box.file(f"{place}/missing", b"nothing"))
    file = only(shared.finished(job_id))
    assert file["file_state"] == "FAILED"
    assert str(file["reason"]).startswith("SOURCE [source]")
    assert "404 Not Found" in str(file["reason"])
    assert len(shared.why(job_id)[0]["attempts"]) == 1
    assert box.destination.holds(f"{place}/missing") is None


def test_the_right_file_that_is_there_already_is_a_success(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(5000)
    for storage in (box.source, box.destination):
        box.put(f"{place}/f", data, storage)
    before = box.destination.path(f"{place}/f").stat()
    for overwrite in (True, False):
        job_id = shared.submit(box.file(f"{place}/f", data), overwrite=overwrite)
        assert shared.finished(job_id)["job_state"] == "FINISHED"
        assert shared.why(job_id)[0]["attempts"][0]["outcome"] == "EXISTED"
    after = box.destination.path(f"{place}/f").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_file_is_replaced_only_if_that_is_allowed(box: Box, shared: Service, place: str) -> None:
    data, other = os.urandom(5000), os.urandom(5000)
    box.put(f"{place}/f", data)
    box.put(f"{place}/f", other, box.destination)
    # XRootD remembers a checksum by the second of the last change: an overwritten file must be older than that.
    os.utime(box.destination.path(f"{place}/f"), (10**9, 10**9))
    file = only(shared.finished(shared.submit(box.file(f"{place}/f", data), overwrite=False)))
    assert "Destination file exists and overwrite is not enabled" in str(file["reason"])
    assert file["file_metadata"] == {
        "request_id": f"{place}/f",
        "dst_file": {
            "file_size": 5000,
            "checksum_type": "ADLER32",
            "checksum_value": Adler32(other).hexdigest(),
            "file_on_disk": True,
            "file_on_tape": False,
        },
    }
    assert box.destination.holds(f"{place}/f") == other
    job_id = shared.submit(box.file(f"{place}/f", data))
    assert shared.finished(job_id)["job_state"] == "FINISHED"
    assert len(shared.why(job_id)[0]["attempts"]) == 1, shared.why(job_id)
    assert box.destination.holds(f"{place}/f") == data


def test_a_file_is_not_given_away_for_one_that_is_not_what_was_expected(box: Box, shared: Service, place: str) -> None:
    data, other = os.urandom(5000), os.urandom(5000)
    box.put(f"{place}/f", data)
    box.put(f"{place}/f", other, box.destination)
    wrong = f"ADLER32:{(zlib.adler32(data) ^ 1):08x}"
    job_id = shared.submit(box.file(f"{place}/f", data, checksum=wrong))
    assert str(only(shared.finished(job_id))["reason"]).startswith("SOURCE [checksum] checksum mismatch")
    assert box.destination.holds(f"{place}/f") == other


def test_all_sources_are_tried_in_order(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    good = f"{box.source.davs}{place}/f"
    sources = [f"{box.source.davs}{place}/missing", "davs://127.0.1.19:1/lake/unreachable", good, good]
    job_id = shared.submit(box.file(f"{place}/f", data, sources=sources))
    job = shared.finished(job_id)
    assert (job["job_state"], job["job_type"]) == ("FINISHED", "R")
    assert [file["file_state"] for file in job["files"]] == ["FAILED", "FAILED", "FINISHED", "NOT_USED"]
    assert [file["source_surl"] for file in job["files"]] == sources
    assert [file["error_class"] for file in shared.why(job_id)] == ["source", "network", None, None]
    assert box.destination.holds(f"{place}/f") == data


def test_a_job_fails_when_its_last_source_has_failed(box: Box, shared: Service, place: str) -> None:
    sources = [f"{box.source.davs}{place}/missing{number}" for number in range(2)]
    job = shared.finished(shared.submit(box.file(f"{place}/f", b"x", sources=sources)))
    assert job["job_state"] == "FAILED"
    assert [file["file_state"] for file in job["files"]] == ["FAILED", "FAILED"]


def test_a_job_with_good_and_bad_files_ends_dirty(box: Box, shared: Service, place: str) -> None:
    box.put(f"{place}/good", b"good")
    job = shared.finished(shared.submit(box.file(f"{place}/good", b"good"), box.file(f"{place}/bad", b"bad")))
    assert job["job_state"] == "FINISHEDDIRTY"
    assert [file["file_state"] for file in job["files"]] == ["FINISHED", "FAILED"]


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("fault", ["expired", "audience", "scope"])
def test_a_token_that_storage_refuses(box: Box, shared: Service, place: str, side: str, fault: str) -> None:
    data = b"secret"
    box.put(f"{place}/f", data)
    audience = SOURCE if side == "source" else DESTINATION
    scope = "storage.read:/lake" if side == "source" else "storage.read:/lake storage.modify:/lake"
    token = {
        "expired": box.issuer.token(audience, scope, lifetime_s=-600),
        "audience": box.issuer.token("127.0.1.99", scope),
        "scope": box.issuer.token(audience, scope.replace("/lake", "/lake/other")),
    }[fault]
    tokens = {"source_tokens": [token]} if side == "source" else {"destination_token": token}
    job_id = shared.submit(box.file(f"{place}/f", data, **tokens))
    file = only(shared.finished(job_id))
    assert str(file["reason"]).startswith(f"{side.upper()} [auth]")
    assert len(shared.why(job_id)[0]["attempts"]) == 1
    if fault == "expired":
        assert f"the token for {audience}" in str(file["reason"])
        assert "did not exchange it" in str(file["reason"])
    assert token not in str(shared.why(job_id))
    assert box.destination.holds(f"{place}/f") is None


def test_one_destination_is_never_written_twice_at_once(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(2_000_000)
    box.put(f"{place}/f", data)
    file = box.file(f"{place}/f", data)
    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(lambda _: shared.submit(file), range(12)))
    assert {shared.finished(job)["job_state"] for job in jobs} == {"FINISHED"}
    attempts = [attempt for job in jobs for file in shared.why(job) for attempt in file["attempts"]]
    assert sorted(attempt["outcome"] for attempt in attempts) == ["EXISTED"] * 11 + ["FINISHED"]
    query = """
        SELECT a.file_id, b.file_id FROM attempts a JOIN attempts b ON a.file_id < b.file_id
        JOIN files f ON f.file_id = a.file_id JOIN files g ON g.file_id = b.file_id AND g.dest_url = f.dest_url
        WHERE f.dest_surl = %s AND tstzrange(a.started, a.ended) && tstzrange(b.started, b.ended)"""
    assert shared.rows(query, f"{box.destination.davs}{place}/f") == []


def test_a_source_that_dies_in_the_middle_leaves_nothing(box: Box, shared: Service, gated: Gated, place: str) -> None:
    data = os.urandom(4_000_000)
    gated.put(f"{place}/f", data).set()
    gated.breaks.add(f"{place}/f")
    job_id = shared.submit(box.file(f"{place}/f", data, sources=[f"{gated.davs}{place}/f"]), retry=-1)
    file = only(shared.finished(job_id))
    assert file["file_state"] == "FAILED", file
    wait_for("nothing partial", lambda: box.destination.holds(f"{place}/f") is None)
    again = shared.submit(box.file(f"{place}/f", data, sources=[f"{gated.davs}{place}/f"]))
    assert shared.finished(again)["job_state"] == "FINISHED"
    assert box.destination.holds(f"{place}/f") == data


def test_a_source_with_an_untrusted_certificate_is_refused(
    box: Box, shared: Service, place: str, tmp_path: Path
) -> None:
    stranger = Gated(Authority(tmp_path))
    stranger.start()
    stranger.put(f"{place}/f", b"f").set()
    sources = [f"{stranger.davs}{place}/f"]
    file = only(shared.finished(shared.submit(box.file(f"{place}/f", b"f", sources=sources), retry=-1)))
    stranger.stop()
    assert str(file["reason"]).startswith("SOURCE [source] failure: SSL")
    assert stranger.asked == {}
    assert box.destination.holds(f"{place}/f") is None


def test_a_copy_that_stalls_is_aborted_and_cleaned(box: Box, gated: Gated, place: str) -> None:
    service = box.service("stall", limits={"stall_s": 2.0}).start()
    data = os.urandom(4_000_000)
    gated.put(f"{place}/f", data)
    job_id = service.submit(box.file(f"{place}/f", data, sources=[f"{gated.davs}{place}/f"]), retry=-1)
    file = only(service.finished(job_id))
    assert str(file["reason"]).startswith("TRANSFER [timeout]")
    gated.go_on[f"{place}/f"].set()
    wait_for("the destination is looked after", lambda: not service.rows("SELECT 1 FROM files WHERE busy"))
    # Either the whole right file, or nothing.
    assert box.destination.holds(f"{place}/f") in (None, data)
    assert service.rows("SELECT 1 FROM tokens") == []
    service.stop()


def test_storage_that_refuses_connections_costs_no_attempts(box: Box, shared: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    box.destination.stop()
    try:
        job_id = shared.submit(box.file(f"{place}/f", data))
        wait_for("several tries", lambda: len(shared.why(job_id)[0]["attempts"]) >= 3, timeout_s=120)
        file = shared.why(job_id)[0]
        assert file["file_state"] in ("SUBMITTED", "ACTIVE")
        assert "cannot be reached" in file["reason"]
        assert shared.rows("SELECT spent FROM files WHERE job_id = %s", job_id) == [(0,)]
    finally:
        box.destination.start()
    assert shared.finished(job_id)["job_state"] == "FINISHED"
    paused = "SELECT 1 FROM endpoints WHERE host LIKE %s"
    wait_for("nothing waits for it", lambda: not shared.rows(paused, f"{DESTINATION}:%"))


def test_a_storage_element_that_stays_away_fails_its_files(box: Box, place: str) -> None:
    service = box.service("patience", limits={"patience_s": 2.0, "pause_s": 1.0}).start()
    file = box.file(f"{place}/f", b"x")
    file["destinations"] = ["davs://127.0.1.19:1/lake/f"]
    job_id = service.submit(file)
    told = only(service.finished(job_id))
    assert told["file_state"] == "FAILED"
    assert str(told["reason"]).endswith("127.0.1.19:1 could not be reached for too long")
    assert service.rows("SELECT 1 FROM tokens") == []
    service.stop()


def test_words_in_a_name_pause_no_storage_element(box: Box, shared: Service, place: str) -> None:
    """The destination's answer holds the name; what it says of the source must be seen before others wait for it."""
    name = f"{place}/dir could not connect"
    box.put(f"{place}/f", b"f")
    (box.destination.path(name)).mkdir(parents=True)
    for made in (box.destination.path(name), *box.destination.path(name).parents):
        box.state.account.own(made)
        if made == box.destination.root:
            break
    file = box.file(f"{place}/f", b"f", destinations=[box.destination.davs + name.replace(" ", "%20")])
    job = shared.finished(shared.submit(file, retry=-1))
    assert job["job_state"] == "FAILED"
    assert shared.rows("SELECT * FROM endpoints WHERE host = %s", box.source.host) == []
