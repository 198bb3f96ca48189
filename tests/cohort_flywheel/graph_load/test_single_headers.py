"""A copy with (single) headers differs from its file in the header alone."""

from __future__ import annotations

import bz2
import gzip
from io import BytesIO
from types import ModuleType

import pytest

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.graph_load.single_headers import with_single_headers


def copied(data: bytes, *single: str, name: str = "f.csv") -> bytes:
    return b"".join(with_single_headers(BytesIO(data), name, single))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_named_columns_are_single_and_the_rows_are_the_same(newline: str) -> None:
    rows = f'p,player, 1 ,"a ""b""{newline}c",x,é{newline}{newline}q'
    header = "~id,~label,ea_duty:Int,{},ea_x:Long,status:String"
    before, after = header.format("ea_name,ea_s:Int(set)"), header.format("ea_name,ea_s:Int(set)")
    for old, new in (
        ("ea_duty:Int", "ea_duty:Int(single)"),
        ("ea_name", "ea_name:String(single)"),
        ("ea_s:Int(set)", "ea_s:Int(single)"),
        ("ea_x:Long", "ea_x:Long(single)"),
    ):
        after = after.replace(old, new)
    data = f"{before}{newline}{rows}".encode()
    assert copied(data, "ea_*") == f"{after}{newline}{rows}".encode()
    assert copied(copied(data, "ea_*"), "ea_*") == copied(data, "ea_*")


@pytest.mark.parametrize(
    ("data", "single"),
    [
        (b"~id,~label,x:Int\na,b,1", ["ea_*"]),
        (b"~id,~from,~to,~label,x:Int\ne,a,b,l,1\n", ["*"]),
        (b"~id,~label,x:Int(single)", ["x"]),
        (b'"~id",~label, x:Int\r\na,b,1\r\n', []),
    ],
)
def test_a_file_with_nothing_to_change_is_copied(data: bytes, single: list[str]) -> None:
    assert copied(data, *single) == data


def test_a_glob_is_no_system_column() -> None:
    assert copied(b"~id,~label,x\n", "*") == b"~id,~label,x:String(single)\n"


@pytest.mark.parametrize(("name", "module"), [("f.csv.gz", gzip), ("f.csv.bz2", bz2)])
def test_a_compressed_file_stays_compressed(name: str, module: ModuleType) -> None:
    rows = "".join(f"p{number},player,{number}\n" for number in range(200_000))
    data = module.compress(f"~id,~label,ea_duty:Int\n{rows}".encode())
    copy = copied(data, "ea_*", name=name)
    assert module.decompress(copy).decode() == f"~id,~label,ea_duty:Int(single)\n{rows}"
    assert copied(data, "ea_*", name=name) == copy


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"~id,~label,ea_x:Int[]\n", "f.csv", "the property ea_x is an array"),
        (b"", "f.csv", "its header is not of Neptune's format"),
        (b"Jo,Smith\n", "f.csv", "its header is not of Neptune's format"),
        (b"~id,\xe4\n", "f.csv", "its header is not UTF-8 CSV"),
        (b'~id,"x\n', "f.csv", "its header is not UTF-8 CSV"),
        (b"~id\n", "f.csv.gz", "the file is not a complete .gz file"),
        (gzip.compress(b"~id\n", mtime=0), "f.csv", "the file is compressed: give its name the extension .gz"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(data: bytes, name: str, reason: str) -> None:
    with pytest.raises(
        FlywheelError, match=f"CF-LOAD-01: cannot copy {name} with .single. in its header, because {reason}"
    ) as raised:
        copied(data, "ea_*", name=name)
    assert "Smith" not in str(raised.value)
