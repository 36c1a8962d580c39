/// Scripts that change the host.
extension HostScripts {
  /// Installs the agent from standard input under its digest ($2), after checking it. Atomic: a half copy is never run.
  ///
  /// $3: gzip or plain, what comes; $4: digest of that; $5: where it goes on, in bytes; $6: its whole length. A copy that
  /// is cut off stays as `bin/.part-DIGEST`, and the next one goes on from there. What is installed already stays, for
  /// an upgrade that fails; `prune` removes it. Prints `unlabelled` where SELinux may refuse what can't be labelled.
  static let install =
    denials + #"""
      set -e
      root=$1 digest=$2 encoding=$3 part=bin/.part-$4 offset=$5 length=$6
      umask 077
      mkdir -p "$root"
      chmod 700 "$root"
      cd "$root"
      mkdir -p bin
      have=0
      [ -f "$part" ] && have=$(($(wc -c <"$part")))
      if [ "$have" -ne "$offset" ]; then
        echo "another copy is under way" >&2
        exit 5
      fi
      cat >>"$part" || { rm -f "$part"; exit 7; }
      have=$(($(wc -c <"$part")))
      if [ "$have" -ne "$length" ]; then
        [ "$have" -lt "$length" ] || rm -f "$part"
        echo "$have of $length bytes arrived" >&2
        exit 6
      fi
      new=bin/.cmcagent-$digest.$$
      trap 'rm -f "$new"' EXIT
      if [ "$encoding" = gzip ]; then
        gzip -dc <"$part" >"$new" || { rm -f "$part"; exit 7; }
      else
        cat <"$part" >"$new" || { rm -f "$part"; exit 7; }
      fi
      rm -f "$part"
      found=$(sha256sum <"$new")
      if [ "${found%% *}" != "$digest" ]; then
        echo "the copy has digest ${found%% *}, not $digest" >&2
        exit 3
      fi
      chmod 700 "$new"
      # So that systemd may run it where SELinux is enforced. Where it isn't, or isn't there, a label changes nothing: no
      # chcon, or a file system without labels, is no reason to stop.
      unlabelled=
      if [ -e /sys/fs/selinux/enforce ]; then
        chcon -t bin_t "$new" 2>/dev/null || [ "$(cat /sys/fs/selinux/enforce)" != 1 ] || unlabelled=unlabelled
      fi
      code=0
      "$new" version >/dev/null 2>&1 </dev/null || code=$?
      if [ $code -eq 126 ]; then
        denials >&2
        echo "programs in $PWD/bin may not be run (noexec, or SELinux${unlabelled:+; chcon -t bin_t failed there})" >&2
        exit 8
      fi
      sync "$new"
      mv -f "$new" "bin/cmcagent-$digest"
      ln -sfn "cmcagent-$digest" bin/.cmcagent.$$
      mv -fT bin/.cmcagent.$$ bin/cmcagent
      sync bin
      [ -z "$unlabelled" ] || echo unlabelled
      """#

  /// Makes the installed agent $2 the one that is run.
  static let select = #"""
    set -e
    cd "$1"
    [ -x "bin/cmcagent-$2" ]
    ln -sfn "cmcagent-$2" bin/.cmcagent.$$
    mv -fT bin/.cmcagent.$$ bin/cmcagent
    sync bin
    """#

  /// Removes installed agents other than $2, their unit, and what cut-off copies left.
  static let prune = #"""
    cd "$1" || exit 0
    for old in bin/cmcagent-* bin/.part-* bin/.cmcagent* bin/.former-unit*; do
      [ "$old" = "bin/cmcagent-$2" ] || rm -f "$old"
    done
    exit 0
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

  /// The same with a loop that starts it again when it dies: as long as `supervised` is there, and not when it ends in
  /// order. One that dies five times within ten seconds of its start is left alone.
  static let startSupervised = #"""
    cd "$1" || exit 1
    umask 077
    exec </dev/null
    HOME=${HOME:-$PWD}
    export HOME
    : >supervised
    setsid nohup /bin/sh -c '
      deaths=0
      while [ -e supervised ]; do
        began=$(date +%s)
        bin/cmcagent run --root "$PWD" --foreground && exit 0
        [ $(($(date +%s) - began)) -lt 10 ] || deaths=0
        deaths=$((deaths + 1))
        [ $deaths -lt 5 ] || exit 1
        sleep 0.$deaths
      done' cmcagent-supervisor >>agent.log 2>&1 &
    """#

  /// Puts the unit on standard input in its place. The one before it is kept until the agent has answered; what an
  /// upgrade kept whose end nobody saw is the former one still.
  static let writeUnit = #"""
    set -e
    umask 022
    unit=/etc/systemd/system/cmcagent.service
    kept=$1/bin/.former-unit
    trap 'rm -f "$unit.new" "$kept.new"' EXIT
    cat >"$unit.new"
    sync "$unit.new"
    if [ -e "$unit" ] && [ ! -e "$kept" ]; then
      cat "$unit" >"$kept.new"
      mv -f "$kept.new" "$kept"
    fi
    mv -f "$unit.new" "$unit"
    systemctl daemon-reload
    """#

  /// Puts the unit back that `writeUnit` kept, where it did.
  static let restoreUnit = #"""
    set -e
    umask 022
    unit=/etc/systemd/system/cmcagent.service
    kept=$1/bin/.former-unit
    [ -e "$kept" ] || exit 0
    trap 'rm -f "$unit.new"' EXIT
    cat "$kept" >"$unit.new"
    sync "$unit.new"
    mv -f "$unit.new" "$unit"
    systemctl daemon-reload
    rm -f "$kept"
    """#

  /// Starts the agent as a systemd service, by the unit that is there.
  static let startService =
    denials + #"""
      set -e
      systemctl is-enabled -q cmcagent.service 2>/dev/null || systemctl enable -q cmcagent.service
      systemctl reset-failed cmcagent.service 2>/dev/null || :
      code=0
      systemctl start cmcagent.service || code=$?
      [ $code -eq 0 ] || denials >&2
      exit $code
      """#

  /// The unit, for an agent whose files are on the root file system (`isEarly`) or on another.
  ///
  /// An early one starts before local file systems are mounted, and is ready once its taps are back, so that after a start
  /// of the host no write goes past them; and it ends after they were unmounted, because what they still write then goes
  /// through it. One on another file system can't be earlier than that: its sessions compare both copies instead.
  ///
  /// The tap's holders live in its control group and must outlive the agent: KillMode=process. Hooks mount file
  /// systems, use sudo and start services in the host's own name spaces, so nothing here may give the agent others, or
  /// keep it from gaining privileges; what is left is its files, its core dumps and its memory.
  static func unit(isEarly: Bool) -> String {
    let order =
      isEarly
      ? """
      DefaultDependencies=no
      After=systemd-remount-fs.service systemd-modules-load.service systemd-udevd.service
      Wants=local-fs-pre.target
      Before=local-fs-pre.target
      Conflicts=shutdown.target
      Before=shutdown.target
      """ : "After=local-fs.target network.target"
    return """
      [Unit]
      Description=cmcplan agent: live block migration
      \(order)
      RequiresMountsFor=\(SSHTransport.rootOfRoot)
      StartLimitIntervalSec=60
      StartLimitBurst=5

