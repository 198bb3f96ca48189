"""The lines of an object, wherever the pieces end in which it arrives."""

from __future__ import annotations

from typing import Any

from cohort_flywheel.hooks.s3 import S3Hook, lines
from local.config import Config

PIECE = 64 * 1024


def test_lines_are_those_of_the_whole_object(airflow_env: Any, aws: Any, config: Config) -> None:
    ends = [b"", b"\n", b"\r", b"\r\n", b"\n\n", b"a\r\nb\n\rc", "é\u2028\u0085\x0b\x1c".encode()]
    bodies = [b"", b"x", b"\n", b"\r\n", *ends]
    for before in (PIECE - 2, PIECE - 1, PIECE, 2 * PIECE - 1):
        bodies += [b"x" * before + end + rest for end in ends for rest in (b"", b"y", b"\ny\r\n")]
    for body in bodies:
        aws("s3").put_object(Bucket=config.export_bucket, Key="lines", Body=body)
        assert list(lines(S3Hook(), config.export_bucket, "lines")) == body.splitlines()
