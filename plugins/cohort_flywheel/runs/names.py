"""The names of a run, derived only from cohort, threshold and as-of, so that repeated steps give the same names."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from cohort_flywheel.config.decimals import Number, number_text

DO_NOT_CONTACT_KEY = "do_not_contact.txt"
SUPPRESSIONS_KEY = "engagement/suppressions.csv"
SEGMENT_FOLDER = "segments/"
STAGED_FOLDER = "staged/"
CLAIMS_FOLDER = "claims/"
LAST_RUNS_FOLDER = "last_runs/"
SNAPSHOTS_FOLDER = "snapshots/"
PENDING_SNAPSHOTS_FOLDER = "snapshots_pending/"
#: The folder of uploaded extracts, in the export bucket.
UPLOADED_FOLDER = "dropped/"

_INSTANT = "%Y-%m-%d_%H-%M-%S"
_AS_OF = "as_of="


def run_name(
    cohort: str, threshold: Number, as_of: datetime, *, live: bool = False, extract_sha256: str | None = None
) -> str:
    """`ea_atrisk_2_2026-11-22_00-00-00`: the seed's name of an extract, with the as-of in UTC.

    `live` marks a run that read the graph of another day than the as-of. `extract_sha256` marks a run of an uploaded
    extract: the same bytes have the same name.
    """
    suffix = f"_extract_{extract_sha256[:16]}" if extract_sha256 else "_live" if live else ""
    return f"{cohort}_{number_text(threshold)}_{instant(as_of)}{suffix}"


def cohort_of(name: str) -> str | None:
    """Return the cohort of the name of a canonical run; None for another text."""
    found = re.fullmatch(r"([A-Za-z]\w*)_[^_]+_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)", name)
    return found[1] if found and is_instant(found[2]) else None


def segment_name(cohort: str, threshold: Number) -> str:
    """The name of the segment of a cohort and threshold at a service whose names have no dot: `churn_0p75`."""
    return f"{cohort}_{number_text(threshold).replace('.', 'p')}"


def instant(as_of: datetime) -> str:
    """Format an as-of as a part of a name; names sort in the order of time."""
    return as_of.astimezone(UTC).strftime(_INSTANT)


def from_instant(text: str) -> datetime:
    return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)


def is_instant(text: str) -> bool:
    """Whether a folder's name is an as-of: a user may have other folders beside them."""
    try:
        return instant(from_instant(text)) == text
    except ValueError:
        return False


def extract_key(name: str) -> str:
    return f"export/{name}.json"


def staged_extract_key(folder: str, name: str) -> str:
    """The key of our copy of an uploaded extract; in the export bucket it would start its listeners again."""
    return f"{folder}{name}.json"


def segment_file_name(name: str, digest: str) -> str:
    """A file name with the digest of the bytes: other bytes have another address, and so another import job."""
    return f"{name}_{digest[:16]}.csv"


def part_file_name(name: str, index: int, digest: str) -> str:
    """The staged part of a segment file that belongs to one shard."""
    return f"{name}/{index:04d}_{digest[:16]}.csv"


def matched_file_name(name: str, index: int, digest: str) -> str:
    """The file of the do-not-contact lines that match a member of the shard, beside its part."""
    return f"{name}/{index:04d}_matched_{digest[:16]}.csv"


def segment_part_key(folder: str, name: str, digest: str, index: int) -> str:
    """The key of a part for the import: the folder has the digest of the whole content."""
    return f"{folder}{name}_{digest[:16]}/{index:04d}.csv"


def rejects_key(name: str) -> str:
    return f"rejects/{name}.csv"


def rejects_folder(key: str, extract_sha256: str, shard_members: int) -> str:
    """The folder of the rejects of one extract, cut into shards of one size: no other parts are in it."""
    return f"{key.removesuffix('.csv')}/{extract_sha256[:16]}_{shard_members}/"


def rejects_part_key(folder: str, index: int) -> str:
    """The key of one shard's rejects."""
    return f"{folder}{index:04d}.csv"


def unusable_vertices_key(rejects_key: str) -> str:
    """The key of the list of vertices whose score is not a number, beside the rejects of a run."""
    return f"{rejects_key.removesuffix('.csv')}/unusable_vertices.csv"


