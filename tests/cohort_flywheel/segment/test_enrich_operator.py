"""Extract and contacts to a segment file, on DynamoDB Local and moto's S3 with the sample players."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.hooks.dynamodb import IN_FLIGHT, DynamoDBBatchGetHook
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator
from cohort_flywheel.segment.gremlin_to_s3_operator import GremlinToS3Operator
from tests.cohort_flywheel.suppressed import suppress

HEADER = (
    "ChannelType,Address,User.UserId,User.UserAttributes.FirstName,User.UserAttributes.LastName,"
    "Id,User.UserAttributes.FavoriteRole"
)
CONSENT = {"attribute": "emailConsent", "opted_in": ["yes"], "opted_out": ["no"], "silence": "opted_out"}


def extract(config: Any, threshold: int, name: str) -> str:
    key = f"export/{name}.json"
    GremlinToS3Operator(
        task_id="query", property="ea_atrisk", direction="above", threshold=threshold,
        s3_bucket=config.export_bucket, s3_key=key,
    ).execute({})  # fmt: skip
    return key


def enrich(config: Any, key: str, **arguments: Any) -> DynamoDBEnrichOperator:
    name = key.removeprefix("export/").removesuffix(".json")
    defaults: dict[str, Any] = {
        "extract_bucket": config.export_bucket, "extract_key": key, "property": "ea_atrisk",
        "table_name": config.contacts_table, "segment_bucket": config.import_bucket, "segment_folder": "segments/",
        "name": name, "rejects_bucket": config.state_bucket, "rejects_key": f"rejects/{name}.csv", "consent": CONSENT,
        "do_not_contact_key": "do_not_contact.txt",
    }  # fmt: skip
    return DynamoDBEnrichOperator(task_id="enrich", **(defaults | arguments))


def text(aws: Any, bucket: str, key: str) -> str:
    return str(aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def test_the_segment_file_of_the_three(airflow_env: Any, aws: Any, config: Any) -> None:
    output = enrich(config, extract(config, 2, "enrich_three")).execute({})
    header, *rows = text(aws, output["s3_bucket"], output["s3_key"]).splitlines()
    assert header == HEADER
    assert [row.split(",")[2:5] for row in rows] == [
        ["msmith", "Brett", "Ezell"], ["wayne96", "Wayne", "Johnson"], ["xortiz", "Tristan", "Nguyen"],
    ]  # fmt: skip
    assert output["s3_key"] == f"segments/enrich_three_{output['sha256'][:16]}.csv"
    assert (output["members"], output["rows"], output["rejects"]) == (3, 3, {})


def test_every_member_is_a_row_or_a_reject(airflow_env: Any, aws: Any, config: Any) -> None:
    output = enrich(config, extract(config, 0, "enrich_all")).execute({})
    assert output["members"] == 348 == output["rows"] + sum(output["rejects"].values())
    assert {"no_record", "no_address", "bad_address", "opted_out", "bad_value"} <= set(output["rejects"])
    rejects = list(csv.DictReader(io.StringIO(text(aws, config.state_bucket, "rejects/enrich_all.csv"))))
    assert len(rejects) == sum(output["rejects"].values())
    assert set(rejects[0]) == {"playerId", "reason", "column"}
    rows = list(csv.DictReader(io.StringIO(text(aws, output["s3_bucket"], output["s3_key"]))))
    players = [row["User.UserId"] for row in rows] + [row["playerId"] for row in rejects]
    assert len(players) == len(set(players)) == 348
    assert len({row["Id"] for row in rows}) == len(rows)
    assert not any("\n" in value or len(value) > 100 for row in rows for value in row.values())


def test_the_same_players_give_the_same_bytes(airflow_env: Any, config: Any) -> None:
    operator = enrich(config, extract(config, 1, "enrich_again"))
    assert operator.execute({}) == operator.execute({})


@pytest.mark.parametrize("argument", ["extract_bucket", "rejects_bucket", "segment_bucket"])
@pytest.mark.parametrize("bucket", ["s3://name", "s3://name/folder", "a b"])
def test_a_bucket_that_cannot_be_one_is_named_and_not_tried_again(
    airflow_env: Any, config: Any, argument: str, bucket: str
) -> None:
    """Of the operator alone, whose arguments no plan has checked."""
    operator = enrich(config, extract(config, 2, "enrich_three"), **{argument: bucket})
    with pytest.raises(AirflowFailException, match=rf"for the bucket name '{bucket}': correct the setting or argument"):
        operator.execute({})


def test_a_listed_player_is_in_no_file(airflow_env: Any, aws: Any, config: Any) -> None:
    """By playerId, and by address in another case; the list binds a file whatever the consent says."""
    key = extract(config, 2, "enrich_listed")
    row = next(csv.DictReader(io.StringIO(text(aws, config.import_bucket, enrich(config, key).execute({})["s3_key"]))))
    assert row["User.UserId"] == "msmith"
    body = f"\ufeffxortiz\r\n\r\n{row['Address'].upper()}\n"
    aws("s3").put_object(Bucket=config.state_bucket, Key="listed.txt", Body=body.encode())
    output = enrich(config, key, do_not_contact_key="listed.txt", consent=None).execute({})
    assert (output["rows"], output["rejects"], output["do_not_contact"]) == (1, {"do_not_contact": 2}, 2)
    assert "msmith" not in text(aws, config.import_bucket, output["s3_key"])


def test_lines_as_exports_leave_them_match_their_players(airflow_env: Any, aws: Any, config: Any) -> None:
    key = extract(config, 2, "enrich_exported")
    row = next(csv.DictReader(io.StringIO(text(aws, config.import_bucket, enrich(config, key).execute({})["s3_key"]))))
    body = f'"wayne96"\nanother_player\n\nxortiz,unsubscribed\n{row["Address"]}\u200b\n'
    aws("s3").put_object(Bucket=config.state_bucket, Key="exported.txt", Body=body.encode())
    output = enrich(config, key, do_not_contact_key="exported.txt").execute({})
    assert (output["rows"], output["rejects"]) == (0, {"do_not_contact": 3})
    assert (output["do_not_contact"], output["do_not_contact_matched"]) == (4, 3)


def test_an_entry_counts_as_matched_for_any_reject_reason(airflow_env: Any, aws: Any, config: Any) -> None:
    """By id and by address at once, twice on the list, of a player who said no: four entries, one player."""
    key = extract(config, 2, "enrich_twice")
    row = next(csv.DictReader(io.StringIO(text(aws, config.import_bucket, enrich(config, key).execute({})["s3_key"]))))
    address = row["Address"]
    body = f"{address}\nanother@example.com\n<{address.upper()}>\n{address}\n"
    aws("s3").put_object(Bucket=config.state_bucket, Key="twice.txt", Body=body.encode())
    says_no = CONSENT | {"opted_in": ["no"], "opted_out": ["yes"]}
    output = enrich(config, key, do_not_contact_key="twice.txt", consent=says_no).execute({})
    assert output["rejects"] == {"opted_out": 3}
    assert (output["do_not_contact"], output["do_not_contact_matched"]) == (4, 3)
    aws("s3").put_object(Bucket=config.state_bucket, Key="twice.txt", Body=f"{body}msmith\n".encode())
    output = enrich(config, key, do_not_contact_key="twice.txt", consent=None).execute({})
    assert output["rejects"] == {"do_not_contact": 1}
    assert (output["do_not_contact"], output["do_not_contact_matched"]) == (5, 4)


def test_a_line_that_cannot_match_a_player_stops_the_run_with_its_number(
    airflow_env: Any, aws: Any, config: Any
) -> None:
    aws("s3").put_object(Bucket=config.state_bucket, Key="odd.txt", Body=b"ann\n\n*@example.com\n")
    with pytest.raises(
        AirflowFailException, match="line 3 of the do-not-contact list is not an address or a"
    ) as raised:
        enrich(config, extract(config, 2, "enrich_odd"), do_not_contact_key="odd.txt").execute({})
    assert "example" not in str(raised.value)


def test_records_are_counted_with_what_they_lack(airflow_env: Any, config: Any) -> None:
    consent = CONSENT | {"attribute": "EmailConsent"}
    output = enrich(config, extract(config, 2, "enrich_lacks"), consent=consent).execute({})
    assert output["records"] == 3
    assert output["records_without"] == {
        "email": 0, "firstName": 0, "lastName": 0, "favoriteRole": 0, "EmailConsent": 3,
    }  # fmt: skip
    whole = enrich(config, extract(config, 0, "enrich_lacking")).execute({})
    assert whole["records"] == 348 - whole["rejects"]["no_record"]
    assert whole["records_without"]["email"] >= whole["rejects"]["no_address"] > 0


def test_a_text_above_the_consent_is_not_silence(airflow_env: Any, config: Any) -> None:
    consent = CONSENT | {"attribute": ["emailConsent", "ok"], "silence": "opted_in"}
    output = enrich(config, extract(config, 2, "enrich_above"), consent=consent).execute({})
    assert (output["rejects"], output["records_without"]["emailConsent.ok"]) == ({"opted_out": 3}, 3)


def test_a_list_that_is_not_text_fails_the_task(airflow_env: Any, aws: Any, config: Any) -> None:
    aws("s3").put_object(Bucket=config.state_bucket, Key="bad.txt", Body=b"\xff\xfex\x00")
    with pytest.raises(AirflowFailException, match="do-not-contact list is not UTF-8"):
        enrich(config, extract(config, 2, "enrich_bad"), do_not_contact_key="bad.txt").execute({})


def test_the_score_and_other_attributes_are_columns(airflow_env: Any, aws: Any, config: Any) -> None:
    key = extract(config, 2, "enrich_more")
    output = enrich(config, key, score_column="ea_atrisk", attributes={"Consent": "emailConsent"}).execute({})
    header, first, *_ = text(aws, config.import_bucket, output["s3_key"]).splitlines()
    assert header == HEADER + ",User.UserAttributes.Consent,User.UserAttributes.ea_atrisk"
    assert first.endswith(",DPS,yes,3")


def test_an_empty_cohort_has_a_header_and_no_rows(airflow_env: Any, aws: Any, config: Any) -> None:
    output = enrich(config, extract(config, 99, "enrich_empty")).execute({})
    assert (output["members"], output["rows"]) == (0, 0)
    assert text(aws, config.import_bucket, output["s3_key"]) == HEADER + "\n"


def test_the_parts_of_the_shards_are_the_whole_file(
    airflow_env: Any, aws: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohort_flywheel.segment.gremlin_to_s3_operator.shard_size", lambda *_: 20)
    output = GremlinToS3Operator(
        task_id="query", property="ea_atrisk", direction="above", threshold=1,
        s3_bucket=config.export_bucket, s3_key="export/enrich_shards.json",
    ).execute({})  # fmt: skip
    assert [shard["members"] for shard in output["shards"]] == [20, 20, 13]
    whole = enrich(config, "export/enrich_shards.json", in_flight=1).execute({})
    context: Any = {}
    parts = [
        enrich(config, "export/enrich_shards.json", segment_folder="staged/", shard=shard).execute(context)
        for shard in output["shards"]
    ]
    assert context["shard_label"] == "members 41 to 53"
    for index, part in enumerate(parts):
        assert part["s3_key"] == f"staged/enrich_shards/{index:04d}_{part['sha256'][:16]}.csv"
        assert part["rejects_key"] == f"rejects/enrich_shards/{output['sha256'][:16]}_20/{index:04d}.csv"
    assert sum(part["rows"] for part in parts) == whole["rows"]
    header, *rows = text(aws, config.import_bucket, whole["s3_key"]).splitlines()
    in_parts = [text(aws, config.import_bucket, part["s3_key"]).splitlines() for part in parts]
    assert [lines[0] for lines in in_parts] == [header] * 3
    assert [row for lines in in_parts for row in lines[1:]] == rows
    rejects = [text(aws, config.state_bucket, part["rejects_key"]).splitlines()[1:] for part in parts]
    assert [line for lines in rejects for line in lines] == text(
        aws, config.state_bucket, whole["rejects_key"]
    ).splitlines()[1:]


@pytest.mark.parametrize(("threshold", "size"), [(2, 20), (1, 40)])
def test_rejects_of_an_earlier_extract_are_not_beside_those_of_a_run(
    threshold: int, size: int, airflow_env: Any, aws: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later extract with fewer members, and the same extract in fewer shards."""
    name = f"enrich_again_{threshold}"

    def keys(threshold: int, size: int) -> list[str]:
        monkeypatch.setattr("cohort_flywheel.segment.gremlin_to_s3_operator.shard_size", lambda *_: size)
        output = GremlinToS3Operator(
            task_id="query", property="ea_atrisk", direction="above", threshold=threshold,
            s3_bucket=config.export_bucket, s3_key=f"export/{name}.json",
        ).execute({})  # fmt: skip
        parts = [
            enrich(config, f"export/{name}.json", name=name, rejects_key=f"rejects/{name}.csv", shard=shard).execute({})
            for shard in output["shards"]
        ]
        return [part["rejects_key"] for part in parts]

    assert len(keys(1, 20)) == 3
    later = keys(threshold, size)
    found = aws("s3").list_objects_v2(Bucket=config.state_bucket, Prefix=later[0].rpartition("/")[0] + "/")
    assert [item["Key"] for item in found["Contents"]] == later


