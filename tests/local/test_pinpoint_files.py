"""What an import makes of its file: pieces that are refused whole, rows that fail alone, endpoints that change."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.pinpoint_service import BUCKET, HEADER, Service, allow, code_of, people, process, trust


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process() as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.control(reset=True, import_seconds=0)
    return server


def row(**columns: str) -> str:
    """A file of one row, these columns over a new e-mail endpoint's; dots are written as double underscores."""
    given = {"ChannelType": "EMAIL", "Address": "ann@example.com", "Id": "ann-email"}
    named = given | {name.replace("__", "."): value for name, value in columns.items()}
    return f"{','.join(named)}\n{','.join(named.values())}\n"


def outcome(job: dict[str, Any]) -> tuple[str, int, int]:
    return job["JobStatus"], job["FailedPieces"], job["TotalFailures"]


ROW_FAILED = ("COMPLETED", 0, 1)
PIECE_FAILED = ("FAILED", 1, 0)
GOOD = ("COMPLETED", 0, 0)


# --- files that are refused whole


@pytest.mark.parametrize(
    ("content", "key"),
    [
        pytest.param(gzip.compress(people("ann").encode()), "a.csv", id="compressed"),
        pytest.param(people("ann"), "a.csv.gz", id="named as compressed"),
        pytest.param(people("ann").replace("First", "Jos\xe9").encode("latin-1"), "a.csv", id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf" + people("ann").encode(), "a.csv", id="a byte order mark"),
        pytest.param(b"", "a.csv", id="empty"),
        pytest.param("\n", "a.csv", id="no header"),
        pytest.param(HEADER + 'EMAIL,ann@example.com,ann,A "quote" inside,Last,a\n', "a.csv", id="a bare quote"),
        pytest.param(HEADER + 'EMAIL,ann@example.com,ann,"open,Last,a\n', "a.csv", id="an open quote"),
        pytest.param(row(channelType="EMAIL"), "a.csv", id="a column in another case"),
        pytest.param(row(FavoriteRole="Tank"), "a.csv", id="an unknown column"),
        pytest.param(row(User__Name="Ann"), "a.csv", id="an unknown member of User"),
        pytest.param(row(Location__Planet="Earth"), "a.csv", id="an unknown member of Location"),
        pytest.param(row(EffectiveDate="2026-11-22T00:00:00Z"), "a.csv", id="EffectiveDate"),
        pytest.param(row(EndpointStatus="ACTIVE"), "a.csv", id="EndpointStatus"),
        pytest.param(row(**{"Attributes__" + 51 * "x": "1"}), "a.csv", id="an attribute's name of 51"),
        pytest.param(row(**{"Attributes__a#b": "1"}), "a.csv", id="an attribute's name with #"),
        pytest.param(row(**{"Attributes__": "1"}), "a.csv", id="an attribute without a name"),
        pytest.param("Id,Id\na,a\n", "a.csv", id="a column twice"),
    ],
)
def test_a_piece_is_refused(service: Service, content: str | bytes, key: str) -> None:
    job = service.run(content, key)
    assert outcome(job) == PIECE_FAILED
    assert (job["TotalPieces"], job["CompletedPieces"], job["TotalProcessed"], len(job["Failures"])) == (1, 0, 0, 1)
    assert service.state()["endpoints"] == []


def test_more_than_the_largest_file_is_refused(service: Service) -> None:
    service.control(max_bytes=len(people("ann")))
    assert outcome(service.run(people("ann"))) == GOOD
    assert outcome(service.run(people("ann", "bob"))) == PIECE_FAILED


def test_nothing_at_the_location_fails_the_job(service: Service) -> None:
    for url in (f"s3://{BUCKET}/nothing-here/", "s3://segments-elsewhere/file.csv"):
        job = service.create(url) if BUCKET + "/" in url else service.create(url, RoleArn=wide_role(service))
        assert outcome(service.finish(job)) == PIECE_FAILED


def wide_role(service: Service) -> str:
    return service.make_role("Wide", trust(), allow("s3:*", resource="*"))


# --- rows that fail alone


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(row(User__UserId='"two\nlines"'), id="a line break"),
        pytest.param(row(User__UserId='"carriage\rreturn"'), id="a carriage return"),
        pytest.param(row(User__UserId="a\ttab"), id="a tab"),
        pytest.param(HEADER + "EMAIL,ann@example.com,ann,First,Last\n", id="too few values"),
        pytest.param(HEADER + "EMAIL,ann@example.com,ann,First,Last,a,b\n", id="too many values"),
        pytest.param(HEADER + "\n", id="a blank line"),
        pytest.param(row(Address=""), id="no Address"),
        pytest.param(row(ChannelType=""), id="no ChannelType"),
        pytest.param("Id,User.UserId\nann-email,ann\n", id="a new endpoint by Id alone"),
        pytest.param(row(ChannelType="email"), id="a channel in another case"),
        pytest.param(row(ChannelType="PIGEON"), id="an unknown channel"),
        pytest.param(row(Address="ann"), id="no e-mail address"),
        pytest.param(row(Address="ann@localhost"), id="a host without a dot"),
        pytest.param(row(Address="ann @example.com"), id="a space in an address"),
        pytest.param(row(Address="j\u00f8rn@example.com"), id="an address that SES cannot take"),
        pytest.param(row(ChannelType="SMS", Address="2065550100"), id="a number without its plus"),
        pytest.param(row(ChannelType="VOICE", Address="+1 206 555 0100"), id="a number with spaces"),
        pytest.param(row(ChannelType="SMS", Address="+1234567890123456"), id="a number of 16 digits"),
        pytest.param(row(OptOut="YES"), id="OptOut"),
        pytest.param(row(Attributes__A=101 * "x"), id="an attribute's value of 101"),
        pytest.param(row(User__UserAttributes__A=101 * "x"), id="a user attribute's value of 101"),
        pytest.param(row(Metrics__A="many"), id="a metric that is not a number"),
        pytest.param(row(Location__Latitude="north"), id="a latitude that is not a number"),
        pytest.param(row(Demographic__Make=16000 * "x"), id="an endpoint above 15 KB"),
        pytest.param(row(Id="ann${x}"), id="an Id with braces"),
    ],
)
def test_a_row_fails(service: Service, content: str) -> None:
    job = service.run(content)
    assert outcome(job) == ROW_FAILED
    assert job["TotalProcessed"] == 1
    assert service.state()["endpoints"] == []
    assert service.segment(job["Definition"]["SegmentId"])["ImportDefinition"]["Size"] == 0


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(row(User__UserId='"Ann, ""the tank"" of J\u00f8rn \U0001f600"'), id="quotes, commas, emoji"),
        pytest.param(row().replace("\n", "\r\n"), id="CR LF"),
        pytest.param(row().removesuffix("\n"), id="no last line break"),
        pytest.param(row(Attributes__A=100 * "x", User__UserAttributes__B=100 * "\u00e9"), id="values of 100"),
        pytest.param(row(**{"Attributes__" + 50 * "x": "1"}), id="a name of 50"),
        pytest.param(row(ChannelType="SMS", Address="+12065550100"), id="E.164"),
        pytest.param(row(Metrics__A="1.5", Location__Latitude="47.6", Location__City="Seattle"), id="numbers"),
        pytest.param(row(Demographic__Locale="en", OptOut="ALL", Attributes__A=""), id="an empty cell"),
        pytest.param(HEADER, id="no rows"),
    ],
)
def test_a_file_is_taken(service: Service, content: str) -> None:
    assert outcome(service.run(content)) == GOOD


