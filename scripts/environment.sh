# Sourced by the scripts beside it: the repository, the interpreter, --help.
#
# PYTHON=PATH names the interpreter; without it that of .venv in the repository, else `python`.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$ROOT/.venv/bin/python" ]; then
        PYTHON=$ROOT/.venv/bin/python
    fi
fi
export PYTHON

# The comment at the head of the calling script, for --help.
explain() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

case "${1:-}" in
    -h | --help)
        explain
        exit 0
        ;;
esac

refuse() { # MESSAGE: a word that the script does not know
    printf '%s: %s; --help explains.\n' "${0##*/}" "$1" >&2
    exit 2
}

step() { printf '\n== %s\n' "$*"; }

scratch() { # a folder that is gone when the script ends
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
}
