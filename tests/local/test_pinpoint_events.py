"""The import of Pinpoint's event stream: records in the form of its documentation, as JSON and as Parquet."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cohort_flywheel.common.duckdb import connect
from local.__main__ import main
from local.pinpoint_events import read

SENT = 1_564_618_621_380  # 2019-08-01T00:17:01.380Z
#: What no result may have.
PERSONAL = ("p001@example.com", "p001", "Jo", "192.0.2.1", "Mozilla", "9a311b17")
FACETS = """STRUCT(email_channel STRUCT(mail_event STRUCT(
  mail STRUCT(message_id VARCHAR, message_send_timestamp BIGINT, from_address VARCHAR, destination VARCHAR[],
              headers MAP(VARCHAR, VARCHAR)[]),
  send MAP(VARCHAR, VARCHAR), delivery STRUCT(smtp_response VARCHAR, recipients VARCHAR[]),
  "open" STRUCT(ip_address VARCHAR, user_agent VARCHAR),
  click STRUCT(ip_address VARCHAR, user_agent VARCHAR, link VARCHAR), reject STRUCT(reason VARCHAR),
  complaint STRUCT(complained_recipients STRUCT(email_address VARCHAR)[], feedback_id VARCHAR,
                   complaint_feedback_type VARCHAR),
  bounce STRUCT(bounce_type VARCHAR, bounce_sub_type VARCHAR,
                bounced_recipients STRUCT(email_address VARCHAR, status VARCHAR)[], feedback_id VARCHAR))))"""
#: The columns of the Events Database, by its template; `awsaccountid` and the others are not read.
COLUMNS = {
    "event_type": "VARCHAR", "event_timestamp": "BIGINT", "arrival_timestamp": "BIGINT",
    "client": "STRUCT(client_id VARCHAR, cognito_id VARCHAR)", "attributes": "MAP(VARCHAR, VARCHAR)",
    "client_context": "STRUCT(custom MAP(VARCHAR, VARCHAR))", "awsaccountid": "VARCHAR", "facets": FACETS,
}  # fmt: skip


def event(name: str, message: str = "m1", after: int = 1_310, campaign: str | None = "c1", **about: Any) -> Any:
    """An event that arrived so many milliseconds after its mail was sent."""
    address, of = [{"email_address": "p001@example.com"}], name.removeprefix("_email.")
    agent = {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0"}
    described: dict[str, tuple[str, dict[str, Any]]] = {
        "send": ("send", {}),
        "delivered": ("delivery", {"smtp_response": "250 ok", "recipients": ["p001@example.com"]}),
        "open": ("open", agent),
        "click": ("click", agent | {"link": "https://studio.example/play?player=p001"}),
        "hardbounce": ("bounce", {"bounce_type": "Permanent", "bounce_sub_type": "General", "feedback_id": "f1"}),
        "softbounce": ("bounce", {"bounce_type": "Transient", "bounce_sub_type": "MailboxFull", "feedback_id": "f2"}),
        "complaint": ("complaint", {"complaint_feedback_type": "abuse", "feedback_id": "f3"}),
    }
    key, defaults = described.get(of, (of, {}))
    if key in ("bounce", "complaint"):
        defaults = {"bounced_recipients" if key == "bounce" else "complained_recipients": address} | defaults
    tags = {"campaign_id": campaign, "campaign_activity_id": "a1", "treatment_id": "0"} if campaign else {}
    mail = {
        "message_id": message,
        "message_send_timestamp": SENT,
        "from_address": "play@studio.example",
        "destination": ["p001@example.com"],
        "headers": [{"name": "Subject", "value": "We miss you, Jo"}],
    }
    return {
        "event_type": name,
        "event_timestamp": SENT,
        "arrival_timestamp": SENT + after,
        "client": {"client_id": f"9a311b17-{message}"},
        "attributes": {"feedback": of} | tags,
        "awsAccountId": "123456789012",
        "facets": {"email_channel": {"mail_event": {"mail": mail, key: defaults | about}}},
    }


def campaign_send(message: str, user: str) -> Any:
    """What names the user of an endpoint, here that of a message."""
    endpoint = {"ChannelType": "EMAIL", "Address": "p001@example.com", "User": {"UserId": user} if user else {}}
    return {
        "event_type": "_campaign.send",
        "event_timestamp": SENT,
        "arrival_timestamp": SENT,
        "client": {"client_id": f"9a311b17-{message}"},
        "attributes": {"campaign_id": "c1", "campaign_send_status": "SUCCESS"},
        "client_context": {"custom": {"endpoint": json.dumps(endpoint)}},
    }


STREAM = [
    event("_email.open", after=90_000), event("_email.send", after=0), event("_email.delivered"),
    event("_email.open", after=90_000), event("_email.click", after=95_000),
    event("_email.send", "m2", 0), event("_email.hardbounce", "m2"),
    event("_email.send", "m3", 0, "c2"), event("_email.softbounce", "m3", campaign="c2"),
    event("_email.send", "m4", 0), event("_email.complaint", "m4"), event("_email.unsubscribe", "m4"),
    event("_email.send", "m5", 0), event("_email.complaint", "m5", complaint_feedback_type="not-spam"),
    event("_email.send", "m6", 0, None), event("_email.rejected", "m7"), event("_email.unsubscribe", "m8"),
    campaign_send("m4", "p004"), campaign_send("m8", ""), campaign_send("m1", "p001"),
    {"event_type": "_session.start", "event_timestamp": SENT, "arrival_timestamp": SENT},
]  # fmt: skip


def lines(*found: Any, end: str = "\n") -> bytes:
    return "".join(json.dumps(each) + end for each in found).encode()


def write_parquet(path: Path, content: bytes) -> None:
    """As Data Firehose's conversion writes it, of JSON with keys in lower case."""
    source = path.with_suffix(".json")
    source.write_bytes(content.replace(b"awsAccountId", b"awsaccountid"))
    with duckdb.connect() as sql:
        found = sql.read_json(str(source), format="newline_delimited", columns=COLUMNS, map_inference_threshold=0)
        found.write_parquet(str(path), compression="snappy")
    source.unlink()


