"""Copies from and to S3: moto keeps the objects, botocore checks every signature, XRootD moves the bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from boathouse.plan.service import Programs
from boathouse.testing.scratch import scratch

from .box import Box, Service
from .foreign import REGION, S3

ACCESS_KEY, SECRET_KEY = "AKIABOATHOUSE", "s3cr3t/of+the/facility"


@pytest.fixture(scope="module")
def cloud(box: Box, programs: Programs) -> Iterator[S3]:
    with scratch() as directory:
        made = S3(
            programs,
            box.authority,
            "s3",
            address="127.0.1.15",
            users={ACCESS_KEY: SECRET_KEY},
            directory=directory,
        )
        made.start()
        for bucket in ("/lake", "/theirs"):
            made.put(bucket, b"")
        yield made
        made.stop()


@pytest.fixture(scope="module")
def service(box: Box, cloud: S3) -> Iterator[Service]:
    own = {"kind": "s3", "host": cloud.host, "region": REGION, "write": True}
    key = {"user": ACCESS_KEY, "secret": SECRET_KEY, "subjects": ["rucio"], "groups": ["/escape/cms"]}
    stores = [
        {"name": "cloud", "path": "/lake", **own, **key},
        {"name": "wrong", "path": "/wrong", **own, **key, "secret": "another key"},
        {"name": "nowhere", "path": "/nowhere", **own, **key},
        {"name": "theirs", "path": "/theirs", **own},
        {"name": "archive", "path": "/archive", **own, **key, "write": False},
    ]
    made = box.service("s3", stores=stores, copy_from=[], limits={"retry_delay_s": 0.1}).start()
    yield made
    made.stop()


def source(cloud: S3, path: str) -> str:
    return f"s3s://{cloud.host}{path}"


def fetched(box: Box, service: Service, place: str, url: str, data: bytes, **more: object) -> str:
    """A job that has a storage element fetch a file."""
    return service.submit(box.file(f"{place}/f", data, sources=[url]) | {"source_tokens": [None]} | more)


def sent(
    box: Box, service: Service, place: str, url: str, data: bytes, *, overwrite: bool = True, **more: object
) -> str:
    """A job that has a storage element send a file."""
    box.put(f"{place}/f", data)
    file = box.file(f"{place}/f", data) | {"destinations": [url], "destination_tokens": [None]}
    return service.submit(file | more, overwrite=overwrite)


def reason(service: Service, job_id: str) -> str:
    assert service.finished(job_id)["job_state"] == "FAILED", service.why(job_id)
    return str(service.why(job_id)[0]["reason"])


def compared(service: Service, job_id: str) -> str:
    steps = service.why(job_id)[0]["attempts"][-1]["steps"]
    return next((str(step["answered"]) for step in steps if step["asked"] == "what was compared"), "")


def require_no_secret(box: Box, service: Service, *secrets: str) -> None:
    """Neither the log, nor any answer, nor the database holds a secret in clear."""
    tables = ("jobs", "files", "attempts", "tokens", "endpoints", "archive", "config_audit")
    stored = "\n".join(str(row) for table in tables for row in service.rows(f"SELECT {table}::text FROM {table}"))
    job_ids = [row[0] for row in service.rows("SELECT job_id::text FROM jobs")]
    answers = [service.request("GET", f"/jobs/{job_id}/{what}").body for job_id in job_ids for what in ("why", "files")]
    logs = f"{service.log}\n{box.log(box.source.unit)}\n{box.log(box.destination.unit)}"
    told = f"{stored}\n{answers}\n{service.request('GET', '/metrics').body}\n{logs}"
    for secret in ("X-Amz-Signature", SECRET_KEY, ACCESS_KEY, *secrets):
        assert secret not in told


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a41_a_storage_element_fetches_from_s3(box: Box, service: Service, cloud: S3, place: str, size: int) -> None:
    path, data = f"/lake{place}/an object=1", os.urandom(size)
    cloud.put(path, data)
    job_id = fetched(box, service, place, source(cloud, path.replace(" ", "%20")), data)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert box.destination.holds(f"{place}/f") == data
    assert compared(service, job_id) == "size and adler32"
    readers = {asked["agent"].partition("/")[0] for asked in cloud.requests(path) if asked["method"] == "GET"}
    assert readers == {"xrootd-tpc"}
    again = fetched(box, service, place, source(cloud, path.replace(" ", "%20")), data)
    assert service.finished(again)["job_state"] == "FINISHED"
    assert service.why(again)[0]["attempts"][0]["outcome"] == "EXISTED"
    require_no_secret(box, service)


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a41_a_storage_element_sends_to_s3(box: Box, service: Service, cloud: S3, place: str, size: int) -> None:
    path, data = f"/lake{place}/object", os.urandom(size)
    job_id = sent(box, service, place, source(cloud, path), data)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert cloud.holds(path) == data
    assert compared(service, job_id) == "size and crc32c"
    writers = {asked["agent"].partition("/")[0] for asked in cloud.requests(path) if asked["method"] == "PUT"}
    assert writers == {"xrootd-tpc"}
    again = sent(box, service, place, source(cloud, path), data)
    assert service.finished(again)["job_state"] == "FINISHED"
    assert service.why(again)[0]["attempts"][0]["outcome"] == "EXISTED"
    require_no_secret(box, service)


def test_a41_what_lies_in_s3_is_replaced_only_if_it_may_be(box: Box, service: Service, cloud: S3, place: str) -> None:
    path, data = f"/lake{place}/object", os.urandom(5000)
    cloud.put(path, b"other")
    job_id = sent(box, service, place, source(cloud, path), data, overwrite=False)
    assert "Destination file exists" in reason(service, job_id)
    assert cloud.holds(path) == b"other"
    assert service.finished(sent(box, service, place, source(cloud, path), data))["job_state"] == "FINISHED"
    assert cloud.holds(path) == data


def test_a41_the_etag_is_compared_with_an_md5(box: Box, service: Service, cloud: S3, place: str) -> None:
    path, data = f"/lake{place}/object", b"hello"
    md5 = "5d41402abc4b2a76b9719d911017c592"
    job_id = sent(box, service, place, source(cloud, path), data, checksum=f"MD5:{md5}")
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert compared(service, job_id) == "size and md5"
    wrong = sent(box, service, place, source(cloud, f"{path}2"), data, checksum=f"MD5:{md5[::-1]}")
    assert "[checksum]" in reason(service, wrong)
    assert cloud.holds(f"{path}2") is None, "what is wrong is removed"


def test_a41_a_wrong_source_is_not_sent(box: Box, service: Service, cloud: S3, place: str) -> None:
    path = f"/lake{place}/object"
    job_id = sent(box, service, place, source(cloud, path), b"hello", checksum="ADLER32:00000001")
    assert reason(service, job_id).startswith("SOURCE [checksum]")
    assert cloud.holds(path) is None


def test_a41_faults_of_s3_are_told_of_the_right_side(box: Box, service: Service, cloud: S3, place: str) -> None:
    cloud.put(f"/lake{place}/object", b"hello")
    missing = fetched(box, service, place, source(cloud, f"/lake{place}/none"), b"hello")
    assert reason(service, missing).startswith("SOURCE [source]")
    wrong_key = fetched(box, service, place, source(cloud, f"/wrong{place}/object"), b"hello")
    assert reason(service, wrong_key).startswith("SOURCE [auth]")
    no_bucket = sent(box, service, place, source(cloud, f"/nowhere{place}/object"), b"hello")
    told = reason(service, no_bucket)
    assert told.startswith("DESTINATION [destination]")
    assert "NoSuchBucket" in told
    closed = sent(box, service, place, source(cloud, f"/wrong{place}/object"), b"hello")
    assert reason(service, closed).startswith("DESTINATION [auth]")
    require_no_secret(box, service, "another key")


def test_a41_urls_that_rucio_signs_open_s3_without_the_facilitys_key(
    box: Box, service: Service, cloud: S3, place: str
) -> None:
    path, data = f"/theirs{place}/object", os.urandom(5000)
    job_id = sent(box, service, place, cloud.signed("PUT", path), data)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert cloud.holds(path) == data
    assert "checked at the source only" in compared(service, job_id)
    url = cloud.signed("GET", path)
    job_id = fetched(box, service, f"{place}/back", url, data)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert box.destination.holds(f"{place}/back/f") == data
    assert service.why(job_id)[0]["source"] == url.partition("?")[0]
    late = fetched(box, service, f"{place}/late", cloud.signed("GET", path, life_s=-60), data)
    assert reason(service, late).startswith("SOURCE [auth]")
    late = sent(box, service, place, cloud.signed("PUT", f"{path}2", life_s=-60), data)
    assert reason(service, late).startswith("DESTINATION [auth]")
    file = box.file(f"{place}/f", data) | {"destinations": [cloud.signed("PUT", f"{path}2")]}
    reply = service.request("POST", "/jobs", {"files": [file], "params": {"overwrite": False}})
    assert (reply.status, "does not tell whether a file is there" in reply.body["message"]) == (400, True)
    require_no_secret(box, service)


def test_a41_two_signed_urls_of_one_object_are_one_destination(
    box: Box, service: Service, cloud: S3, place: str
) -> None:
    path = f"/lake{place}/object"
    files = [
        box.file(f"{place}/{number}", b"x") | {"destinations": [cloud.signed("PUT", path, life_s=number)]}
        for number in (600, 601)
    ]
    reply = service.request("POST", "/jobs", {"files": files})
    assert (reply.status, "the same destination twice" in str(reply.body)) == (400, True)
    assert "X-Amz-Signature" not in f"{reply.body}{service.log}"


@pytest.mark.parametrize(
    ("sources", "destination", "groups", "said"),
    [
        (["/lake/f"], "/lake/g", ["/escape/cms"], "neither end can copy by itself"),
        ([], "/archive/f", ["/escape/cms"], "no store that files may be copied into"),
        ([], "/elsewhere/f", ["/escape/cms"], "no store that files may be copied into"),
        ([], "/lake/f", ["/escape/atlas"], "nothing opens the store cloud for you"),
        (["/lake/f"], "", ["/escape/atlas"], "nothing opens the store cloud for you"),
        (["/outside/f"], "", ["/escape/cms"], "the source is at a private address"),
    ],
)
def test_a41_what_may_not_be_is_refused_with_the_remedy(
    box: Box, service: Service, cloud: S3, *, sources: list[str], destination: str, groups: list[str], said: str
) -> None:
    token = box.issuer.token("127.0.0.2", "fts", subject="dave", **{"wlcg.groups": groups})
    file = box.file("/lake/cms/refused", b"x", sources=[source(cloud, each) for each in sources] or None)
    if sources:
        file |= {"source_tokens": [None]}
    if destination:
        file |= {"destinations": [source(cloud, destination)], "destination_tokens": [None]}
    reply = service.request("POST", "/jobs", {"files": [file]}, token=token)
    assert reply.status == 400, reply.body
    assert said in reply.body["message"]


def test_a41_no_token_of_the_lake_goes_to_a_store(box: Box, service: Service, cloud: S3) -> None:
    token = box.issuer.token("127.0.0.2", "fts", subject="dave", **{"wlcg.groups": ["/escape/atlas"]})
    file = box.file("/lake/cms/refused", b"x", sources=[source(cloud, "/lake/f")]) | {"source_tokens": [token]}
    reply = service.request("POST", "/jobs", {"files": [file]}, token=token)
    assert (reply.status, "nothing opens the store cloud for you" in reply.body["message"]) == (400, True)


def test_a41_nobody_gets_at_an_object_without_a_ticket(service: Service) -> None:
    for method in ("GET", "PUT"):
        assert service.request(method, "/signed/1").status == 401
