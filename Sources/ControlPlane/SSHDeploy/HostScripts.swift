/// The POSIX shell scripts that deploying runs on a host. $1 is always the agent's root. Each may be repeated; each
/// says on standard output, a line a fact, what it found or did.
enum HostScripts {
  /// Prints `agent DIGEST`, `process PID DIGEST` of a running agent, and `tombstone BASE64` for every tombstone.
  static let probe = #"""
    root=$1
    cd "$root" 2>/dev/null || exit 0
    link=$(readlink bin/cmcagent 2>/dev/null) && [ -x bin/cmcagent ] && echo "agent ${link#cmcagent-}"
    find /proc -mindepth 2 -maxdepth 2 -name exe -lname '*/bin/cmcagent-*' 2>/dev/null | while read -r exe; do
      path=$(readlink "$exe" 2>/dev/null) || continue
      case $path in
        "$PWD"/bin/cmcagent-*) ;;
        *) continue ;;
      esac
      pid=${exe#/proc/}
      pid=${pid%/exe}
      # `cmcagent run` serves; `rpc` and the tap's holder are other commands of the same binary.
      case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
        *" run --root "*) path=${path% (deleted)}; echo "process $pid ${path##*/cmcagent-}" ;;
      esac
    done
    for file in tombstones/*; do
      [ -f "$file" ] && echo "tombstone $(base64 <"$file" | tr -d '\n')"
    done
    exit 0
    """#

  /// Installs the agent from standard input under its digest ($2), after checking it. Atomic: a half copy is never run.
  static let install = #"""
    set -e
    root=$1 digest=$2
    umask 077
    mkdir -p "$root"
    chmod 700 "$root"
    cd "$root"
    mkdir -p bin
    new=bin/.cmcagent-$digest.$$
    trap 'rm -f "$new"' EXIT
    cat >"$new"
    found=$(sha256sum <"$new")
    if [ "${found%% *}" != "$digest" ]; then
      echo "the copy has digest ${found%% *}, not $digest" >&2
      exit 3
    fi
    chmod 700 "$new"
    sync "$new"
    mv -f "$new" "bin/cmcagent-$digest"
    ln -sfn "cmcagent-$digest" bin/.cmcagent.$$
    mv -fT bin/.cmcagent.$$ bin/cmcagent
    sync bin
    for old in bin/cmcagent-*; do
      [ "$old" = "bin/cmcagent-$digest" ] || rm -f "$old"
    done
    """#

  /// Starts the installed agent, detached from us: no terminal, no parent that waits, output to a log of its own.
  /// Home, which hooks see as `~`, is the user's; on a local host, which has none, it is the root.
  static let start = #"""
    cd "$1" || exit 1
    umask 077
    exec </dev/null
    HOME=${HOME:-$PWD}
    export HOME
    setsid nohup bin/cmcagent run --root "$PWD" >>agent.log 2>&1 &
    """#

  /// Prints the last lines of the agent's log, for an error's text.
  static let logTail = #"""
    tail -n 5 "$1/agent.log" 2>/dev/null
    exit 0
    """#

  /// Ends process $2, which is the agent and does not answer. Its sessions are on disk.
  static let terminate = #"""
    kill -TERM "$2" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      kill -0 "$2" 2>/dev/null || exit 0
      sleep 0.2
    done
    kill -KILL "$2" 2>/dev/null
    exit 0
    """#

  /// Exits 0 once process $2 is gone, 4 after $3 tenths of a second.
  static let awaitExit = #"""
    left=$3
    while kill -0 "$2" 2>/dev/null; do
      case $(cut -d' ' -f3 "/proc/$2/stat" 2>/dev/null) in Z|X) exit 0 ;; esac
      [ "$left" -gt 0 ] || exit 4
      left=$((left - 1))
      sleep 0.1
    done
    """#

  /// Removes all that is the agent's but tombstones (and what fences a source), never what is the user's.
  static let remove = #"""
    cd "$1" 2>/dev/null || exit 0
    rm -rf bin state tap agent.log agent.sock agent.lock
    exit 0
    """#

  /// Prints the numeric addresses of name $2 as this host sees them, best first.
  static let resolve = #"""
    getent ahosts "$2" | cut -d' ' -f1 | head -n 8
    """#

  /// Prints the SHA-256 of file $2.
  static let digest = #"""
    sha256sum <"$2" | cut -d' ' -f1
    """#
}
