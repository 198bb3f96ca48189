"""What the support desk is told about one player, and that its policy is enough for it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from cohort_flywheel.governance.erasure_operator import FOLDERS
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import Header
from local import __main__ as commands
from local import seed, support, support_desk
from local.config import ROOT, Config, LocalError
from local.player_export import PLACES
from local.servers import Servers
from tests.cohort_flywheel.segment.snapshots import snapshot_file
from tests.deploy.iam_checker import Request, allows

RUN = "ea_atrisk_2_2026-11-22_00-00-00"
DAY = datetime(2026, 11, 22, tzinfo=UTC)
HEADER = Header(cohort="ea_atrisk", as_of=DAY, property="ea_atrisk", direction="above", floor=0, read_at=DAY)
LEDGER = {"name": RUN, "template": "at_risk", "segment_sha256": "b", "destination": "ses", "players": 1,
          "launched_at": "2026-11-22T09:00:00+00:00"}  # fmt: skip


@pytest.fixture
def desk(
    servers: Servers, fresh_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., str]:  # fmt: skip
    """Runs a command for a player; gives what it prints. The buckets hold a run of wayne, noa and sam."""
    environ = {
        "AWS_ENDPOINT_URL": servers.aws_url, "AWS_ENDPOINT_URL_DYNAMODB": servers.dynamodb_url,
        "AWS_DEFAULT_REGION": fresh_config.region, "AWS_ACCESS_KEY_ID": fresh_config.access_key_id,
        "AWS_SECRET_ACCESS_KEY": fresh_config.secret_access_key,
    }  # fmt: skip
    for name in ("export_bucket", "import_bucket", "state_bucket", "contacts_table"):
        environ[f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name.upper()}"] = getattr(fresh_config, name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    s3 = seed.client("s3", servers, fresh_config)
    snapshot = snapshot_file(tmp_path, HEADER, [Vertex("wayne", 3), Vertex("noa", 4)])
    for folder, name in (("snapshots", "snapshot"), ("snapshots_pending", "0123456789abcdef")):
        key = f"{folder}/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/{name}.parquet"
        s3.put_object(Bucket=fresh_config.state_bucket, Key=key, Body=snapshot.read_bytes())
    for bucket, key, text in (
        (fresh_config.state_bucket, f"rejects/{RUN}/0000.csv", "playerId,reason,column\nnoa,opted_out,emailConsent\n"),
        (fresh_config.state_bucket, f"sends/at_risk/{RUN}.jsonl", f"{json.dumps(LEDGER)}\nwayne\n"),
        (fresh_config.state_bucket, f"sends/at_risk/{RUN}.launch_holdout.jsonl", f"{json.dumps(LEDGER)}\nheld\n"),
        (fresh_config.state_bucket, "do_not_contact.txt", "zoe\nnoa\n"),
        (fresh_config.import_bucket, f"segments/{RUN}_0a/0000.csv",
         "emailAddress,playerId,FirstName\nwayne@example.com,wayne,Wayne\n"),
        (fresh_config.import_bucket, f"contacts/{RUN}_0a/0000.csv",
         "emailAddress\nwayne@example.com\nnoa@example.com\n"),
        (fresh_config.export_bucket, f"export/{RUN}.json",
         '[\n{"playerId":["noa"],"ea_atrisk":[4]},\n{"playerId":["wayne"],"ea_atrisk":[3]}\n]\n'),
    ):  # fmt: skip
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
    seed.load_contacts(servers, fresh_config, [{"playerId": "wayne", "email": "wayne@example.com"}])

    def run(player: str, *arguments: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{player}\n"))
        assert commands.main(list(arguments)) == 0
        return capsys.readouterr().out

    return run


def test_a_player_of_the_segment(desk: Callable[..., str]) -> None:
    said = desk("wayne", "explain", RUN)
    assert "snapshot of ea_atrisk of 2026-11-22 00:00 UTC: ea_atrisk is 3; members are above the threshold\n" in said
    assert f"rejects of {RUN}: no reject\n" in said
    assert f"segment file of {RUN}: a row of the segment\n" in said
    assert "do-not-contact list: the playerId is not on it now\n" in said
    assert f"send ledgers: {RUN} with template at_risk, launched 2026-11-22T09:00:00+00:00\n" in said
    assert "erasure: not erased\n" in said
    assert ": has a record now\n" in said


def test_the_events_and_suppressions_of_a_player(
    desk: Callable[..., str], servers: Servers, fresh_config: Config, tmp_path: Path
) -> None:
    put_events(seed.client("s3", servers, fresh_config), fresh_config.state_bucket, tmp_path)
    said = desk("wayne", "explain", RUN)
    assert [line for line in said.splitlines() if line.startswith("events")] == [
        f"events of {RUN}: Bounce at 2026-11-22T10:00:09+00:00 (Permanent:General)",
        f"events of {RUN}: Click at 2026-11-22T11:00:00+00:00 (https://studio.example/play, Likely a bot, by SES)",
    ]
    assert [line for line in said.splitlines() if line.startswith("suppression")] == [
        "suppression list: the address is suppressed: bounced, 2026-11-22T10:00:09.000000+00:00",
        "suppression list: the player was suppressed, until a person removed it: complained,"
        " 2026-11-23T00:00:00.000000+00:00 (ana: a mistake)",
    ]
    places = {each["place"]: each for each in json.loads(desk("wayne", "export"))["places"]}
    assert [each["type"] for each in places["engagement events"]["found"]] == ["Bounce", "Click"]
    assert [each["reason"] for each in places["suppression list"]["found"]] == ["bounced", "complained"]
    said = desk("sam", "explain", RUN)
    assert f"events of {RUN}: none of an e-mail to the player\n" in said
    assert "suppression list: the playerId is not on it; the address is not known\n" in said


def put_events(s3: Any, bucket: str, folder: Path) -> None:
    """A launch of noa and wayne with events, and a suppression list."""
    from cohort_flywheel.campaign.mail_tags import launch_tag
    from cohort_flywheel.common.duckdb import connect
    from cohort_flywheel.engagement.event_counts import COLUMNS
    from cohort_flywheel.engagement.suppressions import Entry, suppression_key, write_entries

    bounced, salt = datetime(2026, 11, 22, 10, 0, 9, tzinfo=UTC), b"s" * 32
    address, player = (
        suppression_key(salt, "address", "Wayne@example.com"),
        suppression_key(salt, "player", "wayne"),
    )
    other = suppression_key(salt, "player", "noa")
    write_entries(folder / "list.csv", [
        Entry("address", address, "bounced", bounced.isoformat(timespec="microseconds"), "suppressed"),
        Entry("player", other, "complained", "2026-11-22T00:00:00.000000+00:00", "suppressed"),
        Entry("player", player, "complained", "2026-11-23T00:00:00.000000+00:00", "removed", "ana: a mistake"),
    ])  # fmt: skip
    events = [
        ("0-1-1", "Bounce", "Permanent:General", bounced, None, None), ("0-1-0", "Open", None, bounced, None, None),
        ("0-1-1", "Click", None, bounced.replace(hour=11, second=0), "Likely", "https://studio.example/play"),
    ]  # fmt: skip
    with connect(folder) as sql:
        sql.execute(f"CREATE TABLE event ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
        for row, kind, subtype, at, bot, link in events:
            about = (launch_tag(RUN), row, kind, subtype, at.replace(tzinfo=None), bot, link)
            sql.execute("INSERT INTO event VALUES (uuid(), 'm', ?, ?, ?, ?, ?, ?, ?)", about)
        sql.table("event").write_parquet(str(folder / "events.parquet"))
    for key, body in {
        f"launches/{RUN}/000000_1.intents.json": b'{"player_ids": ["noa", "wayne"]}',
        "engagement/events/as_of=2026-11-23_00-00-00/events.parquet": (folder / "events.parquet").read_bytes(),
        "engagement/suppressions.csv": (folder / "list.csv").read_bytes(),
        "erasure/salt": json.dumps({"salt": salt.hex()}).encode(),
    }.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def test_a_date_is_all_its_runs(desk: Callable[..., str], servers: Servers, fresh_config: Config) -> None:
    s3 = seed.client("s3", servers, fresh_config)
    for name in (RUN, "ea_malice_1_2026-11-22_00-00-00", "ea_atrisk_2_2026-11-21_00-00-00", "cohort_to_segment__r"):
        s3.put_object(Bucket=fresh_config.state_bucket, Key=f"reports/{name}/d__r.json", Body=b"{}")
    said = desk("wayne", "explain", "2026-11-22")
    assert f"segment file of {RUN}: a row of the segment\n" in said
    assert "snapshot of ea_malice of 2026-11-22 00:00 UTC: expired\n" in said
    assert "2026-11-21" not in said
    assert said.count("do-not-contact list: ") == said.count("suppression list: does not exist") == 1


def test_a_player_that_a_launch_has_held_out(desk: Callable[..., str]) -> None:
    said = desk("held", "explain", RUN)
    assert "launched 2026-11-22T09:00:00+00:00, held out and not mailed\n" in said


def test_a_player_who_was_rejected_and_one_who_was_never_a_member(desk: Callable[..., str]) -> None:
    said = desk("noa", "explain", RUN)
    assert f"rejects of {RUN}: rejected: opted_out (the record says opted out," in said
    assert f"segment file of {RUN}: no row\n" in said
    assert "do-not-contact list: line 2\n" in said
    assert "in none, so never mailed by this package" in said
    said = desk("sam", "explain", RUN)
    assert "not in it, so ea_atrisk was not above the floor 0" in said
    assert ": has no record now\n" in said


def test_a_place_without_a_right_and_one_that_has_expired_are_named(
    desk: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = support_desk.Desk.body

    def refused(self: support_desk.Desk, role: str, key: str, **version: str) -> bytes:
        if key.startswith("sends/"):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")
        return body(self, role, key, **version)

    monkeypatch.setattr(support_desk.Desk, "body", refused)
    said = desk("wayne", "explain", RUN)
    assert "send ledgers: not read (no right)\n" in said
    said = desk("wayne", "explain", RUN.replace("11-22", "11-01"))
    assert "snapshot of ea_atrisk of 2026-11-01 00:00 UTC: expired\n" in said
    assert "expired, or the run did not come so far\n" in said
    places = json.loads(desk("wayne", "export"))["places"]
    assert [each["status"] for each in places if each["place"].endswith("/sends/")] == ["not read (no right)"]


def test_an_export_has_all_of_the_player_and_nothing_of_another(desk: Callable[..., str]) -> None:
    text = desk("wayne", "export")
    places = {
        each["place"].rpartition("/")[0].rpartition("/")[2] or "table": each for each in json.loads(text)["places"]
    }
    found = {name: [each.get("data", each) for each in place["found"]] for name, place in places.items()}
    assert found["export"] == [{"playerId": ["wayne"], "ea_atrisk": [3]}]
    assert found["snapshots"] == [{"player_id": "wayne", "score": 3, "properties": {}}] == found["snapshots_pending"]
    assert found["sends"] == ["send ledger"]
    assert found["segments"] == [{"emailAddress": "wayne@example.com", "playerId": "wayne", "FirstName": "Wayne"}]
    assert found["contacts"] == [{"emailAddress": "wayne@example.com"}]
    assert found["rejects"] == []
    assert {place["status"] for place in places.values()} == {"read"}
    assert "noa" not in text


@pytest.mark.parametrize(
    ("player", "run", "said"),
    [
        ("", RUN, "Write one playerId"),
        ("a\nb", RUN, "Write one playerId"),
        ("a", "ea_atrisk", "not the name of a run"),
        ("a", "2026-11-02", "No run of 2026-11-02 has a report"),
    ],
)
def test_wrong_input_is_refused(
    desk: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    player: str, run: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(player))
    assert commands.main(["explain", run]) == 1
    assert said in capsys.readouterr().err


def test_missing_settings_are_named() -> None:
    with pytest.raises(LocalError, match="Not set: AIRFLOW_VAR_COHORT_FLYWHEEL_EXPORT_BUCKET, "):
        support.read_settings({})


def test_a_run_is_read_from_its_name(desk: Callable[..., str]) -> None:
    desk("wayne", "export")  # the package can be imported
    assert support.read_run("churn_0.75_2026-11-22_00-00-00")[0] == "churn"
    assert support.read_run("ea_reputation_-75_2026-11-22_00-00-00") == (
        "ea_reputation", datetime(2026, 11, 22, tzinfo=UTC)
    )  # fmt: skip


def test_the_id_of_a_vertex_may_be_the_player() -> None:
    listed = b"vertexId,playerId\r\nann,\r\nv-1,bob\r\nann,bob\r\n"
    assert [row["playerId"] for row in support.rows_of(listed, "ann")] == ["", "bob"]


def test_the_places_are_those_of_an_erasure() -> None:
    assert {(f"{role}_bucket", prefix) for role, prefix in PLACES} == set(FOLDERS)


def test_the_policy_of_the_support_desk_is_enough_and_reads_only(
    desk: Callable[..., str], servers: Servers, fresh_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    actions = {"ListObjectsV2": "s3:ListBucket", "ListObjectVersions": "s3:ListBucketVersions",
               "GetObject": "s3:GetObject", "GetItem": "dynamodb:GetItem"}  # fmt: skip
    asked: set[tuple[str, str]] = set()
    call = BaseClient._make_api_call

    def noted(client: Any, operation: str, parameters: Any) -> Any:
        action = actions[operation] + ("Version" if "VersionId" in parameters else "")
        if operation == "GetItem":
            asked.add((action, f"arn:aws:dynamodb:us-east-1:123456789012:table/{parameters['TableName']}"))
        else:
            key = f"/{parameters['Key']}" if "Key" in parameters else ""
            asked.add((action, f"arn:aws:s3:::{parameters['Bucket']}{key}"))
        return call(client, operation, parameters)

    put_events(seed.client("s3", servers, fresh_config), fresh_config.state_bucket, tmp_path)
    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    desk("wayne", "explain", RUN)
    desk("wayne", "export")
    text = (ROOT / "include" / "iam" / "people" / "support_desk.json").read_text(encoding="utf-8")
    for name, value in {
        "AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012",
        "ExportBucket": fresh_config.export_bucket, "ImportBucket": fresh_config.import_bucket,
        "StateBucket": fresh_config.state_bucket, "ContactsTable": fresh_config.contacts_table,
    }.items():  # fmt: skip
        text = text.replace(f"${{{name}}}", value)
    policy = json.loads(text)
    assert {action for action, _ in asked} == {
        "s3:ListBucket", "s3:ListBucketVersions", "s3:GetObject", "s3:GetObjectVersion", "dynamodb:GetItem",
    }  # fmt: skip
    assert [each for each in asked if not allows([policy], Request(*each))] == []
    found = json.dumps(policy)
    assert not [word for word in ("Put", "Delete", '"*"', "s3:*") if word in found]
