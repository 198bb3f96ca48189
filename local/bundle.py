"""`make bundle`: build the files that Amazon MWAA takes into build/: the dags folder, plugins.zip, requirements.txt.

A startup script is not needed. The same sources give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from local.config import ROOT, LocalError

BUILD = ROOT / "build"
#: Our folder in the dags folder and in plugins.zip; other teams' files may be next to it.
OURS = "cohort_flywheel"
DAGS, PLUGINS, REQUIREMENTS = "dags", "plugins.zip", "requirements.txt"
#: In plugins.zip: each file of ours with its SHA-256, so that a later merge recognizes an earlier version of ours.
MANIFEST = f"{OURS}/bundle.json"
#: A template and policies are for the account, not for Airflow.
NOT_FOR_AIRFLOW = ("cloudformation", "iam")
#: Where MWAA unpacks plugins.zip. https://docs.aws.amazon.com/mwaa/latest/userguide/best-practices-dependencies.html
MWAA_PLUGINS = "/usr/local/airflow/plugins"
#: What runs on MWAA's images: Amazon Linux 2023 on x86-64.
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
PYTHON = "3.12"
#: In requirements.txt: our lines are between these two; lines before and after belong to others.
BEHIND = "# --- Cohort Flywheel\n"
END = "# --- the end of Cohort Flywheel: the next merge rewrites these lines and keeps those below\n"
#: Each line that earlier versions wrote behind BEHIND, when there was no END.
BEFORE_END = frozenset({
    "aiohttp", "apache-airflow-providers-amazon[aiobotocore]", "apache-airflow-providers-common-compat",
    "apache-airflow-providers-standard", "boto3", "botocore", "croniter", "email-validator", "gremlinpython", "orjson",
    "pendulum", "pydantic", "pyyaml", "tenacity",
})  # fmt: skip
#: The first line of a requirements.txt whose wheels are in plugins.zip.
WITH_WHEELS = f"--find-links {MWAA_PLUGINS}\n--no-index\n\n"
IGNORE = "# nothing in include/ is a DAG file (read as a glob, and as a regular expression)\ninclude\n"
SECONDS = 300


class Entry(NamedTuple):
    """An entry of a zip file: its date and mode, and its bytes."""

    info: zipfile.ZipInfo
    data: bytes


def build(
    folder: Path = BUILD,
    *,
    into: Path | None = None,
    their_requirements: Path | None = None,
    wheels_for: str | None = None,
    root: Path = ROOT,
) -> None:
    """Write the bundle into a folder, replacing the folder.

    into: an existing plugins.zip to merge a copy of ours into; their_requirements: an existing requirements.txt.
    wheels_for: the Airflow version of an environment whose web server has no internet: plugins.zip then carries the
    wheels of requirements.txt, which pip takes from there. Raises LocalError.
    """
    requirements = (root / REQUIREMENTS).read_text(encoding="utf-8")
    if their_requirements:
        requirements = merge_requirements(text(read(their_requirements), their_requirements.name), requirements)
    else:
        requirements = BEHIND + requirements + END
    ours = plugin_files(root)
    if wheels_for:
        ours |= wheels(requirements, wheels_for, root)
        requirements = WITH_WHEELS + requirements
    others = not_ours(into, ours) if into else {}
    # a file that they have with the same bytes is theirs: a later merge keeps it
    ours[MANIFEST] = as_json({name: digest(data) for name, data in ours.items() if name not in others})
    packed = zipped(ours, others)

    shutil.rmtree(folder, ignore_errors=True)
    for name, data in dag_files(root).items():
        file = folder / DAGS / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (folder / PLUGINS).write_bytes(packed)
    (folder / REQUIREMENTS).write_text(requirements, encoding="utf-8")


def dag_files(root: Path = ROOT) -> dict[str, bytes]:
    """The files below MWAA's dags folder, by name: our DAG files, and include/, which the DAG parser ignores."""
    found = {f"{OURS}/{name}": data for name, data in _files(root / "dags").items()}
    for name, data in _files(root / "include").items():
        if name.partition("/")[0] not in NOT_FOR_AIRFLOW:
            found[f"{OURS}/include/{name}"] = data
    found[f"{OURS}/.airflowignore"] = IGNORE.encode()
    return found


