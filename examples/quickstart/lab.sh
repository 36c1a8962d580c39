# A laboratory on one machine: an Azure emulator, two hosts that are directories, an application with a database.
# The demo and the end-to-end tests source this file. It defines functions and does nothing by itself.
#
# Set before use: LAB (the laboratory's directory, ours to delete), and optionally LAB_PORT, LAB_LINK_PORT,
# DOCUMENTS_SIZE and DATABASE_SIZE (as mke2fs takes them), ENTRIES (transactions that the database starts with).

QUICKSTART=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$QUICKSTART/../.." && pwd)
CMCPLAN=${CMCPLAN:-$REPOSITORY/.build-product/cmcplan}
PATH=$PATH:/usr/sbin:/sbin

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' GREEN='' RED='' PLAIN=''
fi

as_root() { [ "$(id -u)" -eq 0 ]; }

say() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
note() { printf '%s%s%s\n' "$DIM" "$*" "$PLAIN"; }
ok() { printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$*"; }
die() {
  printf '%s✗ %s%s\n' "$RED" "$*" "$PLAIN" >&2
  exit 1
}

# cmc ARGUMENT…: cmcplan in the laboratory's directory. What the plan may do stays outside the plan.
cmc() { (cd "$LAB" && CMCPLAN_GUARDRAILS=guardrails.yaml exec "$CMCPLAN" "$@"); }

# show ARGUMENT…: the same, after printing the command as one would type it.
show() {
  printf '%s$ cmcplan %s%s\n' "$BOLD" "$*" "$PLAIN"
  cmc "$@"
}

# expect CODE COMMAND…: runs it and stops everything unless it exits with CODE.
expect() {
  local wanted=$1 got=0
  shift
  "$@" || got=$?
  [ "$got" -eq "$wanted" ] || die "exit $got instead of $wanted: $*"
}

now() { date +%s.%N; }

# free_port: a TCP port that nobody listens on now.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# lab_create: directories, plan and guardrails with free ports. The plan is the quickstart's own but for its ports.
lab_create() {
  lab_remove
  mkdir -p "$LAB"/{azure,hosts/erp-db/devices,hosts/erp-db-azure,application}
  LAB=$(cd "$LAB" && pwd)
  LAB_PORT=${LAB_PORT:-$(free_port)}
  LAB_LINK_PORT=${LAB_LINK_PORT:-$(free_port)}
  ORPHANS=$(unmounted_taps)
  local file
  for file in plan.yaml guardrails.yaml; do
    sed "s/:18443/:$LAB_PORT/; s/port: 14996/port: $LAB_LINK_PORT/" "$QUICKSTART/$file" >"$LAB/$file"
  done
  cp "$QUICKSTART/ledger.py" "$LAB/application/"
  local host
  for host in erp-db erp-db-azure; do
    cp "$QUICKSTART/application" "$LAB/hosts/$host/application"
    mkdir -p "$LAB/hosts/$host/mnt/database" "$LAB/hosts/$host/mnt/documents"
  done
}

# lab_volumes: the documents (real files of this machine) and the database, as ext4 images of the source host.
lab_volumes() {
  local devices=$LAB/hosts/erp-db/devices staging=$LAB/staging
  mkdir -p "$staging"/documents "$staging"/database
  local tree
  for tree in ${DOCUMENT_TREES:-/usr/share/doc /usr/include}; do
    [ -d "$tree" ] && cp -a "$tree" "$staging/documents/$(basename "$tree")"
  done
  cp -a "$REPOSITORY/Sources" "$staging/documents/cmcplan"
  python3 "$LAB/application/ledger.py" create "$staging/database/ledger.db" --entries "${ENTRIES:-50000}"
  # Blocks that the application writes to by itself where it may not mount a file system.
  head -c 16M /dev/urandom >"$staging/database/records.bin"
  mke2fs -q -t ext4 -L documents -d "$staging/documents" "$devices/documents.img" "${DOCUMENTS_SIZE:-1G}" >/dev/null
  mke2fs -q -t ext4 -L database -d "$staging/database" "$devices/database.img" "${DATABASE_SIZE:-2G}" >/dev/null
  debugfs -R 'blocks /records.bin' "$devices/database.img" 2>/dev/null | tr ' ' '\n' |
    awk '/^[0-9]+$/ {print $1 * 4096}' >"$LAB/application/blocks"
  rm -rf "$staging"
}

# lab_emulator: starts Azure; its virtual machine is the destination host.
lab_emulator() {
  export AZURE_CLIENT_SECRET=${AZURE_CLIENT_SECRET:-quickstart-secret}
  rm -f "$LAB/azure.ready"
  "$CMCPLAN" emulator --listen "127.0.0.1:$LAB_PORT" --state "$LAB/azure" --ready-file "$LAB/azure.ready" \
    --machine "erp-db,size=Standard_D4s_v5,root=$LAB/hosts/erp-db-azure" --resource-group erp \
    --tenant 11111111-1111-1111-1111-111111111111 --subscription 22222222-2222-2222-2222-222222222222 \
    --client-id 33333333-3333-3333-3333-333333333333 --client-secret-env AZURE_CLIENT_SECRET \
    "$@" >>"$LAB/azure.log" 2>&1 &
  EMULATOR=$!
  for _ in $(seq 150); do
    [ -s "$LAB/azure.ready" ] && return
    kill -0 "$EMULATOR" 2>/dev/null || break
    sleep 0.1
  done
  cat "$LAB/azure.log" >&2
  die "the emulator did not start"
}

# lab_phase PHASE: edits the line of the plan that people review.
lab_phase() { sed -i -E "s/^( +phase: )[a-z]+/\1$1/" "$LAB/plan.yaml"; }

# status_of ROLE FILTER: a value from the status of one side's session, by jq.
status_of() { cmc status --format json | jq -r ".migrations[] | select(.summary.migration == \"erp-db\") | .$1 // empty | $2"; }

# agent_pid HOST: the process that serves as the host's agent.
agent_pid() {
  local exe pid
  for exe in /proc/[0-9]*/exe; do
    case $(readlink "$exe" 2>/dev/null) in
      "$LAB/hosts/$1/bin/cmcagent-"*)
        pid=${exe#/proc/}
        pid=${pid%/exe}
        case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in *" run --root "*) echo "$pid" ;; esac
        ;;
    esac
  done
}

