"""What is counted, and what is told of it."""

from __future__ import annotations

import time

import pytest

from boathouse.apps.caches.cinfo import Kept
from boathouse.apps.caches.gstream import Close, Datagram
from boathouse.apps.caches.ledger import Ledger
from boathouse.apps.caches.overview import Overview
from boathouse.apps.caches.scrubber import Scrubber
from boathouse.apps.caches.settings import Cache
from boathouse.errors import ServiceError

SITE, REGION = "127.0.1.10:1094", "127.0.1.11:1094"
DOORS = frozenset({SITE, REGION})
ELEMENT = "127.0.1.1:1094"


def close(path="/lake/cms/ab/cd/f", *, hit=0, missed=0, bypassed=0, written=None, origins=(ELEMENT,)):
    return Close(
        name=path,
        size_bytes=1000,
        opened_at=1,
        closed_at=2_000_000_000,
        hit_bytes=hit,
        missed_bytes=missed,
        bypassed_bytes=bypassed,
        written_bytes=missed if written is None else written,
        prefetched_bytes=0,
        checksum_errors=0,
        origins=origins,
    )


def told(*closes, number=1, began_at=5, unreadable=0):
    return Datagram(began_at, number, closes, unreadable)


def caches(tmp_path):
    return [
        Cache(
            name=name,
            site="NORTH",
            level=name.lower(),
            address=door.partition(":")[0],
            root_port=1094,
            stream_port=2000,
            data=tmp_path / name,
            key_cache=tmp_path,
            size_bytes=10_000,
            scrub_interval_s=3600,
        )
        for name, door in (("SITE", SITE), ("REGION", REGION))
    ]


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "counts.sqlite", ["/lake"])
    yield made
    made.close()


def kept(path, size=100):
    return Kept(path, size, size, 1, 1.0, complete=True)


def test_a71_no_byte_is_counted_twice_where_caches_stand_behind_each_other(ledger, tmp_path):
    """A cold read, a warm one, one after the site's cache lost the file, and one of a reader of the region's cache."""
    cold, warm = {"missed": 1000}, {"hit": 1000}
    ledger.add("SITE", told(close(**cold, origins=(REGION,)), number=1), DOORS)
    ledger.add("REGION", told(close(**cold), number=1), DOORS)
    ledger.add("SITE", told(close(**warm, origins=(REGION,)), number=2), DOORS)
    ledger.add("SITE", told(close(**cold, origins=(REGION,)), number=3), DOORS)
    ledger.add("REGION", told(close(**warm), number=2), DOORS)
    ledger.add("REGION", told(close(**warm), number=3), DOORS)
    document = Overview(caches(tmp_path), ledger).document(lambda scope: scope == "cms")
    site, region = document["caches"]
    assert (site["served_bytes"], site["fetched_bytes"], site["saved_bytes"]) == (3000, 2000, 1000)
    assert (region["served_bytes"], region["fetched_bytes"], region["saved_bytes"]) == (3000, 1000, 2000)
    assert document["total"] == {
        "to_readers_bytes": 4000,
        "from_elements_bytes": 1000,
        "saved_bytes": 3000,
        "hit_ratio": 0.75,
    }
    assert site["saved_bytes"] + region["saved_bytes"] == document["total"]["saved_bytes"]
    assert site["scopes"]["cms"]["hits"] == 1


def test_a_file_that_is_kept_by_several_names_is_one(ledger):
    """A cache behind another keeps it by the whole path of the request."""
    names = ["/roots:/127.0.1.1:1094/lake/cms/f", "/root:/127.0.1.2:1094/lake/cms/f", "/lake/cms/f"]
    ledger.add("SITE", told(*(close(name, missed=10) for name in names)), DOORS)
    assert ledger.files("SITE", ["/lake/cms/f"])["/lake/cms/f"].served_bytes == 30
    ledger.keeps("SITE", [kept(name) for name in names])
    ledger.keeps("SITE", [kept(names[0])])
    assert ledger.evictions("SITE") == {"cms": {"purged": (2, 200)}}


def test_more_fetched_than_served_is_told_as_it_is(ledger, tmp_path):
    ledger.add("SITE", told(close(missed=10, written=512)), DOORS)
    site = Overview(caches(tmp_path), ledger).document(bool)["caches"][0]
    assert (site["saved_bytes"], site["hit_ratio"]) == (-502, 0.0)


