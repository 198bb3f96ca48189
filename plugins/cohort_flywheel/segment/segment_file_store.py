"""Read a segment file from S3."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain

from cohort_flywheel.hooks.s3 import S3Hook, lines
from cohort_flywheel.segment.outputs import Segment


def segment_rows(s3: S3Hook, segment: Segment) -> Iterator[list[str]]:
    """Return the header of a segment file, then its rows, streamed."""
    for index, part in enumerate(segment.parts):
        rows = csv.reader(line.decode() for line in lines(s3, segment.s3_bucket, part.s3_key))
        header = next(rows)
        yield from chain([] if index else [header], rows)
