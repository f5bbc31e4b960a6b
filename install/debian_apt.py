"""Packages of another Debian suite, by the host's own apt, with state of our own: nothing on the host changes.

The mirror is the one that the host's apt is configured with, its proxies included. Every index is checked against
the keys of the Debian archive, and every package against its index: apt does both, and is never told to trust.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from boathouse.errors import HostError

MIRROR_VARIABLE = "BOATHOUSE_DEBIAN_MIRROR"
"""Names a mirror of the Debian archive where the host's apt knows none."""

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)

_LOCAL = "file:"

_KEYRING_PACKAGE = "debian-archive-keyring"
# Each brings the keys that sign later ones.
_KEYRING_SUITES = ("bullseye", "bookworm", "trixie")
_DEBIAN_SUITES = re.compile(r"(stable|oldstable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)/?")
_COMPRESSIONS = ("xz", "bz2", "lzma", "gz", "lz4", "zst")
# The host's own settings on these would widen the download, or allow unsigned sources.
_NOT_INHERITED = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::Allow")


class SuiteError(HostError):
    """A suite cannot be used: the mirror has none, or its signature is by an unknown key."""


@dataclass(frozen=True)
class Package:
    """One package of a suite, as its signed index describes it."""

    name: str
    version: str
    architecture: str
    section: str
    depends: tuple[str, ...]
    """Names of packages; the first of each set of alternatives."""
    sha256: str
    size: int
    path: str
    """Below the archive's root."""


@dataclass(frozen=True)
class Source:
    """One line of ``sources.list`` or one entry of a ``.sources`` file."""

    uri: str
    suite: str
    components: tuple[str, ...]


def parse_one_line(text: str) -> list[Source]:
    """Entries of a ``sources.list`` (sources.list(5), one-line style)."""
    pattern = re.compile(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)")
    matches = [match for line in text.splitlines() if (match := pattern.match(line))]
    return [Source(match[1], match[2], tuple(match[3].split())) for match in matches]


def parse_deb822(text: str) -> list[Source]:
    """Entries of a ``.sources`` file (sources.list(5), deb822 style)."""
    sources: list[Source] = []
    for fields in parse_stanzas(text):
        lower = {name.lower(): value.split() for name, value in fields.items()}
        if "deb" not in lower.get("types", []) or lower.get("enabled", ["yes"])[0].lower() in {"no", "false", "0"}:
            continue
        sources += [
            Source(uri, suite, tuple(lower.get("components", ())))
            for uri in lower.get("uris", ())
            for suite in lower.get("suites", ())
        ]
    return sources


def parse_stanzas(text: str) -> list[dict[str, str]]:
    """Paragraphs of ``Name: value`` lines with continuation lines; comments are left out."""
    stanzas: list[dict[str, str]] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                fields[name] = f"{fields.get(name, '')}\n{line.strip()}".lstrip("\n")
                continue
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        if fields:
            stanzas.append(fields)
    return stanzas


def host_sources(etc: Path = Path("/etc/apt")) -> list[Source]:
    """What the host's apt is configured with."""
    sources: list[Source] = []
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))):
        if path.is_file() and path.suffix in {".list", ".sources"}:
            text = path.read_text(encoding="utf-8", errors="replace")
            sources += parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text)
    return sources


def debian_mirrors(sources: Iterable[Source]) -> list[str]:
    """Addresses that have a Debian suite's ``main``; others than Debian's archive may be among them."""
    uris = [
        source.uri.rstrip("/")
        for source in sources
        if _DEBIAN_SUITES.fullmatch(source.suite)
        and "main" in source.components
        and not source.uri.startswith(("cdrom:", "file:"))
    ]
    return list(dict.fromkeys(uris))


def parse_debootstrap(script: str, program: str) -> str | None:
    """Debian's default mirror as debootstrap knows it, from its script for ``sid`` and the program itself."""
    match = re.search(r"^\s*default_mirror\s+(\S+)", script, re.MULTILINE) or re.search(
        r"^DEF_MIRROR=\"?([^\"\s]+)", program, re.MULTILINE
    )
    return match[1].rstrip("/") if match and match[1].rstrip("/").endswith("/debian") else None


