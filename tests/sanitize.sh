#!/bin/sh
# Builds a copy of this project with a sanitizer and runs the tests of stores, races, stress and failures
# under it.
#
#   tests/sanitize.sh address,undefined|thread [PYTHON] [pytest arguments]
#
# The copy is build/sanitize-KIND; reports go to files in it, since pytest keeps stderr to itself.
set -eu
kind=$1
python=$(realpath -s "${2:-.venv/bin/python}")
shift; [ $# -eq 0 ] || shift
copy=build/sanitize-$kind
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard 'edm_*' tests setup.py pyproject.toml README.md LICENSE \
    docs/write-a-store.md |
    xargs -0 cp -u --parents -t "$copy"
cd "$copy"
rm -f report.*
if [ ! -e .built ] || [ -n "$(find edm_* setup.py -newer .built \( -path '*/c/*' -o -name '_build*.py' -o -name '*.h' \) -print -quit)" ]; then
    EDM_SANITIZE=$kind "$python" setup.py -q build_ext -i -f >build.log 2>&1 || { tail -20 build.log; exit 1; }
    touch .built
fi
case $kind in
thread) library=$(gcc -print-file-name=libtsan.so) ;;
*) library=$(gcc -print-file-name=libasan.so) ;;
esac
export TSAN_OPTIONS="log_path=report suppressions=$PWD/tests/tsan.supp handle_sigbus=0 handle_segv=0"
export ASAN_OPTIONS="log_path=report detect_leaks=0 handle_sigbus=0 handle_segv=0"
export UBSAN_OPTIONS=print_stacktrace=1 # it ends the process instead, see _build.py
export EDM_SANITIZE=$kind PYTHONMALLOC=malloc EDM_STRESS_SECONDS="${EDM_STRESS_SECONDS:-20}"
run() {
    LD_PRELOAD=$library "$python" -m pytest -p no:cacheprovider "$@"
    got=$?
    [ $got -eq 0 ] || [ $got -eq 5 ] || failed=1 # 5: -k left nothing of these
}
set +e
failed=0
run tests/test_store*.py tests/test_redis_failures.py tests/test_stress.py tests/test_near.py tests/test_faulty_stores.py tests/test_stopped.py "$@"
TSAN_OPTIONS="$TSAN_OPTIONS report_signal_unsafe=0" # the hook of these tests is Python, inside of the handler
run tests/test_races.py tests/test_races_flush.py "$@"
if ls report.* >/dev/null 2>&1; then
    cat report.*
    echo "$kind: reports above"
    failed=1
fi
exit $failed