def test_the_requests_in_flight_are_those_of_the_tuning(
    airflow_env: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def get_many(*_: Any, in_flight: int, **__: Any) -> list[Any]:
        found.append(in_flight)
        return []

    monkeypatch.setattr(DynamoDBBatchGetHook, "get_many", get_many)
    key = extract(config, 99, "enrich_in_flight")
    for number in (7, None):
        enrich(config, key, in_flight=number).execute({})
    assert found == [7, IN_FLIGHT]


def test_a_shard_of_an_extract_that_was_made_again_is_refused(airflow_env: Any, config: Any) -> None:
    key = extract(config, 2, "enrich_stale")
    shard = {"index": 0, "first": 2, "bytes": 9, "members": 1, "size": 1, "of": "0" * 64}
    with pytest.raises(AirflowFailException, match="has changed since it was cut into shards: clear the task"):
        enrich(config, key, shard=shard).execute({})


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ('[\n{"playerId": ["b"], "ea_atrisk": [3]},\n{"playerId": ["a"], "ea_atrisk": [3]}\n]\n', "line 3 .* sort it"),
        (
            '[\n{"playerId": ["a"], "ea_atrisk": [3]},\n{"playerId": ["a"], "ea_atrisk": [3]}\n]\n',
            "line 3 .* each once",
        ),
        ('[\n{"playerId": ["wayne96"]}\n]\n', "line 2 of the extract is not a record"),
        ("<html>", "line 1 of the extract is not a record"),
    ],
)
def test_an_extract_of_another_shape(lines: str, sentence: str, airflow_env: Any, aws: Any, config: Any) -> None:
    aws("s3").put_object(Bucket=config.export_bucket, Key="export/odd.json", Body=lines.encode())
    with pytest.raises(AirflowFailException, match=sentence) as raised:
        enrich(config, "export/odd.json").execute({})
    assert "wayne96" not in str(raised.value)


