"""What a deployment sets: Airflow Variables, in Airflow's own order of places."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.sdk import Variable

from cohort_flywheel.errors import FlywheelError

PREFIX = "cohort_flywheel_"

#: What every deployment sets; a destination adds its own.
SETTINGS = ("export_bucket", "import_bucket", "state_bucket", "contacts_table")


def read_settings(names: Iterable[str]) -> dict[str, str]:
    """Return the settings by name (without the prefix); raise FlywheelError that names all that are missing.

    A name may bring its default: `data_expiry_days=90`.

    Airflow looks in the secrets backend (SSM Parameter Store or Secrets Manager, where one is configured), then
    the environment, then its Variables.
    """
    defaults = {name: default or None for name, _, default in (each.partition("=") for each in names)}
    found = {name: Variable.get(PREFIX + name, default=default) for name, default in defaults.items()}
    if missing := [name for name, value in found.items() if not value]:
        first = PREFIX + missing[0]
        raise FlywheelError(
            f"not set: {', '.join(PREFIX + name for name in missing)}. Set each in one of: the secrets backend"
            f" (<variables_prefix>/{first}), the environment (AIRFLOW_VAR_{first.upper()}), or Airflow's Variables"
            f" (Admin, Variables: {first})"
        )
    return found