def test_a_completed_job_carries_its_bad_rows(service: Service) -> None:
    bad = "".join(f"EMAIL,unknown{n},p{n},First,Last,p{n}\n" for n in range(150))
    job = service.run(people("ann", "bob") + bad)
    assert (job["JobStatus"], job["TotalProcessed"], job["TotalFailures"]) == ("COMPLETED", 152, 150)
    assert len(job["Failures"]) == 100
    assert job["Failures"][0].startswith("Piece 1, line 4: ")
    assert not any("unknown" in text for text in job["Failures"])
    assert service.segment(job["Definition"]["SegmentId"])["ImportDefinition"]["Size"] == 2


def test_a_line_is_counted_where_its_row_begins(service: Service) -> None:
    lines = HEADER + 'EMAIL,ann@example.com,"a\nb",First,Last,a\n' + "EMAIL,no,b,First,Last,b\n"
    assert [text.split(":")[0] for text in service.run(lines)["Failures"]] == ["Piece 1, line 2", "Piece 1, line 4"]


def test_rows_of_json(service: Service) -> None:
    good = {"Id": "a", "ChannelType": "EMAIL", "Address": "ann@example.com", "User": {"UserId": "ann"}}
    bad = [
        {**good, "Id": "b", "Attributes": {"A": "no list"}},
        {**good, "Id": "c", "Unknown": "x"},
        {**good, "Id": "d", "Attributes": {"A": ["line\nbreak"]}},
        {**good, "Id": "e", "Attributes": {"A": ["v"] * 51}},
        {**good, "Id": "f", "EndpointStatus": "ACTIVE"},
    ]
    text = "\n".join([*map(json.dumps, [good, *bad]), "{", ""])
    job = service.run(text, "in/file.json", Format="JSON")
    assert (job["TotalProcessed"], job["TotalFailures"]) == (7, 6)
    assert [e["Id"] for e in service.state()["endpoints"]] == ["a"]