def report_folder(name: str) -> str:
    return f"reports/{name}/"


def report_file_name(dag_id: str, run_id: str) -> str:
    """The file name of a run's report: two DAGs can have the same run id, and S3 advises against `+` and `:` in it."""
    return f"{dag_id}__{re.sub(r'[^A-Za-z0-9_.-]', '_', run_id)}.json"


def snapshots_folder(cohort: str, *, pending: bool = False) -> str:
    """The folder with a partition per as-of: of the final snapshots, or of all reads of the graph."""
    return f"{PENDING_SNAPSHOTS_FOLDER if pending else SNAPSHOTS_FOLDER}cohort={cohort}/"


def pending_snapshots_folder(cohort: str, as_of: datetime) -> str:
    """The folder of the reads of the graph for an as-of."""
    return f"{snapshots_folder(cohort, pending=True)}{_AS_OF}{instant(as_of)}/"


def pending_snapshot_key(cohort: str, as_of: datetime, read: str) -> str:
    return f"{pending_snapshots_folder(cohort, as_of)}{read}.parquet"


def snapshot_key(cohort: str, as_of: datetime) -> str:
    """The key of the final snapshot of an as-of, the only object of its partition."""
    return f"{snapshots_folder(cohort)}{_AS_OF}{instant(as_of)}/snapshot.parquet"


def as_of_of_folder(name: str) -> datetime | None:
    """The as-of of a partition, by its folder's name; None for another folder, which a user may have there."""
    text = name.removeprefix(_AS_OF)
    return from_instant(text) if name.startswith(_AS_OF) and is_instant(text) else None


def claim_key(name: str) -> str:
    """The key of the lock of a name, which has the run that holds it."""
    return f"{CLAIMS_FOLDER}{name}.json"


def last_run_key(claim_key: str) -> str:
    """The key of the last run that held a lock, written when the lock is released."""
    return claim_key.replace(CLAIMS_FOLDER, LAST_RUNS_FOLDER, 1)


def results_folder(cohort: str, threshold: Number) -> str:
    """The folder with one file per as-of: the result of its verified segment."""
    return f"results/{cohort}/{number_text(threshold)}/"


def result_key(cohort: str, threshold: Number, as_of: datetime) -> str:
    return f"{results_folder(cohort, threshold)}{instant(as_of)}.json"


#: In the state bucket; below `staged/`, whose objects expire.
GRAPH_LOADS_FOLDER = f"{STAGED_FOLDER}graph_loads/"


def graph_load_folder(dag_id: str, run_id: str, task_id: str) -> str:
    """Below it the records of one task's load of files into the graph, and the loader's error messages."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{run_id}/{task_id}")
    return f"{GRAPH_LOADS_FOLDER}{dag_id}__{safe}/"


def load_record_key(folder: str, uri: str) -> str:
    """The record of a file's load: by its address, as a cleared plan may find other files before it."""
    return f"{folder}{_uri_digest(uri)}.json"


def load_errors_key(folder: str, uri: str, load_id: str) -> str:
    return f"{folder}{_uri_digest(uri)}_errors_{load_id}.jsonl"


def _uri_digest(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def findings_key(folder: str) -> str:
    return f"{folder}findings.json"


def load_report_key(folder: str) -> str:
    return f"{folder}report.json"


def graph_file_copy_key(load: str, uri: str, etag: str, single: list[str]) -> str:
    """The copy of a file whose header says `(single)`. A digest comes first, so that no key begins another."""
    digest = hashlib.sha256("\0".join([uri, etag, *single]).encode()).hexdigest()[:16]
    return f"{GRAPH_LOADS_FOLDER}{load}/{digest}/{uri.rpartition('/')[2]}"


def figures_key(cohort: str) -> str:
    """The key of the figures that were counted from a cohort's results, beside them."""
    return f"results/{cohort}/figures.json"


def endpoint_id(channel: str, player_id: str) -> str:
    """The stable endpoint Id of one player on one channel, which does not reveal the player."""
    return hashlib.sha256(f"cohort-flywheel\0{channel}\0{player_id}".encode()).hexdigest()[:32]