def test_a_cache_is_scrubbed_once_in_its_interval(ledger, tmp_path):
    (site, region) = caches(tmp_path)
    scrubber = Scrubber([site, region], ledger, None, None)
    assert scrubber.is_due(site)
    now = time.time()
    ledger.scrubbed("SITE", now - site.scrub_interval_s / 2, files=1, size_bytes=1, wrong=0, unknown=0)
    assert (scrubber.is_due(site), scrubber.is_due(region)) == (False, True)
    ledger.scrubbed("SITE", now - site.scrub_interval_s, files=1, size_bytes=1, wrong=0, unknown=0)
    assert scrubber.is_due(site)


def test_what_was_counted_is_there_again(tmp_path):
    first = Ledger(tmp_path / "counts.sqlite", ["/lake"])
    first.add("SITE", told(close(missed=7)), DOORS)
    second = Ledger(tmp_path / "counts.sqlite", ["/lake"])
    assert second.scopes("SITE")["cms"].served_bytes == 7
    assert second.files("SITE", ["/lake/cms/ab/cd/f", "/lake/cms/x"]).keys() == {"/lake/cms/ab/cd/f"}
    first.close()
    second.close()


def test_a_file_of_another_program_is_refused(tmp_path):
    (tmp_path / "counts.sqlite").write_bytes(b"something else, and long enough for a header" * 10)
    with pytest.raises(ServiceError, match="cannot be read"):
        Ledger(tmp_path / "counts.sqlite", ["/lake"])


def test_missing_datagrams_are_counted(ledger):
    for number, began_at in ((3, 5), (4, 5), (7, 5), (1, 9), (2, 9)):
        ledger.add("SITE", told(number=number, began_at=began_at), DOORS)
    ledger.refuse("SITE")
    ledger.refuse("SITE", unreadable=True)
    assert ledger.stream("SITE") == {"lost": 4, "refused": 1, "unreadable": 1}


def test_what_went_by_itself_was_purged_and_what_was_asked_for_is_counted_once(ledger):
    ledger.keeps("SITE", [kept("/lake/cms/a"), kept("/lake/cms/b"), kept("/lake/user/alice/c", 50)])

    def while_looking():
        yield kept("/lake/cms/a")
        yield kept("/lake/cms/b")
        ledger.evicted("SITE", "/lake/cms/b", 100, "asked")

    ledger.keeps("SITE", while_looking())
    ledger.keeps("SITE", [kept("/lake/cms/a")])
    assert ledger.evictions("SITE") == {"cms": {"asked": (1, 100)}, "user.alice": {"purged": (1, 50)}}


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/lake/cms/ab/cd/f", "cms"),
        ("/lake/user/alice/ab/cd/f", "user.alice"),
        ("/lake/user.alice/own/f", "user.alice"),
        ("/elsewhere/f", ""),
    ],
)
def test_scopes(ledger, path, scope):
    assert ledger.scope_of(path) == scope


def test_metrics_are_of_scopes_that_the_caller_may_read(ledger, tmp_path):
    ledger.add("SITE", told(close(missed=7), close("/lake/magic/f", missed=9)), DOORS)
    ledger.evicted("SITE", "/lake/magic/f", 9, "asked")
    text = Overview(caches(tmp_path), ledger).metrics(lambda scope: scope == "cms")
    assert 'boathouse_cache_served_bytes_total{cache="SITE",scope="cms"} 7' in text
    assert "magic" not in text
    assert 'boathouse_cache_size_bytes{cache="SITE"} 10000' in text


def test_files_of_another_lake_are_of_no_scope_however_their_paths_begin(tmp_path):
    ledger = Ledger(tmp_path / "counts.sqlite", ["/lake"], outside=["SITE"])
    for name in ("SITE", "REGION"):
        ledger.add(name, told(close(hit=100)), DOORS)
        ledger.evicted(name, "/lake/cms/ab/cd/f", 100, "purged")
    assert [list(ledger.scopes(name)) for name in ("SITE", "REGION")] == [[""], ["cms"]]
    assert [list(ledger.evictions(name)) for name in ("SITE", "REGION")] == [[""], ["cms"]]
    ledger.close()