# --- the location


def test_a_prefix_takes_every_object_under_it(service: Service) -> None:
    for key, name in (("day/a.csv", "ann"), ("day/deep/b.csv", "bob"), ("day/stray.csv", "cat")):
        service.put(people(name), key)
    service.put("{}", "day/report.json")  # another format's files are passed over
    service.put("", "day/")  # the marker that the console makes for a folder
    job = service.finish(service.create(f"s3://{BUCKET}/day/"))
    assert (job["TotalPieces"], job["CompletedPieces"], job["TotalProcessed"]) == (3, 3, 3)
    job = service.finish(service.create(f"s3://{BUCKET}/day/deep"))
    assert job["TotalPieces"] == 1


@pytest.mark.parametrize(("mode", "segments"), [("partial", 1), ("none", 0)])
def test_one_bad_piece_fails_the_job(service: Service, mode: str, segments: int) -> None:
    service.control(failed_job_segment=mode)
    service.put(people("ann"), f"{mode}/a.csv")
    service.put(b"\xff", f"{mode}/b.csv")
    job = service.finish(service.create(f"s3://{BUCKET}/{mode}/"))
    assert (job["JobStatus"], job["CompletedPieces"], job["FailedPieces"], job["TotalPieces"]) == ("FAILED", 1, 1, 2)
    assert len(service.state()["segments"]) == segments
    assert ("SegmentId" in job["Definition"]) == bool(segments)


# --- endpoints


def test_a_row_with_an_id_updates_and_one_without_adds(service: Service) -> None:
    for _ in range(2):
        assert outcome(service.run(row(User__UserId="ann"))) == GOOD
    assert len(service.state()["endpoints"]) == 1
    chosen = "ChannelType,Address,User.UserId\nEMAIL,ann@example.com,ann\n"
    for _ in range(14):
        assert outcome(service.run(chosen)) == GOOD
    listed = service.pinpoint.get_user_endpoints(ApplicationId=service.app, UserId="ann")["EndpointsResponse"]["Item"]
    assert len({e["Id"] for e in listed}) == 15
    assert outcome(service.run(chosen)) == ROW_FAILED, "A user has at most 15 endpoints."
    assert outcome(service.run(row(User__UserId="ann"))) == GOOD, "An update does not add a sixteenth."


def test_an_update_needs_its_id_alone(service: Service) -> None:
    service.run(row(User__UserId="ann", Attributes__A="1", Attributes__B="1"))
    assert outcome(service.run("Id,Attributes.B\nann-email,2\n")) == GOOD
    endpoint = service.endpoint("ann-email")
    assert endpoint["Address"] == "ann@example.com"
    assert endpoint["Attributes"] == {"A": ["1"], "B": ["2"]}


