"""A real element behind the relay: same bytes, verified by the address where it is seen, and counted."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from boathouse.lake.routing import through_cache

SEEN, CACHE = "NORTH>SOUTH-DISK", "NORTH-CACHE"
BLOCK_BYTES = 524_288
"""The default of `block_size`."""
TLS_BYTES = 60_000
"""What handshakes, records and requests may take beside the file."""


def crossed(box, start="SOUTH", end="NORTH") -> int:
    """Bytes that have come over the link from one site to the other, of SOUTH-DISK."""
    text = box.http("GET", box.context.url("network") + "/metrics").text
    name = f'boathouse_network_bytes_total{{from="{start}",to="{end}",element="SOUTH-DISK"}}'
    found = re.search(rf"^{re.escape(name)} (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def test_a_reader_far_away_gets_the_same_bytes_from_the_element_s_own_certificate(box, fresh_path, content, tmp_path):
    box.put("SOUTH-DISK", fresh_path, content)
    token = box.token("storage.read:/lake/cms", "SOUTH-DISK")
    assert urlsplit(box.url(SEEN, "")).hostname != urlsplit(box.url("SOUTH-DISK", "")).hostname
    before = crossed(box)
    # Both clients verify that the certificate is one for the host of the URL.
    assert box.http("GET", box.url(SEEN, fresh_path), token).body == content
    over_https = crossed(box)
    assert len(content) <= over_https - before <= len(content) + TLS_BYTES
    url = f"{box.context.url(f'{SEEN}.root', 'roots')}/{fresh_path}"
    copied = box.client("xrdcp", "-s", url, str(tmp_path / "copy"), token=token)
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "copy").read_bytes() == content
    assert len(content) <= crossed(box) - over_https <= len(content) + TLS_BYTES


def test_what_is_written_far_away_goes_the_other_way(box, fresh_path, content):
    token = box.token("storage.modify:/lake/cms storage.read:/lake/cms", "SOUTH-DISK")
    before = crossed(box, "NORTH", "SOUTH")
    assert box.http("PUT", box.url(SEEN, fresh_path), token, content).status == 201
    assert len(content) <= crossed(box, "NORTH", "SOUTH") - before <= len(content) + TLS_BYTES
    assert box.http("GET", box.url("SOUTH-DISK", fresh_path), token).body == content


def test_a_token_for_another_element_opens_nothing_there_either(box, fresh_path):
    box.put("SOUTH-DISK", fresh_path, b"content")
    token = box.token("storage.read:/", "NORTH-DISK")
    assert box.http("GET", box.url(SEEN, fresh_path), token).status == 403


def far_through_the_cache(box, path) -> str:
    """The https URL by which the lake client reads a file of SOUTH-DISK through the cache."""
    cache = next(each for each in box.plan.endpoints.caches if each.name == CACHE)
    replica = f"{box.context.url('SOUTH-DISK.root', 'root')}/{path}"
    return through_cache(cache, [replica], box.plan.endpoints)[1]


def test_a70_a_file_comes_over_the_distance_once_however_often_the_cache_is_asked(box, fresh_path, content):
    box.put("SOUTH-DISK", fresh_path, content)
    url, token = far_through_the_cache(box, fresh_path), box.token("storage.read:/lake/cms", "SOUTH-DISK", CACHE)
    before = crossed(box)
    assert box.http("GET", url, token).body == content
    cold = crossed(box)
    assert len(content) <= cold - before <= len(content) + TLS_BYTES
    for _ in range(3):
        assert box.http("GET", url, token).body == content
    assert crossed(box) - cold <= TLS_BYTES


def test_a70_who_reads_a_part_brings_its_blocks_and_no_others(box, fresh_path):
    content = os.urandom(16 * BLOCK_BYTES)
    box.put("SOUTH-DISK", fresh_path, content)
    url, token = far_through_the_cache(box, fresh_path), box.token("storage.read:/lake/cms", "SOUTH-DISK", CACHE)
    before = crossed(box)
    first = 5 * BLOCK_BYTES - 50
    part = box.http("GET", url, token, Range=f"bytes={first}-{first + 99}")
    assert part.body == content[first : first + 100]
    assert 2 * BLOCK_BYTES <= crossed(box) - before <= 2 * BLOCK_BYTES + TLS_BYTES
    assert box.http("GET", url, token).body == content
    assert crossed(box) - before <= len(content) + 2 * TLS_BYTES