def test_an_extract_that_is_not_there(airflow_env: Any, config: Any) -> None:
    with pytest.raises(AirflowFailException, match="there is no s3://.*/export/nowhere.json"):
        enrich(config, "export/nowhere.json").execute({})


def test_a_table_that_is_not_there(airflow_env: Any, config: Any) -> None:
    with pytest.raises(AirflowFailException, match="BatchGetItem with ResourceNotFoundException"):
        enrich(config, extract(config, 2, "enrich_notable"), table_name="nowhere").execute({})


def test_output_fits_an_xcom_and_holds_no_player(airflow_env: Any, config: Any) -> None:
    output = json.dumps(enrich(config, extract(config, 2, "enrich_xcom")).execute({}))
    assert not any(word in output for word in ("wayne96", "msmith", "xortiz", "@", "Johnson"))


# --- members that are excluded ----------------------------------------------------------------------------

NOT_SINCE = {"template": "back", "since": "2026-10-23T00:00:00+00:00", "placeholders": {"FirstName": None}}


def put_ledger(aws: Any, config: Any, name: str, launched_at: str, *players: str, template: str = "back") -> str:
    header = {
        "name": name, "template": template, "segment_sha256": "ab", "destination": "ses", "launched_at": launched_at,
        "players": len(players),
    }  # fmt: skip
    key = f"sends/{template}/{name}.jsonl"
    aws("s3").put_object(
        Bucket=config.state_bucket, Key=key, Body="\n".join([json.dumps(header), *players, ""]).encode()
    )
    return key