# application HOST ACTION [ARGUMENT…]: what the plan's hooks call, called by hand.
application() {
  local host=$1
  shift
  (cd "$LAB/hosts/$host" && ./application "$@")
}

# longest_pause FROM TO: the longest time between two commits of the application of which a part lies between the two
# moments, in milliseconds.
longest_pause() {
  awk -v from="$1" -v to="$2" '
    before && $3 >= from && before <= to && $3 - before > longest {longest = $3 - before}
    {before = $3}
    END {printf "%.0f", longest * 1000}' "$LAB/application/acknowledged"
}

acknowledged_count() { wc -l <"$LAB/application/acknowledged"; }

# ours: processes whose binary, or whose directory on the command line, is this laboratory's.
ours() {
  local directory pid
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    [ "$pid" = $$ ] && continue
    case $(readlink "$directory/exe" 2>/dev/null) in
      "$LAB"/*) echo "$pid" ;;
      *python3*) case $(tr '\0' ' ' <"$directory/cmdline" 2>/dev/null) in *"$LAB/application/ledger.py"*) echo "$pid" ;; esac ;;
    esac
  done
}

# ours_of application: those among them that are the application's.
ours_of() {
  local pid
  for pid in $(ours); do
    case $(readlink "/proc/$pid/exe" 2>/dev/null) in *python3*) echo "$pid" ;; esac
  done
}

# unmounted_taps: loop devices of a tap whose FUSE mount is gone; they name their file without the mount. One that somebody
# else has mounted, in a mount name space of its own, looks the same from here and is none.
unmounted_taps() {
  local line device
  losetup -a 2>/dev/null | grep -F '(/volume)' | while read -r line; do
    device=$(sed -nE 's/.*\[0*([0-9]+)\]:.*/\1/p' <<<"$line")
    # The kernel's number of a device without a driver (major 0): bits 8 to 19 are the major's, the rest the minor's.
    device=0:$(((${device:-0} & 255) | ((${device:-0} >> 12) & ~255)))
    # Processes end while they are looked at.
    { cat /proc/[0-9]*/mountinfo 2>/dev/null || true; } | awk -v device="$device" -v lab="$LAB/" \
      '$3 == device && index($5, lab) != 1 {found = 1} END {exit !found}' || echo "$line"
  done
}

# left_behind: processes, sockets, mounts and loop devices of this laboratory that are still there, one a line.
left_behind() {
  ours | sed 's/^/process /'
  grep -F " $LAB/" /proc/self/mounts | cut -d' ' -f2 | sed 's/^/mount /'
  losetup -a 2>/dev/null | grep -F "$LAB/" | sed 's/^/device /'
  # Those that came since the start, and stay: another laboratory's may be on its way out at this moment.
  local orphans
  orphans=$(unmounted_taps | grep -vxFf <(printf '%s\n' "${ORPHANS:-none}"))
  if [ -n "$orphans" ]; then
    sleep 3
    unmounted_taps | grep -xFf <(printf '%s\n' "$orphans") | sed 's/^/device /'
  fi
  find "$LAB/hosts" -type s 2>/dev/null | sed 's/^/socket /'
}

# lab_stop: ends what runs for this laboratory, by its pids and paths only.
lab_stop() {
  [ -d "$LAB" ] || return 0
  local pid mount device
  # File systems first. Then everybody, since who lives may attach another device. Then the devices, while the FUSE mounts
  # under them still say whose they are, then those mounts.
  for pid in $(ours_of application); do kill -TERM "$pid" 2>/dev/null; done
  grep -F " $LAB/" /proc/self/mounts | grep -v ' fuse' | cut -d' ' -f2 | tac | while read -r mount; do
    umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null
  done
  for pid in $(ours) ${EMULATOR:-}; do kill -TERM "$pid" 2>/dev/null; done
  wait_for_ours
  for pid in $(ours) ${EMULATOR:-}; do kill -KILL "$pid" 2>/dev/null; done
  wait_for_ours
  wait "${EMULATOR:-}" 2>/dev/null
  EMULATOR=
  losetup -a 2>/dev/null | grep -F "$LAB/" | cut -d: -f1 | while read -r device; do losetup -d "$device"; done
  grep -F " $LAB/" /proc/self/mounts | cut -d' ' -f2 | tac | while read -r mount; do
    umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null || fusermount3 -uz "$mount" 2>/dev/null
  done
  return 0
}

# wait_for_ours: three seconds at most, for processes that were told to end.
wait_for_ours() {
  for _ in $(seq 30); do
    [ -z "$(ours)" ] && return
    sleep 0.1
  done
}

lab_remove() {
  lab_stop
  rm -rf "$LAB"
}
