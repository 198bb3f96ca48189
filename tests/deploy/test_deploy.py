"""`make deploy`: what it puts into the bucket, what it does not change, and how it updates the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from local import bundle, seed
from local.config import ROOT, Config, LocalError
from local.deploy import MARK, deploy
from local.servers import Servers

BUCKET = "the-environments-bucket"
DAG = "dags/cohort_flywheel/cohort_to_segment.py"
REGISTRY = "dags/cohort_flywheel/include/cohorts.yaml"


class Bundled:
    """A copy of the sources, and its bundle in an emulated bucket."""

    def __init__(self, root: Path, s3: Any) -> None:
        self.root, self.s3, self.folder = root, s3, root / "build"
        for name in ("dags", "include", "plugins"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "requirements.txt", root)
        self.build()

    def build(self, **merged: Path) -> None:
        bundle.build(self.folder, root=self.root, **merged)  # type: ignore[arg-type]

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.root / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def deploy(self, **more: Any) -> None:
        deploy(BUCKET, folder=self.folder, root=self.root, s3=self.s3, **more)

    def put(self, key: str, data: bytes) -> str:
        """Put another writer's object; return its version."""
        return str(self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)["VersionId"])

    def objects(self) -> dict[str, bytes]:
        items = self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {item["Key"]: self.read(item["Key"]) for item in items}

    def read(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def save(self, key: str, folder: Path) -> Path:
        file = folder / "saved"
        file.write_bytes(self.read(key))
        return file

    def versions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        answer = self.s3.list_object_versions(Bucket=BUCKET)
        assert not answer.get("DeleteMarkers")
        for version in answer.get("Versions", ()):
            found.setdefault(version["Key"], []).append(version["VersionId"])
        return found


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield client


@pytest.fixture
def bundled(tmp_path: Path, s3: Any) -> Bundled:
    return Bundled(tmp_path / "checkout", s3)


# --- the bucket


def test_all_of_the_bundle_is_there_and_what_was_there_still_is(
    bundled: Bundled, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = {"dags/their_dag.py": b"theirs", "data/players.csv": b"theirs"}
    for key, data in theirs.items():
        bundled.put(key, data)
    bundled.deploy()
    build = bundled.folder
    ours = {str(path.relative_to(build)): path.read_bytes() for path in build.rglob("*") if path.is_file()}
    assert bundled.objects() == theirs | ours
    assert {DAG, REGISTRY, "dags/cohort_flywheel/.airflowignore", "plugins.zip", "requirements.txt"} <= set(ours)
    versions = bundled.versions()
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"The template's parameters: PluginsVersion={versions['plugins.zip'][0]}"
        f" RequirementsVersion={versions['requirements.txt'][0]}"
    )


def test_a_second_time_writes_nothing_and_an_edited_threshold_is_one_object(bundled: Bundled) -> None:
    bundled.deploy()
    first = bundled.versions()
    bundled.deploy()
    assert bundled.versions() == first
    bundled.edit("include/cohorts.yaml", "    threshold: 2\n", "    threshold: 3\n")
    bundled.build()
    bundled.deploy()
    assert {key for key, versions in bundled.versions().items() if versions != first[key]} == {REGISTRY}
    assert b"threshold: 3\n" in bundled.read(REGISTRY)


def test_a_prefix_is_where_everything_lies(bundled: Bundled, capsys: pytest.CaptureFixture[str]) -> None:
    bundled.deploy(prefix="/a/folder/")
    assert "The template's parameters" not in capsys.readouterr().out  # which are versions of the root's files
    assert {key for key in bundled.objects() if not key.startswith("a/folder/")} == set()
    assert {f"a/folder/{DAG}", "a/folder/plugins.zip"} <= set(bundled.objects())


@pytest.mark.parametrize("key", [DAG, REGISTRY, "plugins.zip", "requirements.txt"])
def test_an_object_that_it_did_not_write_is_not_replaced_and_nothing_else_is_written(
    bundled: Bundled, key: str
) -> None:
    bundled.put(key, b"theirs")
    with pytest.raises(LocalError, match=f"s3://{BUCKET}/{key} was not written by `make deploy`"):
        bundled.deploy()
    assert bundled.objects() == {key: b"theirs"}


def test_the_studios_own_edit_in_the_bucket_is_not_replaced_until_it_is_in_the_checkout_too(bundled: Bundled) -> None:
    bundled.deploy()
    edited = bundled.read(REGISTRY).replace(b"    threshold: 2\n", b"    threshold: 3\n", 1)
    bundled.put(REGISTRY, edited)
    bundled.edit("include/cohorts.yaml", "    threshold: 2\n", "    threshold: 4\n")
    bundled.build()
    with pytest.raises(
        LocalError, match="Copy the changes that you want to keep into your checkout, then remove the object"
    ):
        bundled.deploy()
    bundled.edit("include/cohorts.yaml", "    threshold: 4\n", "    threshold: 3\n")
    bundled.build()
    before = bundled.versions()
    bundled.deploy()
    assert bundled.versions() == before
    assert bundled.read(REGISTRY) == edited


def test_an_object_written_meanwhile_is_not_replaced(bundled: Bundled) -> None:
    def meanwhile(params: dict[str, Any], **_: Any) -> None:
        if params["Key"] == DAG and params["Body"] != b"theirs":
            bundled.put(DAG, b"theirs")

    bundled.s3.meta.events.register("provide-client-params.s3.PutObject", meanwhile)
    with pytest.raises(LocalError, match=f"s3://{BUCKET}/{DAG} was changed during the deployment and was not replaced"):
        bundled.deploy()
    assert bundled.read(DAG) == b"theirs"


def test_an_object_of_ours_is_replaced_on_the_condition_that_it_is_still_the_one_that_was_read(
    bundled: Bundled,
) -> None:
    """moto ignores the condition, S3 keeps it [shape PutObjectRequest.IfMatch]."""
    bundled.deploy()
    etag = bundled.s3.head_object(Bucket=BUCKET, Key=REGISTRY)["ETag"]
    bundled.edit("include/cohorts.yaml", "    threshold: 2\n", "    threshold: 3\n")
    bundled.build()
    sent: list[dict[str, Any]] = []
    bundled.s3.meta.events.register("provide-client-params.s3.PutObject", lambda params, **_: sent.append(params))
    bundled.deploy()
    assert [(each["Key"], each.get("IfMatch"), list(each["Metadata"])) for each in sent] == [(REGISTRY, etag, [MARK])]


def test_a_file_that_is_no_longer_ours_is_reported_and_kept(
    bundled: Bundled, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(bundled.root / "dags/cohort_what_if.py", bundled.root / "dags/cohort_dropped.py")
    bundled.build()
    bundled.deploy()
    bundled.put("dags/cohort_flywheel/theirs.py", b"theirs")
    (bundled.root / "dags/cohort_dropped.py").unlink()
    bundled.build()
    capsys.readouterr()
    bundled.deploy()
    said = capsys.readouterr().out
    assert f"remove it by hand: s3://{BUCKET}/dags/cohort_flywheel/cohort_dropped.py\n" in said
    assert "theirs.py" not in said
    assert "dags/cohort_flywheel/cohort_dropped.py" in bundled.objects()


# --- what is refused before AWS is asked


def test_a_registry_that_does_not_read_is_refused(bundled: Bundled) -> None:
    bundled.edit("include/cohorts.yaml", "schedule:", "shedule:")
    bundled.build()
    with pytest.raises(LocalError, match=r"Nothing was uploaded: CF-REG-02: cohorts.yaml, line \d+: shedule is not"):
        bundled.deploy()
    assert bundled.objects() == {}


def test_so_is_one_with_a_cohort_that_would_fail_in_its_plan(bundled: Bundled) -> None:
    bundled.edit("include/cohorts.yaml", "    threshold: 2\n", "    treshold: 2\n")
    bundled.build()
    with pytest.raises(LocalError, match=r"Nothing was uploaded: CF-REG-02: cohort ea_atrisk in .* line \d+: treshold"):
        bundled.deploy()
    assert bundled.objects() == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("direction: above", "direction: under", r"cohort ea_atrisk in cohorts.yaml, line \d+: direction: input"),
        ("    direction: above\n", "", r"cohort ea_atrisk in cohorts.yaml, line \d+: the key direction is missing"),
        ("floor: 0", "floor: {a: [}", r"cohorts.yaml, line \d+: this is not YAML"),
        ("floor: 0", "floor: *zero", r"cohort ea_atrisk in cohorts.yaml, line \d+: \*zero has no &zero above it"),
        ("default_cohort: ea_atrisk", "default_cohort: ea", r"cohorts.yaml, line \d+: default_cohort 'ea' is not"),
        ("schedule:", "schedule: [] #", r"cohorts.yaml, line \d+: schedule: input should be a valid string"),
        ("destination: pinpoint", "destination: email", "unknown destination 'email': write one of custom"),
    ],
)  # fmt: skip
def test_a_fault_of_the_registry_is_an_error(bundled: Bundled, old: str, new: str, words: str) -> None:
    bundled.edit("include/cohorts.yaml", old, new)
    bundled.build()
    with pytest.raises(LocalError, match=f"^Nothing was uploaded: CF-REG-02: {words}"):
        bundled.deploy()
    assert bundled.objects() == {}


