# Hosts for test-ssh: each is a network, process, mount and host-name space of its own, with a root directory that is an
# overlay upon this machine's (what a host writes is in its upper directory and nowhere else), and a real sshd. Sourced
# after common.sh, inside the name spaces that `net_enter` makes; all of it vanishes with them.

# net_enter ARGUMENT…: runs the script again in name spaces where it may make networks and mounts; where that can't be
# had, says so by name and ends. Their mounts are private, both ways: what hosts mount is seen by nobody else.
net_enter() {
  [ -n "${CMC_NET:-}" ] && return
  local why=
  as_root || why="it needs root, to make name spaces"
  [ -x /usr/sbin/sshd ] || why="it needs sshd (openssh-server)"
  command -v sudo >/dev/null || why="it needs sudo"
  command -v ip >/dev/null || why="it needs ip (iproute2)"
  [ -n "$why" ] || unshare --mount --propagation private --net --pid --fork --mount-proc bash -c "
    ip link set lo up && ip link add name a type veth peer name b && mkdir -p $LAB/probe && mount -t tmpfs none $LAB/probe &&
    mkdir $LAB/probe/{u,w,r} && mount -t overlay overlay -o lowerdir=/,upperdir=$LAB/probe/u,workdir=$LAB/probe/w $LAB/probe/r" \
    >/dev/null 2>&1 || why="network name spaces and overlay mounts can't be made here"
  if [ -n "$why" ]; then
    echo "skipped hosts over SSH: $why"
    rm -rf "$LAB"
    exit 0
  fi
  rm -rf "$LAB"
  # `unshare --fork` ignores SIGINT and SIGTERM, so it is not what this process becomes: the signal is handed to the
  # script, the only child of unshare, which cleans up. It is killed where this process is.
  local status inner
  CMC_NET=1 unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc "$0" "$@" &
  NET_UNSHARE=$!
  trap 'read -r inner <"/proc/$NET_UNSHARE/task/$NET_UNSHARE/children"; kill -TERM ${inner:-}' INT TERM
  trap - EXIT
  # A wait that a signal broke off is waited for again.
  while wait "$NET_UNSHARE"; status=$?; kill -0 "$NET_UNSHARE" 2>/dev/null; do :; done
  exit "$status"
}

# net_create: the operator's own end: loopback, keys, an SSH configuration that touches nobody's home directory.
net_create() {
  ip link set lo up
  mkdir -p "$LAB"/{hosts,volumes/source,volumes/destination,azure,azure-vm,run}
  chmod 700 "$LAB" "$LAB/run"
  LAB=$(cd "$LAB" && pwd)
  export XDG_RUNTIME_DIR=$LAB/run CMCPLAN_SSH_CONFIG=$LAB/ssh_config
  ssh-keygen -q -t ed25519 -N '' -f "$LAB/key"
  ssh-keygen -q -t ed25519 -N '' -f "$LAB/stranger"
  # An authority whose word hosts take for who "plain" is, and a key that has nothing but that.
  ssh-keygen -q -t ed25519 -N '' -f "$LAB/authority"
  ssh-keygen -q -t ed25519 -N '' -f "$LAB/certified"
  ssh-keygen -q -s "$LAB/authority" -I plain -n plain -V +1d "$LAB/certified.pub"
  cat >"$LAB/ssh_config" <<END
Host *
  UserKnownHostsFile $LAB/known_hosts
  GlobalKnownHostsFile /dev/null
  IdentityFile $LAB/key
  IdentitiesOnly yes
  IdentityAgent none
  ConnectTimeout 3
END
  : >"$LAB/known_hosts"
  # Hosts live on a file system in memory, the upper layers of their roots.
  mount -t tmpfs -o size=2G hosts "$LAB/hosts"
}

# net_link HOST ADDRESS HOST ADDRESS: a cable; "operator" is this end.
LINKS=0
net_link() {
  LINKS=$((LINKS + 1))
  ip link add "cmc${LINKS}a" type veth peer name "cmc${LINKS}b"
  net_plug "cmc${LINKS}a" "$1" "$2"
  net_plug "cmc${LINKS}b" "$3" "$4"
}
net_plug() {
  if [ "$2" = operator ]; then
    ip address add "$3/24" dev "$1" && ip link set "$1" up
  else
    local net=$LAB/hosts/$2/net.pid
    ip link set "$1" netns "$(cat "$net")"
    nsenter --net="/proc/$(cat "$net")/ns/net" sh -c "ip address add $3/24 dev $1 && ip link set $1 up"
  fi
}