def test_a_player_mailed_by_another_launch_is_excluded(airflow_env: Any, aws: Any, config: Any) -> None:
    """Of another cohort, threshold, day and destination, within not_again_days; not by this run, or another mail."""
    key, ours = extract(config, 2, "enrich_mailed"), "enrich_mailed"
    keys = [
        put_ledger(aws, config, "ea_malice_0_2026-10-22_00-00-00", "2026-10-22T01:00:00+00:00", "wayne96"),
        put_ledger(aws, config, "ea_atrisk_0_2026-10-21_00-00-00", "2026-10-21T23:00:00+00:00", "msmith"),
        put_ledger(aws, config, ours, "2026-11-22T01:00:00+00:00", "xortiz"),
        put_ledger(aws, config, "other", "2026-11-21T01:00:00+00:00", "msmith", template="hello"),
    ]
    try:
        output = enrich(config, key, withhold=NOT_SINCE, name=ours).execute({})
        assert (output["rows"], output["rejects"]) == (2, {"recently_mailed": 1})
        rejects = text(aws, config.state_bucket, "rejects/enrich_mailed.csv").splitlines()
        assert rejects[1:] == ["wayne96,recently_mailed,"]
        assert enrich(config, key, name=ours).execute({})["rows"] == 3
    finally:
        for each in keys:
            aws("s3").delete_object(Bucket=config.state_bucket, Key=each)