@pytest.mark.parametrize(
    "content", ["schedule: ü".encode("latin-1"), "schedule: x".encode("utf-16"), b"", b"\0", b"- x"]
)
def test_so_is_a_file_that_is_not_a_registry(bundled: Bundled, content: bytes) -> None:
    (bundled.root / "include/cohorts.yaml").write_bytes(content)
    bundled.build()
    with pytest.raises(LocalError, match=r"^Nothing was uploaded: CF-REG-02: cohorts\.yaml"):
        bundled.deploy()
    assert bundled.objects() == {}


def test_so_is_a_bundle_that_is_older_than_its_sources_or_missing(bundled: Bundled) -> None:
    bundled.edit("include/cohorts.yaml", "    threshold: 2\n", "    threshold: 3\n")
    with pytest.raises(LocalError, match=f"{REGISTRY} has changed since the bundle was built: run `make bundle`"):
        bundled.deploy()
    shutil.rmtree(bundled.folder)
    with pytest.raises(LocalError, match="build/ does not contain a bundle: run `make bundle` first"):
        bundled.deploy()
    assert bundled.objects() == {}


def test_a_bucket_that_mwaa_would_not_take_and_one_that_is_not_there_are_sentences(bundled: Bundled) -> None:
    bundled.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(LocalError, match="Versioning is not enabled on the bucket .*, and MWAA requires it: enable it"):
        bundled.deploy()
    with pytest.raises(LocalError, match="AWS refused GetBucketVersioning with NoSuchBucket: check the name"):
        deploy("no-bucket-of-ours", folder=bundled.folder, root=bundled.root, s3=bundled.s3)


