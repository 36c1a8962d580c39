#!/usr/bin/env bash
# Tries policy.rego on change sets of the golden cases; skipped where there is no opa.
set -uo pipefail
cd "$(dirname "$0")"
cases=../../Tests/GoldenTests/cases/planning
if ! command -v opa >/dev/null; then
  echo "skipped policy: there is no opa on PATH"
  exit 0
fi
denied() { opa eval --fail-defined --format raw --data policy.rego --input "$1" 'data.cmcplan.deny[_]' >/dev/null; [ $? -ne 0 ]; }
bad=0
expect() { if "$@"; then echo "ok - $*"; else echo "not ok - $*"; bad=1; fi; }
allowed() { ! denied "$1"; }
expect allowed "$cases/16-synchronized-no-changes/expected.json"
expect allowed "$cases/45-automatic-approval/expected.json"
expect denied "$cases/62-host-not-seen/expected.json"
exit $bad
