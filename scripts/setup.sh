#!/bin/sh
# Makes the virtual environment from requirements.lock. Usage: scripts/setup.sh VENV
set -eu
venv=$1

supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c "$supported" 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "tidemark: no Python 3.11, 3.12 or 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.12" >&2
    exit 2
fi

echo "Setting up $venv with $("$python" --version) (once; about two minutes on a cold cache)"
if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c "$supported" 2>/dev/null; then rm -rf "$venv"; fi
if command -v uv >/dev/null 2>&1; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv"
    VIRTUAL_ENV=$venv uv pip sync --quiet requirements.lock
    VIRTUAL_ENV=$venv uv pip install --quiet --no-deps --no-build-isolation --editable .
else
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
fi
