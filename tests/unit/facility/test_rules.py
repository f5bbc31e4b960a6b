"""Each rule between settings, with the smallest file that breaks it."""

from __future__ import annotations

import pytest

from boathouse.facility import rules

from .conftest import GOOD, Faults

_AAI = "issuers:\n  aai: {url: https://aai.example, paths: [/lake/cms]"
_LOGIN = "identity_providers:\n  aai: {url: https://aai.example, client_id: lake"

_CLIENT = "{id: x, secret_file: /x}"
_EXTERNAL = (
    "services:\n  issuer: {url: https://iam.example, client_id: x, "
    f"rucio: {_CLIENT}, transfers: {_CLIENT}, cache: {_CLIENT}, operator: {_CLIENT}}}"
)

_STORE = "stores:\n  cloud: {url: s3s://s3.example/bucket, user: k, secret_file: /k"

_AAA = "federations:\n  aaa: {url: roots://aaa.example, token_file: /t, rights: {cms: [/store]}"
_FOREIGN = {"sites:": f"{_AAA}}}\nsites:", "[CNAF-STORM]}": "lake, mode: translating, federation: aaa}"}


def _foreign(**changes: str) -> str:
    """A facility whose cache stands before a federation, with some words replaced by others."""
    text = GOOD
    for old, new in (_FOREIGN | {"cms: {}": "cms: {}\n  magic: {embargoed: true}"}).items():
        text = text.replace(old, new, 1)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    return text


_TWO_SITES = "  PIC: {}\nnetwork:\n  links:\n    pic: {between: [CNAF, PIC], "

