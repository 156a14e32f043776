#!/bin/sh
# Runs the tests of a pull request in a sandbox: the base branch's dependencies are installed with the internet, and the pull request's
# code runs without it. The exit code is that of the tests; 124: they took too long; 125: Pandora failed.
#
#   run.sh BASE PULL REPORT
#
# BASE    directory with the base branch
# PULL    directory with the pull request
# REPORT  file for the tests' report, JUnit XML
set -eu
[ $# = 3 ] || { sed -n 's/^#  *run.sh/usage: run.sh/p' "$0" >&2; exit 125; }
base=$1 pull=$2 report=$3
pandora=${PANDORA:-$(dirname "$0")/../../pandora}
install=${PANDORA_EXAMPLE_INSTALL:-python3 -m pip install -r requirements.txt}
tests=${PANDORA_EXAMPLE_TEST:-python3 run_tests.py /tmp/report.xml}
timeout=${PANDORA_EXAMPLE_TIMEOUT:-600}

id=$("$pandora" create --egress internet --metadata job=pull-request) || exit 125
# However this script ends, the sandbox ends. If this host dies, the sandbox ends by its idle timeout.
trap '"$pandora" rm "$id" > /dev/null || echo "run.sh: sandbox $id was not ended" >&2' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Code of the base branch has been reviewed: it may use the internet.
"$pandora" cp --quiet --exclude-ignored "$base" "$id:/base" || exit 125
"$pandora" exec --timeout "$timeout" --cwd /base "$id" "$install" || { echo "run.sh: the dependencies were not installed" >&2; exit 125; }

# From here on nothing leaves the sandbox: connections that the installation left open are cut. If this fails, nothing of the pull
# request is copied in.
"$pandora" egress "$id" none || exit 125

"$pandora" cp --quiet --exclude-ignored "$pull" "$id:/pull" || exit 125
code=0
"$pandora" exec --timeout "$timeout" --cwd /pull -e "PANDORA_EXAMPLE_SERVER=${PANDORA_EXAMPLE_SERVER:-}" "$id" "$tests" || code=$?

# The report also of tests that failed. It is the pull request's own words: show it, and decide by the exit code.
if ! "$pandora" cp --quiet "$id:/tmp/report.xml" "$report"; then
    echo "run.sh: there is no report" >&2
    [ $code != 0 ] || code=125
fi

exit $code
