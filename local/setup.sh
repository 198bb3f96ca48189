#!/bin/sh
# Makes .venv with all that the commands of the Makefile need, from a Python 3.12, 3.13 or 3.11 that really runs.
# AIRFLOW_VERSION names a set in constraints/. Does nothing where .venv is as the files here say already.
set -eu
cd "$(dirname "$0")/.."
constraints=constraints/airflow-${AIRFLOW_VERSION:-3.3.1}.txt
[ -f "$constraints" ] || { echo "There is no $constraints: AIRFLOW_VERSION is 3.3.1 or 3.2.1." >&2; exit 1; }
stamp=.venv/made-from
now=$(cat requirements.txt requirements-dev.txt "$constraints" local/setup.sh | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && exit 0

works() { # a pyenv shim may be on the PATH and still fail, so each candidate is tried
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}
python=
for candidate in "${PYTHON:-python3.12}" python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3 \
    python3.13 python3.11 python3; do
    if works "$candidate"; then python=$candidate; break; fi
done
[ -n "$python" ] || {
    echo "No Python 3.12 (or 3.13, 3.11) runs here: install one, e.g. apt-get install python3 python3-venv," >&2
    echo "or name yours: make PYTHON=/path/to/python3.12 …" >&2
    exit 1
}
echo "Setting up .venv with $("$python" --version) and Airflow ${AIRFLOW_VERSION:-3.3.1} (once; about a minute) ..."
rm -rf .venv
"$python" -m venv .venv || {
    rm -rf .venv
    echo "This Python cannot make a virtual environment: apt-get install python3-venv" >&2
    exit 1
}
.venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^uv==' requirements-dev.txt)"
.venv/bin/uv pip install --quiet --python .venv/bin/python --constraint "$constraints" \
    "apache-airflow==${AIRFLOW_VERSION:-3.3.1}" -r requirements.txt -r requirements-dev.txt
echo "$now" > "$stamp"
