# What has to hold at the end, whatever happened on the way. Sourced after lab.sh, by the demo and the kill tests.
#
# The mount hook, which runs after the release and before anything opens the destination, left the digests of both
# copies in application/released. From then on the application writes to the destination, and only to it.

PROOFS=0
UNPROVEN=0
proven() {
  PROOFS=$((PROOFS + 1))
  ok "$1"
}
unproven() {
  UNPROVEN=$((UNPROVEN + 1))
  printf '  %s✗ %s%s\n' "$RED" "$1" "$PLAIN"
}
# proof TEXT COMMAND…: proven where the command succeeds.
proof() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then proven "$text"; else unproven "$text: $(tail -n 3 <<<"$output")"; fi
}

# first_bytes FILE LENGTH: SHA-256 of its first bytes.
first_bytes() { head -c "$2" "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }

same() { [ -n "$1" ] && [ "$1" = "$2" ]; }
destination_of() { sed -n "s/^$1 destination-path //p" "$LAB/application/released"; }
released_digest() { sed -n "s/^$1 $2 //p" "$LAB/application/released"; }

prove() {
  local volume source destination size report what
  if [ ! -s "$LAB/application/released" ]; then
    unproven "the destination was never released"
    return 1
  fi
  application erp-db-azure stop
  application erp-db-azure unmount

  for report in "$LAB"/application/report-*.json; do
    proof "the writer on $(basename "$report" .json | sed 's/report-//') saw no error" jq -e '.error == null' "$report"
  done
  what=$(check_acknowledged) && proven "$what" || unproven "$what"

  for volume in documents database; do
    source=$LAB/hosts/erp-db/devices/$volume.img
    destination=$(destination_of $volume)
    size=$(stat -c %s "$source")
    proof "$volume: SHA-256 equal when released: $(released_digest $volume source | cut -c1-16)…" \
      same "$(released_digest $volume source)" "$(released_digest $volume destination)"
    proof "$volume: the source was not touched since" \
      same "$(first_bytes "$source" "$size")" "$(released_digest $volume source)"
    proof "$volume: e2fsck -fn clean on the destination" e2fsck -fn "$destination"
  done
  source=$LAB/hosts/erp-db/devices/documents.img
  destination=$(destination_of documents)
  proof "documents: qemu-img compare says identical" qemu-img compare -f raw -F raw "$source" "$destination"
  proof "database: PRAGMA integrity_check ok on the destination" database_integrity
  kill -TERM "$EMULATOR" 2>/dev/null
  wait "$EMULATOR" 2>/dev/null
  EMULATOR=
  what=$(left_behind)
  if [ -z "$what" ]; then proven "no process, socket, mount or device is left"; else unproven "left behind: $what"; fi
  [ "$UNPROVEN" -eq 0 ]
}

# extract_database: takes the database out of the destination's file system, which stays as it is.
extract_database() {
  rm -f "$LAB/application/extracted.db"*
  local file
  for file in ledger.db ledger.db-wal; do
    debugfs -R "dump /$file $LAB/application/extracted.db${file#ledger.db}" "$(destination_of database)" 2>/dev/null
    [ -s "$LAB/application/extracted.db${file#ledger.db}" ] || rm -f "$LAB/application/extracted.db${file#ledger.db}"
  done
}

database_integrity() {
  extract_database
  [ "$(sqlite3 "$LAB/application/extracted.db" 'PRAGMA integrity_check')" = ok ]
}

check_acknowledged() {
  local target=$LAB/application/extracted.db options=()
  extract_database
  if ! as_root; then
    target=$(destination_of database)
    options=(--blocks "$LAB/application/blocks")
  fi
  python3 "$LAB/application/ledger.py" check "$target" --acknowledged "$LAB/application/acknowledged" "${options[@]}" |
    tail -n 1
  return "${PIPESTATUS[0]}"
}
