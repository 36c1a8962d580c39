# How a suite is run: with its output, its time, its limit, and one honest line of counts. Sourced by .ci/test.
#
# A suite prints `ok …`, `not ok …` and `skipped …` lines; one that prints none of them counts as a single test. Set before
# use: logs (a directory).
passed=0
failed=0
skipped=0
broken=()
untested=()
running=
# How long a suite has, once it was told to end, to clean up after itself.
GRACE_SECONDS=${GRACE_SECONDS:-60}

# Suites that run beside each other: many wait more than they compute.
LANES=${LANES:-2}
# The processes of `beside`, and the suite of each.
declare -A lanes=()

# interrupted: ends the suites that run, and what they started, before it ends this script.
interrupted() {
  local process
  trap '' INT TERM
  for process in ${running:-} "${!lanes[@]}"; do kill -TERM "$process" 2>/dev/null; done
  for process in ${running:-} "${!lanes[@]}"; do wait "$process"; done
  exit 143
}
trap interrupted INT TERM

# run_limited SECONDS LOG COMMAND…: its output goes to LOG and is shown. Exits as it does, 124 or 137 where it took longer.
# It has a process group of its own (`timeout` makes it one and ends it whole), in which no signal is ignored.
run_limited() {
  local limit=$1 log=$2 shown status
  shift 2
  : >"$log"
  set -m
  timeout -k "$GRACE_SECONDS" "$limit" "$@" >"$log" 2>&1 </dev/null &
  running=$!
  set +m
  # Shown from the file: what a suite leaves behind can't keep a pipe of ours open, and so hold up the rest.
  tail -n +1 -s 0.2 -f --pid="$running" "$log" &
  shown=$!
  wait "$running"
  status=$?
  running=
  wait "$shown"
  return "$status"
}

# counted NAME LOG: sets ok, bad and away to what the log says.
counted() {
  case $1 in
    unit | simulation)
      # "Test run with 123 tests in 12 suites passed after 1.2 seconds." and the same with "failed … with 2 issues".
      ok=$(sed -nE 's/.*Test run with ([0-9]+) tests?.*/\1/p' "$2" | tail -1)
      bad=$(grep -E '^✘ Test .* failed after' "$2" | grep -vc '^✘ Test run ')
      away=$(grep -cE '^➜ (Test|Suite) .* skipped' "$2")
      ok=$((${ok:-0} > bad + away ? ok - bad - away : 0))
      ;;
    *)
      ok=$(grep -c '^ok ' "$2")
      bad=$(grep -c '^not ok ' "$2")
      away=$(grep -c '^skipped ' "$2")
      ;;
  esac
}

# suite SECONDS NAME COMMAND…: runs it, shows its output, adds its counts.
suite() {
  local limit=$1 name=$2 log started status ok bad away
  shift 2
  log="$logs/$name.log"
  started=$(date +%s)
  echo "── $name"
  run_limited "$limit" "$log" "$@"
  status=$?
  counted "$name" "$log"
  # A suite of one test says nothing; one that skipped everything passed nothing.
  if [ $((ok + bad + away)) -eq 0 ] && [ "$status" -eq 0 ]; then ok=1; fi
  # A suite that died without saying which test failed still failed.
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  passed=$((passed + ok))
  failed=$((failed + bad))
  skipped=$((skipped + away))
  if [ "$bad" -ne 0 ]; then broken+=("$name"); fi
  case $status:$(($(date +%s) - started >= limit)) in
    124:1 | 137:1) echo "── $name: did not end within its limit of $limit s" | tee -a "$log" ;;
    *) if [ "$status" -gt 128 ]; then echo "── $name: ended by signal $((status - 128))" | tee -a "$log"; fi ;;
  esac
  if [ $((ok + bad)) -eq 0 ]; then
    untested+=("$name")
    echo "── $name: skipped, nothing of it was tested"
  fi
  echo "── $name: $ok passed, $bad failed, $away skipped in $(($(date +%s) - started)) s"
}

# beside SECONDS NAME COMMAND…: the same, while others run too. What it says is shown when it has ended.
beside() {
  [ ${#lanes[@]} -lt "$LANES" ] || one_lane_ends
  rm -f "$logs/$2.counts"
  (
    trap interrupted INT TERM
    lanes=() passed=0 failed=0 skipped=0 broken=() untested=()
    suite "$@" >"$logs/$2.said" 2>&1
    echo "$passed $failed $skipped ${#broken[@]} ${#untested[@]}" >"$logs/$2.counts"
  ) &
  lanes[$!]=$2
}

# one_lane_ends: waits for one of them, shows it and adds its counts.
one_lane_ends() {
  local process name ok bad away broke untried
  wait -n -p process "${!lanes[@]}"
  name=${lanes[$process]}
  unset "lanes[$process]"
  cat "$logs/$name.said"
  # One that left no counts was killed.
  read -r ok bad away broke untried 2>/dev/null <"$logs/$name.counts" || { ok=0 bad=1 away=0 broke=1 untried=0; }
  passed=$((passed + ok))
  failed=$((failed + bad))
  skipped=$((skipped + away))
  if [ "$broke" -ne 0 ]; then broken+=("$name"); fi
  if [ "$untried" -ne 0 ]; then untested+=("$name"); fi
}

# all_lanes_end: waits for the rest.
all_lanes_end() { while [ ${#lanes[@]} -gt 0 ]; do one_lane_ends; done; }

# totals: which suites failed or were skipped as a whole, and the sum of all. Succeeds where nothing failed.
totals() {
  if [ ${#broken[@]} -gt 0 ]; then echo "failed: ${broken[*]}"; fi
  if [ ${#untested[@]} -gt 0 ]; then echo "skipped as a whole: ${untested[*]}"; fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}