_BROKEN = [
    ("link_ends", "groups:", f"{_TWO_SITES.replace('PIC],', 'PIK],')}rtt: 20 ms}}\ngroups:", "there is no site 'PIK'"),
    (
        "link_ends",
        "groups:",
        f"{_TWO_SITES.replace('PIC],', 'CNAF],')}rtt: 20 ms}}\ngroups:",
        "link pic does not stand between two sites",
    ),
    (
        "link_ends",
        "groups:",
        f"{_TWO_SITES}rtt: 20 ms}}\n    other: {{between: [PIC, CNAF]}}\ngroups:",
        "links pic and other stand between the same sites",
    ),
    (
        "bounds",
        "groups:",
        f"{_TWO_SITES}rtt: 2 s}}\ngroups:",
        "a round trip takes too long: clients would give up before they are connected",
    ),
    ("bounds", "groups:", f"{_TWO_SITES}bandwidth: 1 kbit/s}}\ngroups:", "too little bandwidth"),
    ("bounds", "groups:", "network: {window: 1 kB}\ngroups:", "the window is out of bounds"),
    (
        "bounds",
        "groups:",
        "".join(f"  S{number}: {{}}\n" for number in range(246)) + "network: {}\ngroups:",
        "too many sites to be told apart by their addresses",
    ),
    (
        "far_addresses",
        "groups:",
        "network: {default: {rtt: 20 ms}}\nservices: {address: 127.10.0.1}\ngroups:",
        "an address of the network between the sites",
    ),
    ("stores", "groups:", f"{_STORE}, groups: [atlas]}}\ngroups:", "there is no group 'atlas'"),
    ("stores", "groups:", f"{_STORE}}}\n  b: {{url: davs://s3.example/bucket/}}\ngroups:", "cloud and b are one place"),
    ("stores", "groups:", f"{_STORE.replace('/bucket', '')}}}\ngroups:", "cloud has no bucket"),
    (
        "stores",
        "groups:",
        f"{_STORE.replace('user: k, ', '')}}}\ngroups:",
        "nobody can get into cloud with half of a credential",
    ),
    (
        "stores",
        "groups:",
        "stores:\n  cloud: {url: s3s://s3.example/bucket, groups: [cms]}\ngroups:",
        "cloud has no secret to lend to groups",
    ),
    (
        "elsewhere",
        "groups:",
        f"{_AAI}}}\n{_LOGIN.replace('aai.ex', 'bbi.ex')}}}\ngroups:",
        "'aai' is two parties",
    ),
    (
        "elsewhere",
        "groups:",
        f"{_AAI}}}\n  bbi: {{url: https://aai.example, paths: [/lake/cms]}}\ngroups:",
        "aai and bbi have one URL",
    ),
    (
        "known_elsewhere",
        "{groups: [cms]}",
        "{identities: {aai: x}}",
        "there is no issuer or identity provider 'aai'",
    ),
    (
        "known_elsewhere",
        "  alice: {groups: [cms]}",
        f"  alice: {{identities: {{aai: x}}}}\n  bob: {{identities: {{aai: x}}}}\n{_AAI}}}",
        "alice and bob are one person there",
    ),
    (
        "accounts",
        "groups:",
        f"{_AAI}, accounts: {{/escape/a: nobody}}}}\ngroups:",
        "there is no group or user 'nobody'",
    ),
    ("accounts", "groups:", f"{_AAI}, accounts: {{/other/a: cms}}}}\ngroups:", "/other/a is no group of aai's VO"),
    (
        "paths",
        "groups:",
        f"{_AAI.replace('/lake/cms', '/lake')}}}\ngroups:",
        "/lake is not in the directory of a scope",
    ),
    (
        "paths",
        "groups:",
        f"{_AAI.replace('/lake/cms', '/lake/user/alice')}}}\ngroups:",
        "/lake/user/alice is not in the directory of a scope",
    ),
    (
        "paths",
        "groups:",
        f"{_AAI}, base_path: /lake/cms/a}}\ngroups:",
        "/lake/cms cannot be told by aai's scopes",
    ),
    (
        "admitted_groups",
        "groups:",
        f"{_LOGIN}, admit: {{all: {{claim: a, value: b, groups: [atlas]}}}}}}\ngroups:",
        "there is no group 'atlas'",
    ),
    ("admitted_groups", "groups:", f"{_LOGIN}, scopes: [email]}}\ngroups:", "aai is not asked who signs in"),
    ("login_issuer", "groups:", "services: {login_at: aai}\ngroups:", "there is no issuer 'aai'"),
    ("login_issuer", "groups:", f"services: {{login_at: aai}}\n{_AAI}}}\ngroups:", "nobody can log in at aai"),
    ("elsewhere", "groups:", f"{_AAI.replace('aai:', 'issuer:')}}}\ngroups:", "'issuer' cannot be a name in issuers"),
    ("external_issuer", "groups:", f"{_EXTERNAL}\ngroups:", "nobody knows who alice is at the issuer"),
    (
        "external_issuer",
        "groups:",
        f"{_EXTERNAL}\n{_AAI}}}\ngroups:",
        "issuers want its exchange of other issuers' tokens, and services.issuer stands for the facility's own issuer",
    ),
    (
        "external_issuer",
        "groups:",
        f"{_EXTERNAL}\n  issuer_port: 20000\ngroups:",
        "no issuer of the facility's own listens",
    ),
    ("key_refresh", "groups:", f"{_AAI}, key_refresh: 0}}\ngroups:", "key_refresh is out of bounds"),
    (
        "some_storage",
        "    storage:\n      CNAF-STORM: {qos: FAST}\n    caches:\n",
        "    caches:\n",
        "no site has storage",
    ),
    ("element_names", "CNAF-XCACHE:", "CNAF-STORM:", "two storage elements or caches are called CNAF-STORM"),
    ("element_names", "CNAF-XCACHE:", "CNAF--XCACHE:", "'CNAF--XCACHE' cannot be an RSE name"),
    ("site_names", "groups:", "  Cnaf: {}\ngroups:", "sites CNAF and Cnaf differ in capitals only"),
    ("upstreams", "[CNAF-STORM]", "[DESY-DCACHE]", "there is no storage element or cache 'DESY-DCACHE'"),
    (
        "upstreams",
        "[CNAF-STORM]}",
        "[CNAF-STORM, OTHER]}\n      OTHER: {level: region}",
        "CNAF-XCACHE has a cache and something else behind it",
    ),
    ("modes", "[CNAF-STORM]}", "[CNAF-STORM], group: cms}", "CNAF-XCACHE is no cache of a group"),
    ("modes", "[CNAF-STORM]}", "[CNAF-STORM], mode: group}", "CNAF-XCACHE is the cache of no group"),
    ("modes", "[CNAF-STORM]}", "[CNAF-STORM], mode: group, group: csm}", "there is no group 'csm'"),
    (
        "modes",
        GOOD,
        GOOD.replace("[CNAF-STORM]}", "[CNAF-STORM], mode: group, group: cms, networks: [10.0.0.0/24]}").replace(
            "cms: {}", "cms: {embargoed: true}"
        ),
        "CNAF-XCACHE would open the embargoed data of cms to a network",
    ),
    (
        "modes",
        GOOD,
        GOOD.replace("[CNAF-STORM]}", "[CNAF-STORM], mode: group, group: cms}").replace(
            "scopes:\n  cms: {group: cms}", "scopes: {}"
        ),
        "there is nothing that CNAF-XCACHE may give",
    ),
    (
        "networks",
        "[CNAF-STORM]}",
        "[CNAF-STORM], mode: group, group: cms, networks: ['fd00::/8']}",
        "CNAF-XCACHE has an IPv4 address only",
    ),
    (
        "networks",
        "[CNAF-STORM]}",
        "[CNAF-STORM], mode: group, group: cms, networks: [10.0.0.0/15]}",
        "CNAF-XCACHE would have to know too many addresses",
    ),
    (
        "group_behind",
        "[CNAF-STORM]}",
        "[OTHER]}\n      OTHER: {mode: group, group: cms}",
        "CNAF-XCACHE reads from OTHER, which gives what one group may read",
    ),
    (
        "group_behind",
        GOOD,
        _foreign(**{"      CNAF-XCACHE:": "      A: {upstreams: [CNAF-XCACHE]}\n      CNAF-XCACHE:"}),
        "A reads from CNAF-XCACHE, which gives what its federation's table says",
    ),
    ("modes", GOOD, _foreign(**{", federation: aaa": ""}), "CNAF-XCACHE stands before no federation"),
    ("modes", GOOD, _foreign(**{"federation: aaa": "federation: aab"}), "there is no federation 'aab'"),
    (
        "modes",
        GOOD,
        _foreign(**{"upstreams: lake": "upstreams: [CNAF-STORM]"}),
        "CNAF-XCACHE would stand before a federation and this facility's storage",
    ),
    (
        "modes",
        GOOD,
        _foreign(**{"federation: aaa": "federation: aaa, group: cms"}),
        "CNAF-XCACHE is no cache of a group",
    ),
    (
        "modes",
        GOOD,
        _foreign(**{"mode: translating, ": ""}),
        "CNAF-XCACHE would read from aaa with nobody's rights",
    ),
    ("credentials", GOOD, _foreign(**{"token_file: /t, ": ""}), "it is not clear which credential aaa is shown"),
    (
        "credentials",
        GOOD,
        _foreign(
            **{"token_file: /t": "token_file: /t, client: {issuer: 'https://x', id: a, secret_file: /s, audience: b}"}
        ),
        "it is not clear which credential aaa is shown",
    ),
    (
        "credentials",
        "groups:",
        f"{_EXTERNAL}\n"
        + _AAA.replace("token_file: /t", "client: {issuer: 'https://iam.example', id: a, secret_file: /s, audience: b}")
        + "}\ngroups:",
        "aaa would be shown tokens of this facility",
    ),
    ("authorities", GOOD, _foreign(**{"roots:": "root:"}), "aaa would be shown a token without TLS"),
    ("authorities", GOOD, _foreign(**{"token_file:": "proxy_file:"}), "nobody could verify the servers of aaa"),
    (
        "authorities",
        GOOD,
        _foreign(**{"token_file:": "ca_directory: /d, ca_file: /c, proxy_file:"}),
        "it is not clear whose certificates aaa has",
    ),
    ("places", GOOD, _foreign(**{"aaa.example": "127.0.1.11"}), "aaa is this facility's own: CNAF-STORM"),
    ("places", GOOD, _foreign(**{"aaa.example": "127.1.1.11:1094"}), "aaa is this facility's own: CNAF-STORM"),
    ("places", GOOD, _foreign(**{"aaa.example": "aaa.example:99999"}), "there is no such port"),
    (
        "places",
        GOOD,
        _foreign(**{"aaa.example": "192.0.2.7", "FAST}": "FAST, address: 192.0.2.7}"}),
        "aaa is this facility's own: CNAF-STORM",
    ),
    ("rights", GOOD, _foreign(**{"rights: {cms:": "rights: {csm:"}), "there is no group 'csm'"),
    ("rights", GOOD, _foreign(**{"[/store]": "[]"}), "cms may read nothing of aaa"),
    ("rights", GOOD, _foreign(**{"{cms: [/store]}": "{}"}), "nobody may read anything of aaa"),
    *(
        ("rights", GOOD, _foreign(**change), "what magic may read of aaa is embargoed, and others may read it too")
        for change in (
            {"cms: [/store]": "cms: [/store], magic: [/store]"},
            {"cms: [/store]": "cms: [/store], magic: [/other, /store/magic]"},
            {"cms: {}": "cms: {}\n  everybody: {}", "{cms: [/store]}": "{everybody: [/store], magic: [/store/magic]}"},
            {
                "{cms: [/store]}": "{magic: [/store/magic]}",
                "\nsites:": "\n  same: {url: roots://aaa.example:1094, token_file: /t, everybody: [/store]}\nsites:",
            },
            {"cms: [/store]": "cms: [/store/magic/open], magic: [/store/magic]"},
            {"rights: {cms: [/store]": "everybody: [/store], rights: {magic: [/store/magic]"},
        )
    ),
    ("chains", "[CNAF-STORM]", "[CNAF-XCACHE]", "cache CNAF-XCACHE stands behind itself"),
    (
        "chains",
        "[CNAF-STORM]}",
        "[OTHER]}\n      OTHER: {upstreams: [THIRD]}\n      THIRD: {upstreams: [OTHER]}",
        "cache OTHER stands behind itself",
    ),
    (
        "chains",
        "[CNAF-STORM]}",
        "[OTHER], level: region}\n      OTHER: {level: site}",
        "CNAF-XCACHE, of level region, reads from OTHER, of level site",
    ),
    (
        "chains",
        "[CNAF-STORM]}",
        "[OTHER], level: node}\n      OTHER: {level: node}",
        "CNAF-XCACHE, of level node, reads from OTHER, of level node",
    ),
    ("upstreams", "[CNAF-STORM]", "[CNAF-STORM, CNAF-STORM]", "CNAF-STORM stands twice in upstreams"),
    ("upstreams", "[CNAF-STORM]", "[]", "cache CNAF-XCACHE has no upstream"),
    ("protocols", "{qos: FAST}", "{qos: FAST, protocols: [root]}", "CNAF-STORM lacks https and davs"),
    ("protocols", "{qos: FAST}", "{qos: FAST, protocols: []}", "CNAF-STORM lacks https and davs"),
    (
        "protocols",
        "{qos: FAST}",
        "{qos: FAST, protocols: [https, davs, https]}",
        "a protocol of CNAF-STORM stands twice",
    ),
    ("priorities", "{qos: FAST}", "{qos: FAST, priorities: {read: [root]}}", "CNAF-STORM lacks https for read"),
    ("priorities", "{qos: FAST}", "{qos: FAST, priorities: {lan_read: []}}", "CNAF-STORM lacks https for read"),
    ("priorities", "{qos: FAST}", "{qos: FAST, priorities: {delete: [https]}}", "CNAF-STORM lacks davs for delete"),
    (
        "priorities",
        "{qos: FAST}",
        "{qos: FAST, priorities: {copy_read: [root]}}",
        "root is not for copy_read at CNAF-STORM",
    ),
    (
        "priorities",
        "{qos: FAST}",
        "{qos: FAST, protocols: [https, davs], priorities: {read: [root, https]}}",
        "root is not for read at CNAF-STORM",
    ),
    (
        "priorities",
        "{qos: FAST}",
        "{qos: FAST, priorities: {read: [https, https]}}",
        "a protocol of CNAF-STORM stands twice for read",
    ),
    ("sizes", "{qos: FAST}", "{qos: FAST, capacity: 0}", "CNAF-STORM has no capacity"),
    ("sizes", "[CNAF-STORM]}", "lake, block_size: 5000}", "blocks of CNAF-XCACHE are not whole pages"),
    ("sizes", "[CNAF-STORM]}", "lake, block_size: 0}", "blocks of CNAF-XCACHE are not whole pages"),
    ("sizes", "[CNAF-STORM]}", "lake, size: 1 kB}", "CNAF-XCACHE holds not even one block"),
    ("sizes", "[CNAF-STORM]}", "lake, memory: 10 MB}", "too little memory for CNAF-XCACHE"),
    (
        "prefixes",
        "{qos: FAST}",
        "{qos: FAST}\n      B: {qos: B, prefix: /x}",
        "B keeps its files elsewhere than CNAF-STORM",
    ),
    ("attributes", "{qos: FAST}", "{qos: FAST, attributes: {QOS: B}}", "attribute QOS is set by Boathouse"),
    (
        "attributes",
        "{qos: FAST}",
        "{qos: FAST, attributes: {a: b c}}",
        "an attribute cannot be used in an RSE expression",
    ),
    ("memberships", "[cms]", "[cmss]", "there is no group 'cmss'"),
    ("memberships", "[cms]", "[cms, cms]", "alice is twice in group cms"),
    ("scope_groups", "group: cms", "group: atlas", "there is no group 'atlas'"),
    ("scope_names", "cms: {group", "user.alice: {group", "scope user.alice is a user's own"),
    ("scope_names", "scopes:", "scopes:\n  CMS: {group: cms}", "scopes CMS and cms differ in capitals only"),
    (
        "scope_places",
        "scopes:",
        "scopes:\n  user: {group: cms}",
        "scope user.alice lies in the directory of scope user",
    ),
    (
        "scope_places",
        "scopes:",
        "scopes:\n  group.x: {group: cms}\n  group.x.y: {group: cms}",
        "scope group.x.y lies in the directory of scope group.x",
    ),
    ("account_names", "alice:", "cms:", "'cms' is a user and a group"),
    ("account_names", "alice:", "root:", "'root' is an account of the lake itself"),
    ("account_names", "alice:", f"{'a' * 21}:", f"login {'a' * 21} is too long"),
    ("listening_addresses", "FAST}", "FAST, address: 0.0.0.0}", "not an address that a server can be reached by"),
    ("listening_addresses", "FAST}", "FAST, address: '::1'}", "not an address that a server can be reached by"),
    ("listening_addresses", "FAST}", "FAST, address: 127.0.0.1}", "CNAF-STORM has the address of the services"),
    (
        "listening_addresses",
        "FAST}",
        "FAST, address: 127.0.3.1}\n      B: {qos: B, address: 127.0.3.1}",
        "B has the address of CNAF-STORM",
    ),
    (
        "service_ports",
        "groups:",
        "services: {issuer_port: 2000, transfers_port: 2000}\ngroups:",
        "issuer_port and transfers_port are the same",
    ),
    ("lifetimes", "groups:", "services: {token_lifetime: 1 s}\ngroups:", "token_lifetime is out of bounds"),
    ("lifetimes", "groups:", "services: {certificate_lifetime: 1 s}\ngroups:", "certificate_lifetime is out of bounds"),
]


