"""A graph load: which files the bulk loader of Neptune loads, in which order, and how."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from cohort_flywheel.config.cohorts import Name, Strict
from cohort_flywheel.config.setting_types import BucketName, RegionName, RoleArn

#: The names of files that a prefix takes [Neptune user guide, bulk load: CSV, compressed with gzip or bzip2].
FILE_ENDINGS = (".csv", ".csv.gz", ".csv.bz2")
MAX_FILES = 1000


def _object_key(key: str) -> str:
    if not key or key.startswith("/") or len(key.encode()) > 1024 or not key.isprintable():
        raise ValueError(f"{key!r} is not the key of an object: write it without s3://, the bucket and a first slash")
    if re.search(r"[*?\[\]]", key):
        raise ValueError(f"{key!r} has a wildcard, which is not expanded: write each file, or use prefix")
    return key


def _folder(key: str) -> str:
    if not _object_key(key).endswith("/"):
        raise ValueError(f"{key!r} does not end with a slash: write a folder, such as graph/cohort_modeler/")
    return key


def _file_name(key: str) -> str:
    if not _object_key(key).endswith(FILE_ENDINGS):
        raise ValueError(f"{key!r} is not a CSV file: its name must end with one of {', '.join(FILE_ENDINGS)}")
    return key


def _property_name(text: str) -> str:
    if not re.fullmatch(r"[^~:()\[\],\"\s]+|[^~:(),\"\s]*[*?][^~:(),\"\s]*", text):
        raise ValueError(f"{text!r} is not the name of a property, or a pattern such as ea_*: write it without a type")
    return text


ObjectKey = Annotated[str, AfterValidator(_file_name)]
Folder = Annotated[str, AfterValidator(_folder)]
PropertyName = Annotated[str, AfterValidator(_property_name)]


class GraphLoad(Strict):
    """One load of the registry. docs/how-to/graph-load.md describes each key.

    files: names below `folder`, in the order in which they are loaded. prefix: a folder instead, all of whose files are
    loaded, vertices first. bucket, role, region: None for the Variables' and the AWS connection's. single: names or
    patterns of properties that have one value.
    """

    name: SkipJsonSchema[Name]  # in the file the key above its lines
    description: str = ""
    bucket: BucketName | None = None
    folder: Folder | None = None
    files: list[ObjectKey] | None = Field(default=None, min_length=1, max_length=MAX_FILES)
    prefix: Folder | None = None
    role: RoleArn | None = None
    region: RegionName | None = None
    mode: Literal["new", "auto", "resume"] = "new"
    single: list[PropertyName] = Field(default_factory=list)
    self_contained: StrictBool = False
    parallelism: Literal["low", "medium", "high", "oversubscribe"] = "high"
    max_findings: Annotated[StrictInt, Field(ge=1, le=1000)] = 20

    @model_validator(mode="after")
    def _names_its_files(self) -> GraphLoad:
        if (self.files is None) == (self.prefix is None):
            raise ValueError("a load has either files or prefix: write one of the two")
        if self.prefix and self.folder:
            raise ValueError("prefix is a folder itself: remove folder")
        if self.files and (twice := sorted({each for each in self.files if self.files.count(each) > 1})):
            raise ValueError(f"{twice[0]} occurs twice in files: remove one of the two")
        return self

    def file_keys(self) -> list[str]:
        """The keys of `files`, in their order."""
        return [(self.folder or "") + each for each in self.files or ()]
