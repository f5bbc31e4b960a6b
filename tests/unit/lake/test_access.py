from __future__ import annotations

from boathouse.lake.catalogue import Rse


def protocol(scheme: str, prefix: str = "/lake/", **operations: int) -> dict[str, object]:
    return {"scheme": scheme, "hostname": "h", "port": 1, "prefix": prefix, "domains": {"wan": operations, "lan": {}}}


def test_a10_the_smallest_priority_number_wins() -> None:
    rse = Rse(
        "A",
        deterministic=True,
        volatile=False,
        writable=True,
        algorithm="hash",
        protocols=(protocol("davs", delete=1, third_party_copy_read=1), protocol("https", read=1, write=2, delete=2)),
    )
    assert rse.base("write") == "https://h:1/lake"
    assert rse.base("delete") == "https://h:1/lake"
    assert rse.base("read", ("root",)) is None