@pytest.mark.parametrize(("rule", "old", "new", "what"), _BROKEN, ids=[f"{row[0]}-{row[2]}" for row in _BROKEN])
def test_a_broken_rule_is_told(rule: str, old: str, new: str, what: str, faults: Faults) -> None:
    assert old in GOOD
    problems = {problem.what: problem for problem in faults(GOOD.replace(old, new, 1))}
    assert what in problems, rule
    assert problems[what].remedy
    assert problems[what].where


def test_every_rule_has_a_test() -> None:
    assert {row[0] for row in _BROKEN} == {rule.__name__ for rule in rules.RULES}


def test_a_good_file_breaks_none(faults: Faults) -> None:
    assert faults(GOOD) == []


def test_a_cache_before_a_federation_breaks_none(faults: Faults) -> None:
    """Directories that begin alike do not hold each other; groups without an embargo may share one."""
    assert faults(_foreign()) == []
    assert faults(_foreign(**{"cms: [/store]": "cms: [/store], magic: [/storex]"})) == []
    assert faults(_foreign(**{"rights:": "everybody: [/store/mc], rights:"})) == []
    assert faults(_foreign(**{"roots:": "root:", "token_file:": "ca_directory: /d, proxy_file:"})) == []


@pytest.mark.parametrize("path", ["/", "/store/../x", "/store/", "//store", "/a b", "store", "'/a\n/b'"])
def test_a_directory_of_a_federation_is_a_plain_path(path: str, faults: Faults) -> None:
    problems = [problem.what for problem in faults(_foreign(**{"[/store]": f"[{path}]"}))]
    assert problems == ["wrong value for federations.aaa.rights.cms.0"]
    text = _foreign(**{"rights: {cms: [/store]}": f"everybody: [{path}]"})
    assert [problem.what for problem in faults(text)] == ["wrong value for federations.aaa.everybody.0"]


@pytest.mark.parametrize("url", ["https://aaa.example", "roots://aaa.example/store", "roots://u@a", "roots://a\\nb"])
def test_a_federation_is_a_server(url: str, faults: Faults) -> None:
    (problem,) = faults(_foreign(**{"roots://aaa.example": f'"{url}"'}))
    assert problem.expected == "`roots://HOST:PORT`, or `root://HOST:PORT` for X.509"


def test_a_name_that_is_nearly_right_is_offered(faults: Faults) -> None:
    (problem,) = faults(GOOD.replace("[CNAF-STORM]", "[CNAF-STROM]"))
    assert problem.remedy == "did you mean 'CNAF-STORM'?"


def test_an_address_beyond_loopback_is_allowed_where_the_file_says_so(faults: Faults) -> None:
    assert faults(GOOD.replace("FAST}", "FAST, address: 192.0.2.7}")) == []