def plugin_files(root: Path = ROOT) -> dict[str, bytes]:
    """Our package, by its files' names in plugins.zip; with the runbook, which the page of a failed run quotes."""
    found = {f"{OURS}/{name}": data for name, data in _files(root / "plugins" / OURS).items()}
    runbook = root / "docs" / "reference" / "runbook.md"
    return found | ({f"{OURS}/ui/{runbook.name}": runbook.read_bytes()} if runbook.is_file() else {})


def _files(folder: Path) -> dict[str, bytes]:
    """The files below a folder, without compiled Python files and those of desktops and editors."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") and part != ".airflowignore" for part in parts)
        if path.is_file() and not hidden and "__pycache__" not in parts and path.suffix != ".pyc":
            found["/".join(parts)] = path.read_bytes()
    return found


def zipped(ours: Mapping[str, bytes], others: Mapping[str, Entry]) -> bytes:
    """Return a zip with sorted names; our entries share one date and mode, others keep theirs.

    Entries are not compressed: zlib's output depends on its version.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        for name in sorted({*ours, *others}):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16  # Unix, whatever this machine is
            if name not in ours:
                info.date_time, info.external_attr = others[name].info.date_time, others[name].info.external_attr
                info.create_system = others[name].info.create_system
            file.writestr(info, ours[name] if name in ours else others[name].data)
    return made.getvalue()


def not_ours(path: Path, ours: Mapping[str, bytes]) -> dict[str, Entry]:
    """The entries of an existing plugins.zip, without an earlier version of ours.

    Raises LocalError if one of our names has other bytes there, or our package would hide one of their modules.
    """
    kept = theirs(unzipped(read(path), path.name))
    if taken := sorted(name for name, (_, data) in kept.items() if name in ours and data != ours[name]):
        more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
        raise LocalError(
            f"{path.name} has {taken[0]}{more}, which is neither this version of ours nor an earlier one: rename it"
            " there, or, if it is a copy of ours that was edited, take the edit into plugins/ here and remove it there."
        )
    if hidden := sorted(name for name in kept if re.fullmatch(rf"{OURS}\.(py|pyc|so|.*\.so)", name)):
        raise LocalError(f"{path.name} has {hidden[0]}, which our package {OURS}/ would hide: rename it there.")
    return kept


