"""The segment file of Amazon Connect Customer Profiles, and the files of its upload jobs.

The segment file is that of `destinations/ses/layout.py`: it has the playerIds, by which a later run finds former
members. A file of an upload job has its rows without the playerId, and with `in` in the attribute of the cohort. Former
members are in a file of two columns: the effect of an empty cell on an existing value of a profile is not documented.

Source of the rules: the Amazon Connect administrator guide, "Create segments from imported files".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.destinations.ses import layout as ses
from cohort_flywheel.destinations.ses.layout import MAX_BYTES, refused_column, row
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs.names import endpoint_id, instant
from cohort_flywheel.segment.segment_file import Layout

#: "Under 1GB in size": 10^9 bytes [strict].
MAX_UPLOAD_BYTES = 1_000_000_000 - 1
#: "You can map up to 25 attributes."
MAX_COLUMNS = 25

#: The column by which a profile is found again; it does not identify the player.
UNIQUE_KEY = "playerKey"
IN, OUT = "in", "out"

#: The target of a column in a profile; any other column is an attribute of the same name.
_TARGETS = {
    UNIQUE_KEY: ("AccountNumber", "STRING"),
    "emailAddress": ("EmailAddress", "EMAIL_ADDRESS"),
    "FirstName": ("FirstName", "NAME"),
    "LastName": ("LastName", "NAME"),
}


def header(columns: list[str]) -> list[str]:
    """Return the header of the segment file; raise FlywheelError for attributes that an upload job cannot have."""
    # the columns of an upload file: without the playerId, and with the segment's attribute
    names = [UNIQUE_KEY, *ses.header(columns)]
    if len(names) > MAX_COLUMNS:
        raise FlywheelError(
            f"an upload job has {MAX_COLUMNS} columns, and this cohort needs {len(names)}: use fewer attributes",
            code=Code.SEGMENT_FORM,
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise FlywheelError(
            f"the column {twice[0]} is in every upload already: rename the attribute of that name",
            code=Code.SEGMENT_FORM,
        )
    return names[1:]


def upload_header(segment_header: Sequence[str], attribute: str) -> list[str]:
    """Return the header of a file of members; raise FlywheelError if the segment's attribute is a column already."""
    address, _player_id, *columns = segment_header
    if attribute in columns:
        raise FlywheelError(
            f"the attribute {attribute} marks the members of the segment, and the cohort has another of that name:"
            " rename that one",
            code=Code.SEGMENT_FORM,
        )
    return [UNIQUE_KEY, address, *columns, attribute]


def upload_row(segment_row: Sequence[str]) -> list[str]:
    """A row of the segment file as a row of a file of members."""
    address, player_id, *cells = segment_row
    return [player_key(player_id), address, *cells, IN]


def out_header(attribute: str) -> list[str]:
    """The header of a file of former members."""
    return [UNIQUE_KEY, attribute]


def out_row(player_id: str) -> list[str]:
    return [player_key(player_id), OUT]


def player_key(player_id: str) -> str:
    """The key of a profile: stable and not personal, like Pinpoint's endpoint Id."""
    return endpoint_id("EMAIL", player_id)


def fields(upload_header: Sequence[str]) -> dict[str, dict[str, str]]:
    """The Fields of CreateUploadJob: the target of each column in a profile."""
    targets = {column: _TARGETS.get(column, (f"Attributes.{column}", "STRING")) for column in upload_header}
    return {
        column: {"Source": f"_source.{column}", "Target": f"_profile.{target}", "ContentType": content}
        for column, (target, content) in targets.items()
    }


def upload_job_name(segment: str, as_of: datetime, upload: int, kind: str, index: int, digest: str) -> str:
    """The DisplayName of an upload job: one file of upload number `upload` of a segment."""
    return f"{segment}.{instant(as_of)}.{upload}.{kind}_{index:04d}_{digest[:16]}.csv"


def upload_of(job_name: str, segment: str) -> int | None:
    """The number of the upload that a job belongs to, by its DisplayName; None for a job of another segment."""
    found = re.fullmatch(rf"{re.escape(segment)}\.[\d_-]+\.(\d+)\.(?:in|out)_\d+_[0-9a-f]+\.csv", job_name)
    return int(found[1]) if found else None


def segment_membership_key(domain: str, segment: str) -> str:
    """The key of the segment membership record, which no lifecycle rule may remove."""
    return f"memberships/customer_profiles/{domain}/{segment}.txt"


def segment_groups(attribute: str) -> AwsStructure:
    """CreateSegmentDefinition's SegmentGroups: every profile whose attribute is `in`."""
    condition = {"DimensionType": "INCLUSIVE", "Values": [IN]}
    dimension = {"ProfileAttributes": {"Attributes": {attribute: condition}}}
    return {"Groups": [{"Dimensions": [dimension], "Type": "ALL"}], "Include": "ALL"}


def is_same_segment(groups: object, others: object) -> bool:
    """Whether two SegmentGroups are equal; ALL counts as the default that a service may add [strict]."""
    return _bare(groups) == _bare(others)


def _bare(value: object) -> object:
    if isinstance(value, dict):
        plain = {key: _bare(each) for key, each in value.items()}
        return {key: each for key, each in plain.items() if each and (key, each) not in _DEFAULTS}
    return [_bare(each) for each in value] if isinstance(value, list) else value


_DEFAULTS = [("Include", "ALL"), ("Type", "ALL"), ("SourceType", "ALL")]


LAYOUT = Layout(MAX_BYTES, header, row, refused_column)