# host_create NAME [PORT]: its root directory, users, keys and network, switched off.
#   root and migrate (sudo without a password) and plain (no sudo) let the operator's key in.
host_create() {
  local name=$1 port=${2:-22} host=$LAB/hosts/$1 root=$LAB/hosts/$1/root user number=2000
  mkdir -p "$host"/{upper,work,root}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$host/upper,workdir=$host/work" "$root"
  for user in migrate plain; do
    number=$((number + 1))
    echo "$user:x:$number:$number::/home/$user:/bin/bash" >>"$root/etc/passwd"
    echo "$user:*:19000:0:99999:7:::" >>"$root/etc/shadow"
    echo "$user:x:$number:" >>"$root/etc/group"
    install -d -o $number -g $number -m 700 "$root/home/$user" "$root/home/$user/.ssh"
    install -o $number -g $number -m 600 "$LAB/key.pub" "$root/home/$user/.ssh/authorized_keys"
  done
  install -d -m 700 "$root/root" "$root/root/.ssh"
  install -m 600 "$LAB/key.pub" "$root/root/.ssh/authorized_keys"
  install -d -m 755 "$root/srv/volumes"
  echo "migrate ALL=(root) NOPASSWD: ALL" >"$root/etc/sudoers.d/cmcplan"
  chmod 440 "$root/etc/sudoers.d/cmcplan"
  host_key "$name"
  install -m 644 "$LAB/authority.pub" "$root/etc/ssh/cmc_authority.pub"
  cat >"$root/etc/ssh/cmc_config" <<END
Port $port
HostKey /etc/ssh/cmc_key
TrustedUserCAKeys /etc/ssh/cmc_authority.pub
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
PrintMotd no
AllowTcpForwarding yes
END
  unshare --net sleep infinity &
  disown $!
  echo $! >"$host/net.pid"
  until [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
}

# host_services NAME: as much of systemd as deploying asks of it: one unit, started at boot where it is enabled.
host_services() {
  local root=$LAB/hosts/$1/root
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
  install -m 755 /dev/stdin "$root/usr/local/bin/systemctl" <<'END'
#!/bin/bash
unit=/etc/systemd/system/cmcagent.service wanted=/etc/systemd/system/multi-user.target.wants/cmcagent.service
for word; do case $word in -*) ;; *) break ;; esac; done
case $word in
  is-enabled) [ -L $wanted ] ;;
  enable) ln -sf $unit $wanted ;;
  disable) rm -f $wanted ;;
  start) setsid $(sed -n 's/^ExecStart=//p' $unit) </dev/null >>/run/cmcagent.log 2>&1 & ;;
  daemon-reload | reset-failed) ;;
  show) echo ActiveState=inactive ;;
  *) echo "systemctl $*: not in this test" >&2; exit 1 ;;
esac
END
}

# host_key NAME: a new host key.
host_key() {
  rm -f "$LAB/hosts/$1/root/etc/ssh/cmc_key"*
  ssh-keygen -q -t ed25519 -N '' -f "$LAB/hosts/$1/root/etc/ssh/cmc_key"
}
# host_fingerprint NAME: of its key, as people compare it.
host_fingerprint() { ssh-keygen -lf "$LAB/hosts/$1/root/etc/ssh/cmc_key.pub" | cut -d' ' -f2; }
# host_known NAME ADDRESS [PORT]: the operator has compared and accepted its key.
host_known() {
  local at=$2
  [ "${3:-22}" = 22 ] || at="[$2]:$3"
  ssh-keygen -R "$at" -f "$LAB/known_hosts" >/dev/null 2>&1
  echo "$at $(cut -d' ' -f1,2 "$LAB/hosts/$1/root/etc/ssh/cmc_key.pub")" >>"$LAB/known_hosts"
}