def theirs(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries of a plugins.zip that are not ours; a file of ours that was edited there counts as theirs."""
    ours = manifest(entries)
    return {name: entry for name, entry in entries.items() if name != MANIFEST and ours.get(name) != digest(entry.data)}


def manifest(entries: Mapping[str, Entry]) -> dict[str, str]:
    """The SHA-256 of each of our files in a plugins.zip, from its manifest."""
    if MANIFEST not in entries:
        return {}
    try:
        return dict(json.loads(entries[MANIFEST].data))
    except ValueError:
        raise LocalError(
            f"The {MANIFEST} in plugins.zip is not a manifest written by `make bundle`: remove it there."
        ) from None


def unzipped(data: bytes, name: str) -> dict[str, Entry]:
    """Return each entry of a zip file; raises LocalError if it cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            return {info.filename: Entry(info, file.read(info)) for info in file.infolist()}
    except (
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
    ) as error:  # the last two: encrypted, compressed oddly
        raise LocalError(
            f"{name} cannot be read as a zip file ({error}): name the environment's plugins.zip."
        ) from None


def merge_requirements(another: str, ours: str) -> str:
    """Return the existing lines, followed by each of our lines whose package they do not name."""
    before = their_requirements_in(another).rstrip("\n")
    named = {distribution(line) for line in before.splitlines()}
    missing = [line for line in ours.splitlines() if distribution(line) and distribution(line) not in named]
    return f"{before}\n\n{BEHIND}" + "".join(f"{line}\n" for line in missing) + END


def their_requirements_in(requirements: str) -> str:
    """The lines of a requirements.txt that are not ours: those before and those added after ours."""
    before, _, behind = requirements.removeprefix(WITH_WHEELS).partition(BEHIND)
    ours, end, after = behind.partition(END)
    if not end:
        lines = [line for line in ours.splitlines() if not line.lstrip().startswith("#")]
        after = "".join(f"{line}\n" for line in lines if line.strip() not in {"", *BEFORE_END})
    return before + after


def lost(name: str, before: bytes, now: bytes) -> str | None:
    """What others added to an earlier plugins.zip or requirements.txt and the current one lacks, or None."""
    if name == PLUGINS:
        new = unzipped(now, name)
        for entry_name, entry in theirs(unzipped(before, name)).items():
            if entry_name not in new or new[entry_name].data != entry.data:
                return entry_name
        return None
    lines = text(now, name).splitlines()
    for line in their_requirements_in(text(before, name)).splitlines():
        if line.strip() and not line.lstrip().startswith("#") and line not in lines:
            return line
    return None


def distribution(line: str) -> str:
    """The package that a line of a requirements file names, with its extras; empty for any other line."""
    match = re.match(r"[A-Za-z0-9][\w.-]*(\[[\w, .-]*\])?", line.strip())
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def wheels(requirements: str, airflow: str, root: Path = ROOT) -> dict[str, bytes]:
    """The wheels that requirements need besides Airflow, in the versions of MWAA's image, by file name.

    Airflow and its dependencies are in the image. Raises LocalError if an index lacks one.
    """
    constraints = root / "constraints" / f"airflow-{airflow}.txt"
    if not constraints.is_file():
        known = " or ".join(sorted(path.stem.removeprefix("airflow-") for path in constraints.parent.glob("*.txt")))
        raise LocalError(f"{constraints.relative_to(root)} does not exist: set AIRFLOW_VERSION to {known}.")
    with tempfile.TemporaryDirectory() as folder:
        image = _resolved(f"apache-airflow=={airflow}\n", constraints)
        needed = _resolved(f"apache-airflow=={airflow}\n{requirements}", constraints) - image
        pins = Path(folder, "pins.txt")
        pins.write_text("".join(f"{pin}\n" for pin in sorted(needed)), encoding="utf-8")
        made = Path(folder, "wheels")
        _run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"),
                *(part for platform in PLATFORMS for part in ("--platform", platform)),
                *("--dest", str(made), "--requirement", str(pins)),
            ]
        )
        return {path.name: path.read_bytes() for path in sorted(made.glob("*.whl"))}


def _resolved(requirements: str, constraints: Path) -> set[str]:
    """The pins of requirements and their dependencies, on MWAA's platform."""
    command = [
        *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--no-annotate", "--no-header"),
        *("--no-strip-extras", "--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28"),
        *("--only-binary", ":all:", "--constraint", str(constraints), "-"),
    ]
    return {line for line in _run(command, requirements).splitlines() if distribution(line)}


def _run(command: list[str], given: str = "") -> str:
    """Return a command's output; raises LocalError with the end of its error output if it fails."""
    try:
        run = subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"Downloading the wheels took longer than {SECONDS} s: check that the package index is reachable."
        ) from None
    if run.returncode:
        raise LocalError(f"The wheels could not be downloaded:\n{run.stderr.strip()[-1500:]}")
    return run.stdout


def stale(folder: Path = BUILD, root: Path = ROOT) -> str | None:
    """The name of a file that was changed since the bundle was built, or None."""
    entries = unzipped(read(folder / PLUGINS), PLUGINS)
    packed = {name for name in manifest(entries) if not name.endswith(".whl")}
    plugins = plugin_files(root)
    made = {f"{DAGS}/{name}": data for name, data in _files(folder / DAGS).items()}
    made |= {name: entries[name].data for name in {*packed, *plugins} if name in entries}
    now = {f"{DAGS}/{name}": data for name, data in dag_files(root).items()} | plugins
    if changed := sorted(name for name in {*made, *now} if made.get(name) != now.get(name)):
        return changed[0]
    there, here = ({distribution(line) for line in lines_of(place / REQUIREMENTS)} for place in (folder, root))
    return None if here <= there else REQUIREMENTS


def lines_of(path: Path) -> list[str]:
    return text(read(path), path.name).splitlines()


def text(data: bytes, name: str) -> str:
    """Decode a file's bytes; raises LocalError if they are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise LocalError(f"{name} is not UTF-8: save it as that.") from None


def read(path: Path) -> bytes:
    """Return a file's bytes; raises LocalError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({error.strerror}): name an existing file.") from None


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def as_json(value: Mapping[str, str]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
