#!/bin/sh
# Makes .venv with all that the commands of the Makefile need, from a Python 3.12 or 3.13 that really runs
# (PYTHON_VERSIONS="3.13" takes that one alone, PYTHON=… the one that it names).
# AIRFLOW_VERSION names a set in constraints/. Does nothing if .venv is up to date.
set -eu
cd "$(dirname "$0")/.."
constraints=constraints/airflow-${AIRFLOW_VERSION:-3.3.1}.txt
[ -f "$constraints" ] || { echo "There is no $constraints: AIRFLOW_VERSION is 3.3.1 or 3.2.1." >&2; exit 1; }
stamp=.venv/made-from
now=$(cat requirements.txt requirements-dev.txt "$constraints" local/setup.sh | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && exit 0

versions=${PYTHON_VERSIONS:-3.12 3.13}
works() { # a pyenv shim may be on the PATH and still fail, so each candidate is tried
    found=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
    case " $versions " in *" $found "*) return 0 ;; *) return 1 ;; esac
}
python=
for candidate in ${PYTHON:-$(for v in $versions; do
    echo "python$v" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$v"*/bin/python3
done) python3}; do
    if works "$candidate"; then python=$candidate; break; fi
done
[ -n "$python" ] || {
    echo "No Python $versions runs here: install one, e.g. apt-get install python3 python3-venv," >&2
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