@pytest.fixture(params=["json", "parquet"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The stream in two objects, the records of one run together and compressed where it is JSON."""
    place = tmp_path / "stream" / "2019" / "08" / "01" / "00"
    place.mkdir(parents=True)
    if request.param == "json":
        (place / "stream-1").write_bytes(gzip.compress(lines(*STREAM[:9], end="")))
        (place / "stream-2").write_bytes(lines(*STREAM[9:]))
    else:
        write_parquet(place / "stream-1.parquet", lines(*STREAM[:9]))
        write_parquet(place / "stream-2.parquet", lines(*STREAM[9:]))
    return tmp_path / "stream"


def test_each_event_is_counted_once_for_its_campaign(folder: Path, tmp_path: Path) -> None:
    found = read(folder, tmp_path / "events.parquet")
    assert found.events | {"unknown_types": None, "unknown_subtypes": None} == {
        "objects": 2, "records": 21, "events": 15, "repeated": 1, "other_mails": 1, "unreadable": 0, "sent": 5,
        "bounced": 1, "complained": 1, "unknown_types": None, "unknown_subtypes": None,
    }  # fmt: skip
    assert found.events["unknown_types"] == {"_campaign.send": 3, "_session.start": 1}
    first, second = found.campaigns["c1"], found.campaigns["c2"]
    assert first["states"] == {"sent": 2, "delivered": 1, "rejected": 1, "bounced": 1, "tracked": 1}
    assert first["messages"] == sum(first["states"].values()) == 6
    assert [first[name] for name in ("opened", "clicked", "complained", "unsubscribed")] == [1, 1, 1, 2]
    assert (second["states"], second["bounces"]) == ({"bounced": 1}, {"Transient:MailboxFull": 1})


def test_the_time_of_an_event_is_that_of_its_arrival(folder: Path, tmp_path: Path) -> None:
    """All events of a message have the time at which it was sent as their own timestamp."""
    path = tmp_path / "events.parquet"
    read(folder, path)
    with connect(tmp_path) as sql:
        times = sql.read_parquet(str(path)).filter("message_id = 'm1'").select("type, epoch_ms(time)").fetchall()
    after = {"Send": 0, "Delivery": 1_310, "Open": 90_000, "Click": 95_000}
    assert sorted(times) == sorted((kind, SENT + number) for kind, number in after.items())


def test_who_bounced_complained_or_unsubscribed_is_listed_with_the_players_that_can_be_found(
    folder: Path, tmp_path: Path
) -> None:
    found = read(folder, tmp_path / "events.parquet")
    assert found.opted_out == ["p001@example.com", "p004"]
    assert found.unknown_players == 1, "the endpoint of m8 has no user"


def test_the_results_but_the_list_have_nothing_personal(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "results"
    assert main(["pinpoint-events", str(folder), "--into", str(into)]) == 0
    said, counts = capsys.readouterr().out, (into / "counts.json").read_text()
    assert counts in said
    assert json.loads(counts)["campaigns"]["c1"]["messages"] == 6
    with connect(into) as sql:
        rows = repr(sql.read_parquet(str(into / "events.parquet")).fetchall())
    assert "https://studio.example/play" in rows
    for text in PERSONAL:
        assert text not in rows + said
    people = into / "opted_out.txt"
    assert people.read_text() == "p001@example.com\np004\n"
    assert people.stat().st_mode & 0o077 == 0
    before = [(into / name).read_bytes() for name in ("events.parquet", "counts.json", "opted_out.txt")]
    assert main(["pinpoint-events", str(folder), "--into", str(into)]) == 0
    assert [(into / name).read_bytes() for name in ("events.parquet", "counts.json", "opted_out.txt")] == before


def changed(name: str, **changes: Any) -> Any:
    return copy.deepcopy(event(name)) | changes


@pytest.mark.parametrize(
    "record",
    [
        {"event_type": 7},
        {"event_type": "_email.send"},
        changed("_email.send", arrival_timestamp=None),
        changed("_email.send", arrival_timestamp="2019-08-01"),
        changed("_email.send", event_timestamp=10**18),
        changed("_email.send", facets={"email_channel": {"mail_event": {"mail": {"message_id": ""}}}}),
        changed("_email.send", attributes=["c1"]),
    ],
)
def test_what_is_no_event_is_not_fatal(tmp_path: Path, record: Any) -> None:
    (tmp_path / "stream").mkdir()
    (tmp_path / "stream" / "one").write_bytes(b"rubbish\n" + lines(record, event("_email.open")))
    (tmp_path / "stream" / "two").write_bytes(b"PAR1 and no more")
    found = read(tmp_path / "stream", tmp_path / "events.parquet").events
    assert (found["events"], found["unreadable"]) == (1, 3)


def test_unknown_subtypes_are_named_and_recipients_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "stream").mkdir()
    odd = [
        event("_email.hardbounce", "m1", bounce_type=None, bounce_sub_type=None),
        event("_email.softbounce", "m2", bounce_sub_type="Moon"),
        event("_email.complaint", "m3", complaint_feedback_type="rude", complained_recipients=["x"]),
        event("_email.hardbounce", "m4", bounced_recipients=7),
    ]
    (tmp_path / "stream" / "one").write_bytes(lines(*odd))
    found = read(tmp_path / "stream", tmp_path / "events.parquet")
    assert found.events["unknown_subtypes"] == {"Bounce Transient:Moon": 1, "Complaint rude": 1}
    assert found.campaigns["c1"]["bounces"] == {"Permanent": 1, "Permanent:General": 1, "Transient:Moon": 1}
    assert (found.opted_out, found.unknown_players) == (["p001@example.com"], 1)


def test_a_folder_without_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pinpoint-events", str(tmp_path), "--into", str(tmp_path / "results")]) == 1
    assert f"{tmp_path} has no files: download the objects into it" in capsys.readouterr().err