class Apt:
    """The host's apt with sources, state and configuration of our own.

    Args:
        directory: for all its state; kept, so that a second run need not fetch again.
        architecture: whose packages, in Debian's words; the machine's own if not given.
    """

    def __init__(self, directory: Path, architecture: str | None = None) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise HostError(
                "a newer XRootD is taken from Debian's packages, which needs apt",
                expected="apt-get and dpkg-deb",
                remedy="install XRootD 5.9.3 or later from your distribution",
            )
        self._directory = directory.absolute()
        self.architecture = architecture or self._output(["dpkg", "--print-architecture"])

    def use(self, name: str, sources: str | None = None) -> None:
        """Read the indexes of ``sources`` (text of a ``sources.list``) or, if None, of the host's own sources.

        Args:
            name: keeps the state of each set of sources apart.
            sources: each line names the keys that may sign.

        Raises:
            SuiteError: an index cannot be had or is not signed by a key that the source names.
        """
        state = self._directory / name
        for part in ("lists/partial", "cache/archives/partial", "none"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        if sources is not None:
            (state / "sources.list").write_text(sources, encoding="utf-8")
        configuration = self._configuration(state, sources)
        (state / "apt.conf").write_text(configuration, encoding="utf-8")
        self._environment = {**os.environ, "APT_CONFIG": str(state / "apt.conf"), "LC_ALL": "C.UTF-8"}
        result = self._run(["apt-get", "-q", "update"])
        if result.returncode != 0 and sources is not None:
            said = [line for line in (result.stdout + result.stderr).splitlines() if line[:2] in {"E:", "W:"}]
            raise SuiteError("a package index cannot be used", got="; ".join(said) or result.stderr.strip())

    def packages(self, names: Sequence[str]) -> dict[str, Package]:
        """Packages by name; those that the suite lacks, and virtual ones, are left out."""
        if not names:
            return {}
        text = self._run(["apt-cache", "--no-all-versions", "show", *names]).stdout
        found: dict[str, Package] = {}
        for fields in parse_stanzas(text):
            package = _package(fields)
            found.setdefault(package.name, package)
        return {name: found[name] for name in names if name in found}

    def download(self, packages: Iterable[Package], directory: Path) -> None:
        """Fetch packages into a directory; apt checks each against the signed index.

        Raises:
            HostError: one cannot be fetched, or is not what the index says.
        """
        wanted = [f"{package.name}:{package.architecture}={package.version}" for package in packages]
        wanted = [word.replace(":all=", "=") for word in wanted]
        if wanted:
            result = self._run(["apt-get", "-q", "download", *wanted], cwd=directory)
            if result.returncode != 0:
                raise HostError("a package cannot be fetched", got=result.stderr.strip()[-1000:])

    def copy_index(self, suite: str, archive: Path) -> None:
        """Copy the index of a suite that is in use, as it was fetched, to its place in an archive.

        Args:
            suite: its name.
            archive: root of the archive; what signs the index is copied along.
        """
        target = archive / "dists" / suite
        packages = f"main/binary-{self.architecture}/Packages"
        (target / packages).parent.mkdir(parents=True, exist_ok=True)
        for part in ("InRelease", "Release", "Release.gpg", packages):
            # apt names a file of an index by its URL, with underscores in place of slashes.
            for path in (self._directory / suite / "lists").glob(f"*_dists_{suite}_{part.replace('/', '_')}"):
                shutil.copyfile(path, target / part)

    def _configuration(self, state: Path, sources: str | None) -> str:
        """The host's settings of how to reach its mirrors, and nothing else of the host."""
        dump = self._output(["apt-config", "dump"])
        kept = [
            line for line in dump.splitlines() if line.startswith("Acquire::") and not line.startswith(_NOT_INHERITED)
        ]
        own: dict[str, object] = {
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::State::lists": state / "lists",
            "Dir::Cache": state / "cache",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": state / "none",
            "Dir::Etc::Parts": state / "none",
            "Dir::Etc::Main": "/dev/null",
            "APT::Sandbox::User": pwd.getpwuid(os.geteuid()).pw_name,
            "APT::Architecture": self.architecture,
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
            "Acquire::Retries": "3",
        }
        if sources is not None and _LOCAL in sources:
            # A copy has its indexes unpacked, as the signature vouches for them too; apt is not to ask for others.
            own |= {f"Acquire::CompressionTypes::{name}": "none" for name in _COMPRESSIONS}
        if sources is not None:
            own |= {
                "Dir::Etc::SourceList": state / "sources.list",
                "Dir::Etc::SourceParts": state / "none",
                # One failure is enough: a suite that was read once must not stand in for one that cannot be read.
                "APT::Update::Error-Mode": "any",
            }
        lines = kept + [f'{name} "{value}";' for name, value in own.items()]
        return "\n".join([*lines, f'APT::Architectures {{ "{self.architecture}"; }};', ""])

    def _run(self, command: Sequence[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    @staticmethod
    def _output(command: Sequence[str]) -> str:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        ).stdout.strip()


def _package(fields: Mapping[str, str]) -> Package:
    relations = ", ".join(fields[name] for name in ("Pre-Depends", "Depends") if name in fields)
    names = (re.match(r"[a-z0-9][a-z0-9+.\-]*", relation.strip()) for relation in relations.split(","))
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        section=fields.get("Section", ""),
        depends=tuple(match[0] for match in names if match),
        sha256=fields["SHA256"],
        size=int(fields["Size"]),
        path=fields["Filename"],
    )


def find_mirrors(apt: Apt, scratch: Path) -> list[str]:
    """Mirrors of the Debian archive: the named one, else the host's own, else the one debootstrap defaults to.

    Raises:
        HostError: there is none.
    """
    named = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    mirrors = [named] if named else debian_mirrors(host_sources())
    if mirrors:
        return mirrors
    root = _from_host(apt, "debootstrap", scratch)
    texts = [root / "usr/share/debootstrap/scripts/sid", root / "usr/sbin/debootstrap"]
    script, program = (path.read_text(encoding="utf-8") if path.is_file() else "" for path in texts)
    mirror = parse_debootstrap(script, program)
    if mirror is None:
        raise HostError(
            "no mirror of the Debian archive is known on this machine",
            expected="one in apt's sources, or the default of the package debootstrap",
            remedy=f"set {MIRROR_VARIABLE} to the URL of a mirror",
        )
    return [mirror]


def installed_keyring() -> Path | None:
    """The keys of the Debian archive that are installed on the host, or None."""
    return next((path for path in KEYRINGS if path.is_file()), None)


def find_keyring(apt: Apt, scratch: Path) -> Path:
    """The keys of the Debian archive that the host trusts: installed, or in its own distribution's package.

    Raises:
        HostError: there are none.
    """
    return installed_keyring() or _keyring_below(_from_host(apt, _KEYRING_PACKAGE, scratch))


def use_suite(apt: Apt, mirror: str, suite: str, keyring: Path, scratch: Path) -> Path:
    """Read a suite's index; where the keyring is too old for it, learn newer keys from suites that it does know.

    Returns:
        The keyring that verified the suite.

    Raises:
        SuiteError: the suite cannot be had, or no chain of keys leads to it.
    """
    try:
        apt.use(suite, source_line(mirror, suite, keyring))
        return keyring
    except SuiteError as error:
        if "NO_PUBKEY" not in (error.got or "") and "is not signed" not in (error.got or ""):
            raise
        first = error
    for step in _KEYRING_SUITES:
        try:
            apt.use(step, source_line(mirror, step, keyring))
            keyring = _keyring_below(_fetch_and_unpack(apt, _KEYRING_PACKAGE, scratch / step))
            apt.use(suite, source_line(mirror, suite, keyring))
            return keyring
        except SuiteError:
            continue
    raise SuiteError(
        f"the signature of the Debian suite {suite} cannot be verified",
        got=first.got,
        where=str(keyring),
        remedy=f"install a newer {_KEYRING_PACKAGE}",
    )


def source_line(mirror: str, suite: str, keyring: Path) -> str:
    """A line for ``sources.list`` that names the only keys which may have signed."""
    # A copy on this machine is as old as it is: its signature does not end, and it has no second names for its files.
    old = " check-valid-until=no by-hash=no" if mirror.startswith(_LOCAL) else ""
    return f"deb [signed-by={keyring}{old}] {mirror} {suite} main\n"


def _from_host(apt: Apt, package: str, scratch: Path) -> Path:
    """Unpack a package of the host's own distribution; its sources and keys vouch for it. No rights are needed."""
    apt.use("host")
    return _fetch_and_unpack(apt, package, scratch / "host")


def _fetch_and_unpack(apt: Apt, name: str, directory: Path) -> Path:
    package = apt.packages([name]).get(name)
    if package is None:
        raise HostError(f"this distribution has no package {name}", remedy=f"set {MIRROR_VARIABLE}")
    directory.mkdir(parents=True, exist_ok=True)
    apt.download([package], directory)
    unpack(directory / package_file(package), directory / name)
    return directory / name


def package_file(package: Package) -> str:
    """The name under which apt keeps a fetched package: colons of an epoch are escaped."""
    version = package.version.replace(":", "%3a")
    return f"{package.name}_{version}_{package.architecture}.deb"


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a package without running anything of it.

    Raises:
        HostError: it is broken, or the disk is full.
    """
    directory.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(["dpkg-deb", "-x", archive, directory], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise HostError("a package cannot be unpacked", got=result.stderr.strip(), where=str(archive))


def _keyring_below(root: Path) -> Path:
    for path in KEYRINGS:
        candidate = root / path.relative_to("/")
        if candidate.is_file():
            # Newer packages have a link from the one name to the other.
            return candidate.resolve()
    raise HostError(f"the package {_KEYRING_PACKAGE} holds no keyring", where=str(root))
