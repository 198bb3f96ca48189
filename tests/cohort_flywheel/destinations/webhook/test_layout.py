"""The messages of an import, and their batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cohort_flywheel.destinations.webhook import layout
from cohort_flywheel.segment.contacts import Contact

CONTACT = Contact("wayne96", "wayne@example.com", {"FirstName": 'Wayne "W"', "Level": ""})


def test_a_row_becomes_a_member_message() -> None:
    header, row = layout.header(list(CONTACT.attributes)), layout.row(CONTACT)
    line = layout.member_message(header, row)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "type": "member", "playerId": "wayne96", "email": "wayne@example.com",
        "attributes": {"FirstName": 'Wayne "W"', "Level": ""},
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 10, 25, 1000])
def test_batches_are_whole_lines_within_the_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "messages"
    lines = [layout.leaver_message("p" * number) for number in range(1, 20)]
    path.write_bytes(b"".join(lines))
    found = list(layout.batches(path, size))
    assert b"".join(batch.body for batch in found) == path.read_bytes()
    assert [batch.number for batch in found] == list(range(len(found)))
    assert sum(batch.lines for batch in found) == len(lines)
    assert all(len(batch.body) <= size or batch.lines == 1 for batch in found)


def test_no_message_gives_no_batch(tmp_path: Path) -> None:
    (tmp_path / "messages").touch()
    assert list(layout.batches(tmp_path / "messages", 10)) == []


def test_an_import_has_another_id_for_other_messages_another_upload_or_other_batches() -> None:
    ids = {layout.import_id(*each) for each in [("a", 1, 10), ("b", 1, 10), ("a", 2, 10), ("a", 1, 5)]}
    assert len(ids) == 4
    assert layout.import_id("a", 1, 10) == layout.import_id("a", 1, 10)


@pytest.mark.parametrize("value", ["x" * 101, "a\nb", "\ud800"])
def test_a_value_that_no_destination_takes_is_refused(value: str) -> None:
    assert layout.refused_column(Contact("p", "p@example.com", {"FirstName": value})) == "FirstName"
    assert layout.refused_column(Contact("a\nb", "p@example.com", {})) == "playerId"
    assert layout.refused_column(CONTACT) is None