      [Service]
      Type=notify
      TimeoutStartSec=90
      ExecStart=\(SSHTransport.rootOfRoot)/bin/cmcagent run --root \(SSHTransport.rootOfRoot) --foreground
      Restart=on-failure
      RestartSec=1
      KillMode=process
      TimeoutStopSec=60
      UMask=0077
      LimitCORE=0
      LimitMEMLOCK=infinity
      LimitNOFILE=65536
      OOMScoreAdjust=-900
      TasksMax=infinity
      LockPersonality=yes

      [Install]
      WantedBy=multi-user.target

      """
  }

  /// From now on an agent that ends is not started again by what supervises it.
  static let unsupervise = #"""
    rm -f "$1/supervised"
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

  /// Exit codes by which `refuseUsed` and `remove` say that nothing was removed: sessions, or a tap in use.
  static let hasSessions: Int32 = 40
  static let hasTap: Int32 = 41

  /// Exits with one of these, and says of what, unless the agent may go. $3 `given-up`: sessions are no reason to keep it.
  /// A tap always is: it is somebody's disk, whatever was asked for.
  static let refuseUsed = #"""
    here=$(cd "$1" 2>/dev/null && pwd -P) || here=$1
    # One process looks through all command lines; those of other roots cost nothing more.
    lines=$(find /proc -mindepth 2 -maxdepth 2 -name exe -lname '*cmcagent*' 2>/dev/null | sed 's,exe$,cmdline,')
    [ -z "$lines" ] || lines=$(grep -lsF -e "$1/tap/" -e "$here/tap/" $lines)
    for line in $lines; do
      pid=${line#/proc/}
      pid=${pid%/cmdline}
      case $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") in
        *" holder --directory $1/tap/"* | *" holder --directory $here/tap/"*)
          echo "process $pid holds a tap" >&2
          exit 41
          ;;
      esac
    done
    # Spaces and their like are octal escapes in mountinfo.
    while read -r _ _ _ _ path _; do
      case $path in */tap/*) path=$(printf %b "$path") ;; *) continue ;; esac
      case $path in
        "$1"/tap/* | "$here"/tap/*)
          echo "a tap is mounted at $path" >&2
          exit 41
          ;;
      esac
    done </proc/self/mountinfo
    for name in /sys/block/dm-*/dm/name; do
      [ -r "$name" ] && IFS= read -r name <"$name" || continue
      case $name in
        cmcplan-origin-*)
          echo "the device-mapper device $name is there: a tap is, or was, beneath a device in use" >&2
          exit 41
          ;;
      esac
    done
    for link in "$here"/tap/*/*; do
      device=$(readlink "$link" 2>/dev/null) || continue
      case $device in /dev/nbd*) [ -e "/sys/block/${device#/dev/}/pid" ] || continue ;; *) continue ;; esac
      echo "the tap $device is connected" >&2
      exit 41
    done
    for file in "$here"/state/sessions/*/session.json; do
      [ -e "$file" ] && [ "$3" != given-up ] || continue
      name=${file%/session.json}
      echo "the session of ${name##*%2F} is there" >&2
      exit 40
    done

    """#

  /// Removes all that is the agent's but tombstones (and what fences a source), never what is the user's. $2 `all`: a
  /// root that is empty then, and the service, too. Refuses where `refuseUsed` does.
  static let remove =
    refuseUsed + #"""
      set -e
      unit=/etc/systemd/system/cmcagent.service
      if [ "$2" = all ] && [ -e "$unit" ]; then
        if [ -d /run/systemd/system ]; then systemctl disable -q --now cmcagent.service; fi
        rm -f "$unit" /etc/systemd/system/multi-user.target.wants/cmcagent.service
        if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
      fi
      [ -d "$1" ] || exit 0
      cd "$1"
      rm -rf bin state tap agent.log agent.sock agent.lock supervised
      # Not empty where they stay.
      rmdir tombstones 2>/dev/null || :
      cd /
      if [ "$2" = all ]; then rmdir "$1" 2>/dev/null || :; fi
      """#
}
