#!/usr/bin/env bash
# The main job, on this machine, with proofs: a volume of documents and a live SQLite database move from one host to
# the disks of an Azure virtual machine, while the database is written to. See README.md beside this file.
#
#   demo.sh [DIRECTORY]      the laboratory's directory; made and deleted by this script
set -uo pipefail
QUICKSTART=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=${1:-$QUICKSTART/lab}
. "$QUICKSTART/lab.sh"
trap 'lab_remove' EXIT
trap 'exit 130' INT TERM
[ -x "$CMCPLAN" ] || die "$CMCPLAN is not there; build it with: make build"

phases=()
# timed NAME COMMAND…: runs it; its time and the writer's longest time without a commit become a row of the last table.
timed() {
  local name=$1 from to
  shift
  from=$(now)
  "$@"
  to=$(now)
  phases+=("$name|$(awk "BEGIN {printf \"%.1f\", $to - $from}")|$(pause_between "$from" "$to")")
}
pause_between() { if [ -s "$LAB/application/acknowledged" ]; then longest_pause "$1" "$2"; else echo -; fi; }

# counters: who serves the application's I/O, like iostat, for three seconds in which something also reads past the
# page cache: the database alone would be served from it.
counters() {
  local before after
  note "where the application's I/O lives now:"
  before=$(cmc status --format json)
  qemu-io -r -f raw -c 'read 0 16M' -c 'read 16M 16M' "nbd+unix:///database?socket=$socket" >/dev/null
  sleep 3
  after=$(cmc status --format json)
  python3 "$QUICKSTART/iostat.py" "$before" "$after"
}

say "1. A source host with two volumes, and an Azure (emulated) with a virtual machine"
lab_create || die "the laboratory can't be made in $LAB"
lab_volumes || die "the volumes can't be made"
lab_emulator
documents=$(debugfs -R 'stats' "$LAB/hosts/erp-db/devices/documents.img" 2>/dev/null |
  awk '/^Inode count/ {i = $3} /^Free inodes/ {f = $3} END {print i - f}')
note "documents.img  $(du -h --apparent-size "$LAB/hosts/erp-db/devices/documents.img" | cut -f1)  ext4, $documents files of this machine's documentation and headers"
note "database.img   $(du -h --apparent-size "$LAB/hosts/erp-db/devices/database.img" | cut -f1)  ext4, a SQLite database of ${ENTRIES:-50000} entries"
if as_root; then
  note "the database is mounted from the tap: NBD, FUSE, loop device, ext4"
else
  note "not root: nothing can be mounted here, so the application writes checked records through the tap's NBD socket"
fi

say "2. What would happen"
expect 0 show validate --guardrails guardrails.yaml
expect 2 show plan --detailed-exitcode --guardrails guardrails.yaml

say "3. To synchronized"
timed "to synchronized" expect 0 show apply --auto-approve --wait --guardrails guardrails.yaml
expect 0 show plan --detailed-exitcode --guardrails guardrails.yaml

say "4. The application starts, on the tap, and never stops from here on"
device=$(status_of source '.volumes[] | select(.name == "database") | .tapDevice // empty')
socket=$(status_of source '.volumes[] | select(.name == "database") | .tapSocket // empty')
documents_device=$(status_of source '.volumes[] | select(.name == "documents") | .tapDevice // empty')
if as_root && [ -z "$device" ]; then die "the tap of the database has no device; see $LAB/hosts/erp-db/agent.log"; fi
[ -n "$socket" ] || die "the tap of the database has no socket"
as_root || device="nbd+unix:///database?socket=$socket"
application erp-db mount "$device" "$documents_device" || die "the database can't be mounted from $device"
application erp-db start
application erp-db check || die "the application does not run"
ok "it commits to $device"
note "$(nbdinfo --size "nbd+unix:///database?socket=$socket" 2>&1) bytes, says nbdinfo of the tap"
sleep 5
expect 0 show status

say "5. cMotion: the plan's one line, and apply"
lab_phase cmotion
(cd "$LAB" && grep -n 'phase:' plan.yaml)
timed "cMotion" expect 0 show apply --auto-approve --wait --guardrails guardrails.yaml
counters

say "6. Back, as in an emergency: a hold keeps the next apply from swinging again"
timed "revert" expect 0 show revert erp-db --why "the demonstration"
expect 4 show apply --auto-approve --guardrails guardrails.yaml
counters
expect 0 show resume erp-db
timed "cMotion again" expect 0 show apply --auto-approve --wait --guardrails guardrails.yaml

say "7. Finalize: one-way, so somebody approves it"
lab_phase finalized
expect 4 show apply --auto-approve --guardrails guardrails.yaml
expect 0 show approve erp-db:finalized --expires 1h
committed=$(acknowledged_count)
timed "finalize" expect 0 show apply --auto-approve --wait --guardrails guardrails.yaml
application erp-db-azure check || die "the application does not run on the destination"
note "the application goes on, on the Azure virtual machine's disk: $committed transactions before, $(acknowledged_count) now"

say "8. Retired: sessions deleted, agents removed"
lab_phase retired
timed "retire" expect 0 show apply --auto-approve --wait --guardrails guardrails.yaml
expect 0 show plan --detailed-exitcode --guardrails guardrails.yaml

say "9. Proof"
. "$QUICKSTART/prove.sh"
prove || die "not proven"

say "10. What it took"
moved=$(du -cb "$LAB"/hosts/erp-db/devices/*.img | tail -1 | cut -f1)
printf '  %-18s %10s %28s\n' "" seconds "the writer's longest pause"
for row in "${phases[@]}"; do
  IFS='|' read -r name seconds pause <<<"$row"
  [ "$pause" = - ] || pause="$pause ms"
  printf '  %-18s %10s %28s\n' "$name" "$seconds" "$pause"
done
printf '\n  %s volumes, %s moved, %s transactions committed meanwhile, none lost\n' 2 "$(numfmt --to=iec-i --suffix=B "$moved")" \
  "$(acknowledged_count)"
