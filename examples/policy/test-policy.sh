#!/usr/bin/env bash
# Tries policy.rego on change sets of the golden cases; skipped where there is no opa.
set -uo pipefail
cd "$(dirname "$0")"
cases=../../Tests/GoldenTests/cases/planning
if ! command -v opa >/dev/null; then
  echo "skipped policy: there is no opa on PATH"
  exit 0
fi
# verdict FILE: what denies it, a reason a line. Fails where opa does.
verdict() { opa eval --format raw --data policy.rego --input "$1" 'concat("\n", data.cmcplan.deny)'; }
denied() { local said; said=$(verdict "$1") && [ -n "$said" ]; }
bad=0
expect() { if "$@"; then echo "ok - $*"; else echo "not ok - $*"; bad=1; fi; }
allowed() { local said; said=$(verdict "$1") && [ -z "$said" ]; }
expect allowed "$cases/16-synchronized-no-changes/expected.json"
expect allowed "$cases/45-automatic-approval/expected.json"
expect denied "$cases/62-host-not-seen/expected.json"
exit $bad