# host_start NAME: switches it on: its first process starts sshd, and again when it was killed.
host_start() {
  local host=$LAB/hosts/$1 net
  net=$(cat "$host/net.pid")
  # Not this test's environment: there are secrets in it.
  env -i "PATH=$PATH" nsenter --net="/proc/$net/ns/net" \
    unshare --mount --propagation private --pid --uts --ipc --fork --kill-child 2>/dev/null bash -c '
      hostname $1
      root=$2/hosts/$1/root
      mount -t proc proc $root/proc
      mount -t sysfs sysfs $root/sys
      mount -t tmpfs run $root/run
      mount -t tmpfs tmp $root/tmp
      mkdir -p $root/run/sshd
      if [ -x $root/usr/local/bin/systemctl ]; then mkdir -p $root/run/systemd/system; fi
      mount -t tmpfs dev $root/dev
      mknod -m 666 $root/dev/null c 1 3
      mknod -m 666 $root/dev/zero c 1 5
      mknod -m 666 $root/dev/full c 1 7
      mknod -m 666 $root/dev/random c 1 8
      mknod -m 666 $root/dev/urandom c 1 9
      mknod -m 666 $root/dev/tty c 5 0
      mknod -m 600 $root/dev/fuse c 10 229
      mknod -m 600 $root/dev/loop-control c 10 237
      for number in $(seq 0 63); do mknod -m 600 $root/dev/loop$number b 7 $number; done
      ln -s /proc/self/fd $root/dev/fd
      cat /proc/sys/kernel/random/uuid >$root/run/boot_id
      mount --bind $root/run/boot_id $root/proc/sys/kernel/random/boot_id
      [ -d $2/volumes/$1 ] && mount --bind $2/volumes/$1 $root/srv/volumes
      if [ $1 = destination ]; then
        mkdir -p $root$2/azure $root/dev/disk $2/azure-vm/dev/disk/azure
        mount --bind $2/azure $root$2/azure
        ln -s $2/azure-vm/dev/disk/azure $root/dev/disk/azure
        mkdir -p $root$2/azure-vm
        mount --bind $2/azure-vm $root$2/azure-vm
      fi
      exec chroot $root /bin/bash -c "while :; do /usr/sbin/sshd -D -e -f /etc/ssh/cmc_config </dev/null 2>>/run/sshd.log; sleep 0.2; done"
    ' _ "$1" "$LAB" &
  local unshare=$! children
  disown $!
  for _ in $(seq 100); do
    children=$(cat "/proc/$unshare/task/$unshare/children" 2>/dev/null)
    [ -n "$children" ] && break
    sleep 0.02
  done
  echo "${children%% *}" >"$host/init.pid"
  echo "$unshare" >"$host/unshare.pid"
  for _ in $(seq 300); do
    # Until it is in its own root, what is seen is this machine's, with the other hosts' sshd.
    if host_run "$1" sh -c '[ -e /run/boot_id ] && pgrep -x sshd' >/dev/null 2>&1; then
      # Nor this test's environment, for what is started there.
      host_run "$1" env -i "PATH=$PATH" sh -c '[ ! -d /run/systemd/system ] || ! systemctl is-enabled cmcagent || systemctl start cmcagent'
      return 0
    fi
    sleep 0.05
  done
  return 1
}

# host_stop NAME: the power is cut.
host_stop() {
  kill -KILL "$(cat "$LAB/hosts/$1/init.pid")"
  while kill -0 "$(cat "$LAB/hosts/$1/unshare.pid")" 2>/dev/null; do sleep 0.02; done
}

# host_run NAME COMMAND…: as root on the host's console.
host_run() {
  local pid
  pid=$(cat "$LAB/hosts/$1/init.pid")
  shift
  nsenter --target "$pid" --all --root "--wd=/proc/$pid/root" "$@"
}

# host_tree NAME: every file that the host has of its own, with type, rights, owner and content; and its processes,
# sockets, mounts, users, and devices of the kernel that it uses. What a host that was left clean has before and after.
host_tree() {
  (
    cd "$LAB/hosts/$1/upper" || exit
    find . -path ./run -prune -o -path ./tmp -prune -o -path "./var/log*" -prune -o \
      -type f -printf 'file %p %m %U:%G ' -exec sha256sum {} \; -o -printf '%y %p %m %U:%G\n' |
      sed 's/ -$//' | sort
  )
  # sshd's own children, which come and go with this test's connections, are no part of what is compared.
  host_run "$1" ps -eo comm= | grep -vxE 'ps|sshd|sleep|bash|nsenter' | sort | sed 's/^/process /'
  host_run "$1" cat /proc/mounts | sort | sed 's/^/mount /'
  host_run "$1" ss -Hlntux | awk '{print "socket", $1, $2, $5}' | sort
  host_run "$1" sh -c 'cat /etc/passwd /etc/group | sort' | sed 's/^/user /'
}

# host_loops NAME: loop devices that the host's taps hold.
host_loops() { host_run "$1" sh -c 'for l in /var/lib/cmcplan/tap/*/*; do [ -L "$l" ] && readlink "$l"; done' 2>/dev/null; }

net_remove() {
  local host device devices=()
  for host in "$LAB"/hosts/*/; do
    for device in $(host_loops "$(basename "$host")"); do devices+=("$device"); done
  done
  [ -n "${EMULATOR:-}" ] && kill -TERM "$EMULATOR" 2>/dev/null
  for host in "$LAB"/hosts/*/; do
    kill -KILL "$(cat "$host/init.pid" 2>/dev/null)" "$(cat "$host/net.pid" 2>/dev/null)" 2>/dev/null
    umount -l "$host/root" 2>/dev/null
  done
  wait "${EMULATOR:-}" 2>/dev/null
  # Now that nobody lives who would attach another.
  for device in "${devices[@]}"; do
    case $(cat "/sys/block/${device#/dev/}/loop/backing_file" 2>/dev/null) in
      */volume) losetup -d "$device" ;;
    esac
  done
  umount -l "$LAB/hosts" 2>/dev/null
  rm -rf "$LAB"
}