def test_the_holdout_of_a_launch_is_drawn_by_the_name_of_its_run(airflow_env: Any, aws: Any, config: Any) -> None:
    key, held = extract(config, 0, "enrich_of_launch"), {}
    for name in ("enrich_one", "enrich_two"):
        about = {"name": name, "rejects_key": f"rejects/{name}.csv", "withhold": {"launch_holdout_percent": 20}}
        output = enrich(config, key, **about).execute({})
        assert output["members"] == 348 == output["rows"] + sum(output["rejects"].values())
        lines = text(aws, config.state_bucket, f"rejects/{name}.csv").splitlines()
        held[name] = {line.partition(",")[0] for line in lines if ",launch_holdout," in line}
        assert 40 < len(held[name]) == output["rejects"]["launch_holdout"] < 90, "a fifth of 318"
        assert enrich(config, key, **about).execute({})["sha256"] == output["sha256"]
    assert held["enrich_one"] != held["enrich_two"]


def test_players_without_a_required_value_are_rejected(airflow_env: Any, aws: Any, config: Any) -> None:
    key = extract(config, 0, "enrich_lacking")
    carried = {"attributes": {"Guild": "guild"}}  # which no record of the sample has
    plain = enrich(config, key, **carried).execute({})
    lacking = enrich(config, key, **carried, withhold={"placeholders": {"Guild": None}}).execute({})
    assert lacking["rejects"] == plain["rejects"] | {"missing_value": plain["rows"]}
    assert "missing_value,Guild" in text(aws, config.state_bucket, "rejects/enrich_lacking.csv")
    with_default = {"placeholders": {"Guild": "no guild"}}
    assert enrich(config, key, **carried, withhold=with_default).execute({})["rows"] == plain["rows"]


def test_the_holdout_is_excluded_in_every_layout(airflow_env: Any, aws: Any, config: Any) -> None:
    key, held = extract(config, 0, "enrich_held"), {}
    for layout in ("pinpoint", "ses", "customer_profiles"):
        about = {"layout": layout, "rejects_key": f"rejects/{layout}.csv"}
        output = enrich(config, key, withhold={"holdout_percent": 20}, **about).execute({})
        assert output["members"] == 348 == output["rows"] + sum(output["rejects"].values())
        lines = text(aws, config.state_bucket, f"rejects/{layout}.csv").splitlines()
        held[layout] = {line.partition(",")[0] for line in lines if ",holdout," in line}
        assert len(held[layout]) == output["rejects"]["holdout"]
    assert held["pinpoint"] == held["ses"] == held["customer_profiles"]
    assert 40 < len(held["ses"]) < 90, "a fifth of 318"


def test_the_suppressed_are_in_no_file(planned: Any, extracted: Any, enriched: Any, aws: Any) -> None:
    """By playerId, and by address in another case; a list that is not there yet suppresses none."""
    plan = planned(threshold=2)
    plan["withhold"]["suppressions"], bucket = SUPPRESSIONS_KEY, plan["state_bucket"]
    extract = extracted(plan)
    (plain,) = enriched(plan, extract)
    assert (plain["rows"], plain["rejects"]) == (3, {})
    rows = csv.DictReader(io.StringIO(text(aws, plain["s3_bucket"], plain["s3_key"])))
    addresses = {row["User.UserId"]: row["Address"] for row in rows}
    suppress(bucket, "player", "xortiz", "unsubscribed")
    suppress(bucket, "address", addresses["msmith"].upper(), "bounced")
    suppress(bucket, "address", "former@example.com", "bounced")
    suppress(bucket, "player", "wayne96", "complained")
    suppress(bucket, "player", "wayne96", "complained", state="removed", at="2026-11-22")
    (output,) = enriched(plan, extract)
    assert (output["rows"], output["rejects"]) == (1, {"bounced": 1, "unsubscribed": 1})
    rejects = text(aws, bucket, output["rejects_key"]).splitlines()[1:]
    assert rejects == ["msmith,bounced,email", "xortiz,unsubscribed,"]
    plan["withhold"]["suppressions"] = None  # as with engagement off
    assert enriched(plan, extract) == [plain]