# --- the environment. moto has no MWAA: botocore's own model validates requests and answers


class Environment:
    """MWAA's two calls, as the model has them; what an update changes is there at the next call."""

    def __init__(self, **now: Any) -> None:
        self.client = boto3.client("mwaa", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        self.client.meta.events.register("provide-client-params.mwaa.UpdateEnvironment", self.keep)
        self.now: dict[str, Any] = {
            "Name": "games", "Status": "AVAILABLE", "SourceBucketArn": f"arn:aws:s3:::{BUCKET}", "DagS3Path": "dags",
        } | now  # fmt: skip
        self.request: dict[str, str] = {}

    def keep(self, params: dict[str, str], **_: Any) -> None:
        self.request = dict(params)

    def deploy(self, bundled: Bundled, *, updates: bool = False, **more: Any) -> dict[str, str]:
        """Deploy, with an update or without one; what that said of versions."""
        with Stubber(self.client) as stub:
            stub.add_response("get_environment", {"Environment": self.now}, {"Name": "games"})
            if updates:
                arn = {"Arn": "arn:aws:airflow:us-east-1:123456789012:environment/games"}
                stub.add_response("update_environment", arn)
            bundled.deploy(environment="games", mwaa=self.client, **more)
            stub.assert_no_pending_responses()
        if not updates:
            return {}
        assert (self.request.pop("Name"), self.request.pop("WorkerReplacementStrategy")) == ("games", "GRACEFUL")
        self.now |= self.request
        return self.request


def newest(bundled: Bundled, prefix: str = "") -> dict[str, str]:
    """What an update must say of the two files' newest versions."""
    requested: dict[str, str] = {}
    for name, word in {"plugins.zip": "Plugins", "requirements.txt": "Requirements"}.items():
        version = bundled.s3.head_object(Bucket=BUCKET, Key=prefix + name)["VersionId"]
        requested |= {f"{word}S3Path": prefix + name, f"{word}S3ObjectVersion": version}
    return requested


def test_an_environment_is_told_of_what_changed_and_of_nothing_else(bundled: Bundled) -> None:
    environment = Environment()
    assert environment.deploy(bundled, updates=True) == newest(bundled)
    environment.deploy(bundled)  # it has these
    bundled.edit("include/cohorts.yaml", "    threshold: 2\n", "    threshold: 3\n")
    bundled.build()
    environment.deploy(bundled)  # a sync is enough
    assert b"threshold: 3\n" in bundled.read(REGISTRY)

    bundled.edit("plugins/cohort_flywheel/runs/names.py", '"""', '"""Edited. ')
    bundled.build()
    requested = environment.deploy(bundled, updates=True)
    assert requested == {name: value for name, value in newest(bundled).items() if name.startswith("Plugins")}


def test_its_dags_folder_is_where_the_dag_files_go(bundled: Bundled) -> None:
    requested = Environment(DagS3Path="airflow/their-dags").deploy(bundled, updates=True, prefix="elsewhere")
    assert requested == newest(bundled, "elsewhere/")
    assert "airflow/their-dags/cohort_flywheel/cohort_to_segment.py" in bundled.objects()


def test_new_plugins_are_on_their_way_before_the_dag_files_that_need_them(bundled: Bundled) -> None:
    environment, order = Environment(), []
    for client, event in ((bundled.s3, "s3.PutObject"), (environment.client, "mwaa.UpdateEnvironment")):
        client.meta.events.register(
            f"provide-client-params.{event}", lambda params, **_: order.append(params.get("Key", "the update"))
        )
    environment.deploy(bundled, updates=True)
    assert order[:3] == ["plugins.zip", "requirements.txt", "the update"]
    assert {key.partition("/")[0] for key in order[3:]} == {"dags"}


def test_beside_others_the_merged_files_get_keys_of_their_own(bundled: Bundled, tmp_path: Path) -> None:
    zipped, requirements = shared(tmp_path)
    environment = Environment(
        PluginsS3Path="plugins.zip",
        PluginsS3ObjectVersion=bundled.put("plugins.zip", zipped.read_bytes()),
        RequirementsS3Path="requirements.txt",
        RequirementsS3ObjectVersion=bundled.put("requirements.txt", requirements.read_bytes()),
    )
    before = bundled.objects()
    with pytest.raises(LocalError, match=r"has 'their_plugin.py' in its plugins.zip.*`make bundle INTO="):
        environment.deploy(bundled)
    bundled.build(into=zipped)
    with pytest.raises(LocalError, match=r"has 'pandas' in its requirements.txt.*`make bundle REQUIREMENTS="):
        environment.deploy(bundled)
    bundled.build(into=zipped, their_requirements=requirements)
    with pytest.raises(
        LocalError, match="deploy with PREFIX=cohort_flywheel: the merged file is then uploaded next to it"
    ):
        environment.deploy(bundled)
    assert bundled.objects() == before

    requested = environment.deploy(bundled, updates=True, prefix="cohort_flywheel")
    assert requested == newest(bundled, "cohort_flywheel/")
    assert {key: bundled.read(key) for key in before} == before
    # without the merge, the next deployment would remove their plugin
    bundled.build()
    with pytest.raises(LocalError, match="has 'their_plugin.py' in its plugins.zip"):
        environment.deploy(bundled, prefix="cohort_flywheel")
    with pytest.raises(LocalError, match="cohort_flywheel/plugins.zip has 'their_plugin.py', which is not ours"):
        bundled.deploy(prefix="cohort_flywheel")
    bundled.build(into=bundled.save("cohort_flywheel/plugins.zip", tmp_path))
    with pytest.raises(LocalError, match="has 'pandas' in its requirements.txt"):
        environment.deploy(bundled, prefix="cohort_flywheel")


def test_a_requirement_that_was_put_behind_ours_is_not_lost(bundled: Bundled, tmp_path: Path) -> None:
    bundled.deploy()
    appended = tmp_path / "requirements.txt"
    appended.write_bytes(bundled.read("requirements.txt") + b"snowflake-connector-python\n")
    version = bundled.put("their/requirements.txt", appended.read_bytes())
    environment = Environment(RequirementsS3Path="their/requirements.txt", RequirementsS3ObjectVersion=version)
    with pytest.raises(LocalError, match="has 'snowflake-connector-python' in its requirements.txt"):
        environment.deploy(bundled)
    bundled.build(their_requirements=appended)
    assert environment.deploy(bundled, updates=True) == newest(bundled)
    assert b"snowflake-connector-python\n" in bundled.read("requirements.txt")


def shared(tmp_path: Path) -> tuple[Path, Path]:
    """Another's plugins.zip and requirements.txt."""
    zipped, requirements = tmp_path / "theirs.zip", tmp_path / "requirements.txt"
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("their_plugin.py", "# theirs\n")
    requirements.write_text("pandas\n", encoding="utf-8")
    return zipped, requirements


def test_an_environment_of_another_bucket_or_one_that_is_busy_is_refused(bundled: Bundled) -> None:
    with pytest.raises(LocalError, match="uses the bucket another: write BUCKET=another"):
        Environment(SourceBucketArn="arn:aws:s3:::another").deploy(bundled)
    with pytest.raises(LocalError, match="is UPDATING: try again when it is AVAILABLE"):
        Environment(Status="UPDATING").deploy(bundled)
    assert bundled.objects() == {}


# --- the command


def test_the_command_on_the_local_servers(servers: Servers, config: Config, tmp_path: Path) -> None:
    s3 = seed.client("s3", servers, config)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ = kept | {
        "AWS_ENDPOINT_URL": servers.aws_url,
        "AWS_ACCESS_KEY_ID": config.access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.secret_access_key,
        "AWS_DEFAULT_REGION": config.region,
        "PYTHONPATH": str(ROOT),
    }

    def local(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)

    folder = ("--folder", str(tmp_path / "build"))
    said = local("bundle", *folder)
    assert said.returncode == 0, said.stderr
    digest = bundle.digest((tmp_path / "build" / "plugins.zip").read_bytes())
    assert said.stdout.rstrip().endswith(f"SHA-256 {digest}")
    said = local("deploy", "--bucket", BUCKET, *folder)
    assert said.returncode == 0, said.stderr
    assert f"Uploaded s3://{BUCKET}/{REGISTRY}\n" in said.stdout
    found = s3.get_object(Bucket=BUCKET, Key="plugins.zip")
    assert found["Metadata"] == {MARK: digest}
    assert bundle.digest(found["Body"].read()) == digest
    said = local("deploy", "--bucket", "")
    assert (said.returncode, said.stderr) == (1, "Which bucket? Write make deploy BUCKET=the-environment's-bucket.\n")
