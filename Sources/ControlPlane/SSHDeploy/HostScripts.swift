/// The POSIX shell scripts that deploying runs on a host. $1 is always the agent's root. Each may be repeated; each
/// says on standard output, a line a fact, what it found or did.
enum HostScripts {
  /// One round trip: `agent DIGEST`, `process PID DIGEST` of a running agent (` (deleted)` where its file is gone), `kept DIGEST` of every installed one,
  /// `former-unit` of an upgrade whose end was not seen, `tombstone BASE64`, `part NAME BYTES` of a copy that was cut off,
  /// and what the host is: see `HostProbe`.
  static let probe = #"""
    root=$1
    echo "user $(id -u)"
    echo "machine $(uname -m)"
    echo "kernel $(uname -r)"
    echo "time $(date +%s)"
    [ -d /run/systemd/system ] && echo systemd
    [ "$(cat /sys/fs/selinux/enforce 2>/dev/null)" = 1 ] && echo selinux
    command -v gzip >/dev/null 2>&1 && echo gzip
    [ -c /dev/fuse ] && [ -c /dev/loop-control ] && echo "tap fuse-loop"
    [ -e /sys/module/nbd ] && echo "tap kernel-nbd"
    [ -c /dev/mapper/control ] && echo "tap device-mapper"
    if [ -d /dev/disk/azure ] || grep -qs disk/azure /etc/udev/rules.d/* /run/udev/rules.d/* /usr/lib/udev/rules.d/* \
      /lib/udev/rules.d/*; then echo luns; fi
    [ -r /etc/os-release ] && echo "distribution $(. /etc/os-release && echo "$PRETTY_NAME")"
    near=$root
    while [ ! -d "$near" ]; do near=${near%/*}; [ -n "$near" ] || near=/; done
    set -- $(df -Pk "$near" 2>/dev/null | tail -n 1)
    [ -n "${4:-}" ] && echo "space $4"
    [ "${6:-}" = / ] && echo rooted
    [ -e /etc/systemd/system/cmcagent.service ] &&
      echo "unit $(base64 </etc/systemd/system/cmcagent.service | tr -d '\n')"
    # A root that was removed under a running agent: the process is all there is to find.
    here=$(cd "$root" 2>/dev/null && pwd -P) || here=$root
    cd "$root" 2>/dev/null || cd /proc/self
    link=$(readlink bin/cmcagent 2>/dev/null) && [ -x bin/cmcagent ] && echo "agent ${link#cmcagent-}"
    for file in bin/cmcagent-*; do
      [ -f "$file" ] && echo "kept ${file#bin/cmcagent-}"
    done
    [ -e bin/.former-unit ] && echo former-unit
    for file in bin/.part-*; do
      [ -f "$file" ] && echo "part ${file#bin/.part-} $(($(wc -c <"$file")))"
    done
    # Named in full, so that the agents of other roots on this machine cost nothing.
    pattern=$(printf %s "$here" | sed 's/[][*?\\]/\\&/g')
    find /proc -mindepth 2 -maxdepth 2 -name exe -lname "$pattern/bin/cmcagent-*" 2>/dev/null | while read -r exe; do
      path=$(readlink "$exe" 2>/dev/null) || continue
      case $path in
        "$here"/bin/cmcagent-*) ;;
        *) continue ;;
      esac
      pid=${exe#/proc/}
      pid=${pid%/exe}
      # `cmcagent run` serves; `rpc` and the tap's holder are other commands of the same binary.
      case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
        *" run --root "*) echo "process $pid ${path##*/cmcagent-}" ;;
      esac
    done
    for file in tombstones/*; do
      [ -f "$file" ] && echo "tombstone $(base64 <"$file" | tr -d '\n')"
    done
    exit 0
    """#

  /// `denials` prints what SELinux denied the agent last; nothing where it enforces nothing.
  static let denials = #"""
    denials() {
      [ "$(cat /sys/fs/selinux/enforce 2>/dev/null)" = 1 ] || return 0
      { dmesg; tail -n 2000 /var/log/audit/audit.log; } 2>/dev/null | grep 'avc:.*denied.*cmcagent' | tail -n 2
    }

    """#

  /// Prints the last lines of the agent's log, for an error's text, and what SELinux denied it.
  static let logTail =
    denials + #"""
      tail -n 5 "$1/agent.log" 2>/dev/null || journalctl -u cmcagent -n 5 --no-pager -o cat 2>/dev/null
      denials
      exit 0
      """#

  /// Prints the last $2 bytes of the agent's log; nothing where there is none.
  static let logEnd = #"""
    tail -c "$2" "$1/agent.log" 2>/dev/null && exit 0
    journalctl -u cmcagent -n 5000 --no-pager -o short-iso 2>/dev/null | tail -c "$2"
    exit 0
    """#

  /// Prints the numeric addresses of name $2 as this host sees them, best first.
  static let resolve = #"""
    getent ahosts "$2" | cut -d' ' -f1 | head -n 8
    """#

  /// Prints the path of the disk at LUN $2: what Azure's udev rules make of it (azure-vm-utils, the Linux agent).
  static let devicePath = #"""
    for path in "/dev/disk/azure/data/by-lun/$2" "/dev/disk/azure/scsi1/lun$2"; do
      [ -e "$path" ] && break
    done
    echo "$path"
    """#

  /// Speaks the control protocol of the host's agent on the standard streams.
  static let rpc = #"""
    [ -x "$1/bin/cmcagent" ] || exit 4
    exec "$1/bin/cmcagent" rpc --root "$1"
    """#

  /// Prints `block KEY="value"…` of lsblk, `link PATH NAME` of udev's names, `io0` and `io1` lines of /proc/diskstats $2
  /// seconds apart, and `uptime`.
  static let survey = #"""
    sed 's/^/io0 /' /proc/diskstats
    while read -r _ _ device _ path _; do echo "mount $device $path"; done </proc/self/mountinfo
    lsblk -P -b -o NAME,KNAME,PKNAME,MAJ:MIN,TYPE,SIZE,FSTYPE,LABEL,MOUNTPOINT,MODEL,SERIAL,RO | sed 's/^/block /'
    for link in /dev/disk/by-id/* /dev/disk/by-path/*; do
      [ -L "$link" ] && name=$(readlink "$link") && echo "link $link ${name##*/}"
    done
    echo "uptime $(cat /proc/uptime)"
    sleep "$2"
    sed 's/^/io1 /' /proc/diskstats
    """#

  /// Prints the SHA-256 of file $2.
  static let digest = #"""
    sha256sum <"$2" | cut -d' ' -f1
    """#

  /// Prints file $2, compressed, the same bytes every time.
  static let compress = #"""
    gzip -nc <"$2"
    """#
}