def test_ids_are_case_insensitive(service: Service) -> None:
    job = service.run(people("ann", "Ann"))
    assert len(service.state()["endpoints"]) == 1
    assert service.endpoint("ANN-EMAIL")["User"]["UserId"] == "Ann"
    assert service.segment(job["Definition"]["SegmentId"])["ImportDefinition"]["Size"] == 1


def test_a_file_without_opt_out_leaves_it_as_it_is(service: Service) -> None:
    service.run(row())
    service.update_endpoint("ann-email", OptOut="ALL")
    service.run(row())
    assert service.endpoint("ann-email")["OptOut"] == "ALL"
    service.run(row(OptOut="NONE"))
    assert service.endpoint("ann-email")["OptOut"] == "NONE"


def test_an_opt_out_remains_on_the_other_endpoint_of_the_address(service: Service) -> None:
    service.run("ChannelType,Address,User.UserId\nEMAIL,ann@example.com,ann\n")
    old = service.state()["endpoints"][0]["Id"]
    service.update_endpoint(old, OptOut="ALL")
    service.run(row(User__UserId="ann"))
    assert (service.endpoint(old)["OptOut"], service.endpoint(old)["EndpointStatus"]) == ("ALL", "INACTIVE")
    new = service.endpoint("ann-email")
    assert (new["OptOut"], new["EndpointStatus"]) == ("NONE", "ACTIVE")


def test_one_endpoint_twice_in_a_file_counts_once(service: Service) -> None:
    job = service.run(people("ann", "ann"))
    assert job["TotalProcessed"] == 2
    assert service.segment(job["Definition"]["SegmentId"])["ImportDefinition"]["Size"] == 1


def test_an_application_has_at_most_250_attributes(service: Service) -> None:
    names = [f"Attributes.A{n}" for n in range(250)]
    wide = f"Id,ChannelType,Address,{','.join(names)}\na,EMAIL,ann@example.com,{','.join('1' * 250)}\n"
    assert outcome(service.run(wide)) == GOOD
    assert outcome(service.run(row(Attributes__A0="2"))) == GOOD
    assert outcome(service.run(row(User__UserAttributes__One="1"))) == ROW_FAILED
    assert outcome(service.run(row(Metrics__One="1"))) == ROW_FAILED


def test_update_endpoint_keeps_the_same_rules(service: Service) -> None:
    good = {"ChannelType": "EMAIL", "Address": "ann@example.com"}
    service.update_endpoint("with/slash and space", **good, User={"UserId": "a/b"})
    assert service.endpoint("with/slash and space")["Id"] == "with/slash and space"
    assert service.pinpoint.get_user_endpoints(ApplicationId=service.app, UserId="a/b")["EndpointsResponse"]["Item"]
    bad: list[dict[str, Any]] = [
        {"Address": "ann@example.com"},
        {"ChannelType": "EMAIL"},
        {**good, "ChannelType": "PIGEON"},
        {**good, "Address": "ann"},
        {**good, "OptOut": "YES"},
        {**good, "Attributes": {"A": 51 * ["x"]}},
        {**good, "Attributes": {51 * "x": ["1"]}},
        {**good, "User": {"UserAttributes": {"A": [101 * "x"]}}},
    ]
    for endpoint in bad:
        with pytest.raises(ClientError) as error:
            service.update_endpoint("new", **endpoint)
        assert code_of(error) == ("BadRequestException", 400)


def test_an_unknown_endpoint_or_user_is_not_found(service: Service) -> None:
    app = service.app
    calls: list[Callable[[], Any]] = [
        lambda: service.endpoint("unknown"),
        lambda: service.pinpoint.delete_endpoint(ApplicationId=app, EndpointId="unknown"),
        lambda: service.pinpoint.get_user_endpoints(ApplicationId=app, UserId="unknown"),
    ]
    for call in calls:
        with pytest.raises(ClientError) as error:
            call()
        assert code_of(error) == ("NotFoundException", 404)


def test_a_deleted_endpoint_frees_its_place(service: Service) -> None:
    service.run(row(User__UserId="ann"))
    service.pinpoint.delete_endpoint(ApplicationId=service.app, EndpointId="ann-email")
    assert service.state()["endpoints"] == []
