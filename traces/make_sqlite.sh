#!/bin/sh
# Makes traces/sqlite.parquet again: sqlite3 (3.40.1 then) on a database of about 25 MB, under
# valgrind (3.19.0 then, by lackey). Takes five seconds, by lackey five minutes. Other versions give another trace.
# usage: [PYTHON=python3] traces/make_sqlite.sh [OUT.parquet] [K]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/sqlite.parquet}
case $out in /*) ;; *) out=$PWD/$out ;; esac
k=${2:-64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sqlite3 "$work/shop.db" < "$here/sqlite_build.sql"
cp "$here/sqlite.sql" "$work"
cd "$work"
"${PYTHON:-python3}" -m edm_workload capture -k "$k" -o "$out" -- sqlite3 shop.db '.read sqlite.sql'
