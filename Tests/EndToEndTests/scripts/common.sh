# What the end-to-end tests share. Each test is a program `test-NAME` that prints a line `ok …` or `not ok …` for
# everything that it holds against the real programs, and exits 0 only where all are ok. Sourced.

set -uo pipefail
SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCOPE=${1:-quick}
LAB=$(mktemp -d "${TMPDIR:-/tmp}/cmc-e2e.XXXXXX")
export DOCUMENT_TREES=/usr/include/linux DOCUMENTS_SIZE=48M DATABASE_SIZE=96M ENTRIES=2000
. "$SCRIPTS/../../../examples/quickstart/lab.sh"
. "$SCRIPTS/../../../examples/quickstart/prove.sh"
BAD=0

passed() { echo "ok - $*"; }
failed() {
  echo "not ok - $*"
  BAD=$((BAD + 1))
}
# check TEXT COMMAND…: ok where the command succeeds; its output is shown where it does not.
check() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed "$text"
  else
    failed "$text"
    sed 's/^/    /' <<<"$output" | tail -n 30
  fi
}
# exits CODE COMMAND…: succeeds where the command exits with CODE.
exits() {
  local wanted=$1 got=0
  shift
  "$@" || got=$?
  [ "$got" -eq "$wanted" ] || { echo "exit $got instead of $wanted: $*"; return 1; }
}
# says TEXT COMMAND…: succeeds where its output has the text.
says() {
  local wanted=$1 output
  shift
  output=$("$@" 2>&1)
  grep -qF -- "$wanted" <<<"$output" || { echo "no \"$wanted\" in: $output"; return 1; }
}

# What prove.sh finds becomes test lines.
proven() { passed "$1"; }
unproven() {
  UNPROVEN=$((UNPROVEN + 1))
  failed "$1"
}
# die would end the test with no word on what was tested.
die() { failed "$*"; finish; }

finish() {
  lab_remove
  [ "$BAD" -eq 0 ]
  exit
}
trap 'lab_remove' EXIT
trap 'exit 130' INT TERM

# lab_start: volumes and an Azure that is fast.
lab_start() {
  lab_create && lab_volumes && lab_emulator --time-scale 50 --no-throttling
}

# start_application: mounts the tap's device (or takes its socket, where nothing can be mounted) and starts to write.
start_application() {
  local device socket documents
  device=$(status_of source '.volumes[] | select(.name == "database") | .tapDevice // empty')
  socket=$(status_of source '.volumes[] | select(.name == "database") | .tapSocket // empty')
  documents=$(status_of source '.volumes[] | select(.name == "documents") | .tapDevice // empty')
  as_root || device="nbd+unix:///database?socket=$socket"
  application erp-db mount "$device" "$documents" && application erp-db start && application erp-db check
}

# apply_until_done: applies as a person would after a failure: clears a hold that a failure left, and applies again.
apply_until_done() {
  local tries code=1
  for tries in 1 2 3 4 5 6 7 8; do
    cmc apply --auto-approve --wait 30s >>"$LAB/apply.log" 2>&1
    code=$?
    [ $code -eq 0 ] && return 0
    [ $code -eq 4 ] && cmc resume erp-db >>"$LAB/apply.log" 2>&1
    sleep 0.5
  done
  echo "apply exits $code after $tries tries:"
  tail -n 25 "$LAB/apply.log"
  return 1
}
