"""What the virtual machine tests share: a migration between two guests, the application on its volume, and the steps
that all of them take."""

import os
import pathlib
import socket
import subprocess
import time

from guests import AGENT_ROOT, BOOT_SECONDS, Failure, Lab, build_image, end_in_order

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PRODUCT = ROOT / ".build-product"
IMAGE = pathlib.Path(os.environ.get("VMLAB_DIR", PRODUCT / "vmlab"))
SESSION = "vmtest/data"
PLAN = "6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11"
DEVICE = "/dev/vg/data"
DISK = "/dev/disk/azure/scsi1/lun0"
MEGABYTES = 96


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ok(text):
    print(f"ok - {text}", flush=True)


def skip(why):
    print(f"skipped - the virtual machine test: {why}", flush=True)


def check(text, body, *arguments):
    """Runs `body`; what it raises makes the check fail, and ends the test: later steps need earlier ones."""
    begin = time.monotonic()
    try:
        said = body(*arguments)
    except (Failure, AssertionError, subprocess.SubprocessError, OSError) as problem:
        print(f"not ok - {text}\n    " + str(problem).replace("\n", "\n    "), flush=True)
        raise SystemExit(1) from problem
    more = f" ({said})" if isinstance(said, str) else ""
    print(f"ok - {text}{more} [{time.monotonic() - begin:.0f} s]", flush=True)


def run_test(scope, body):
    """Runs `body` with a laboratory that is gone afterwards; with VM_KEEP set a failed one stays to be looked at."""
    end_in_order()
    if os.geteuid() != 0:
        skip("it needs root, to make the guests' image")
        raise SystemExit(0 if scope == "quick" else 1)
    if not (IMAGE / "base.img").exists():
        try:
            build_image(IMAGE)
        except (Failure, subprocess.TimeoutExpired, OSError) as problem:
            skip(f"the guests' image can't be made: {problem}")
            raise SystemExit(0 if scope == "quick" else 1) from problem
    lab = Lab(IMAGE)
    is_whole = False
    try:
        body(lab)
        is_whole = True
    finally:
        if not is_whole and os.environ.get("VM_KEEP"):
            print(f"kept: {lab.directory}", flush=True)
        else:
            lab.remove()


def boot(lab, *guests):
    """All of them at once."""
    starts = []
    try:
        for guest in guests:
            starts.append(subprocess.Popen(
                [str(HERE / "vmlab"), "start", str(lab.directory), guest.name, str(guest.port), *guest.forwards],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        if any(start.wait(timeout=BOOT_SECONDS) for start in starts):
            raise Failure("a guest did not come up")
    finally:
        for start in starts:
            start.kill()
            start.wait()


def equip(*guests):
    for guest in guests:
        guest.push(PRODUCT / "cmcagent", "/usr/local/bin/cmcagent")
        guest.push(HERE / "writer", "/usr/local/bin/writer")


def pair(lab, device, name=""):
    """Two guests, with what they run brought to them; `device` is what moves."""
    port = free_port()
    source = lab.guest("source" + name, free_port())
    destination = lab.guest("destination" + name, free_port(), [f"{port}:4996"])
    boot(lab, source, destination)
    equip(source, destination)
    return Migration(source, destination, port, device)


class Migration:
    def __init__(self, source, destination, port, device=DEVICE):
        """`port` is where the source reaches the destination's listener, on this machine."""
        self.source, self.destination, self.port, self.device = source, destination, port, device
        self.limits = {}
        self.keys = []

    def configuration(self, role, volume, link, peer):
        return {
            "session": SESSION, "plan": PLAN, "migration": "data", "role": role, "configurationDigest": "vm",
            "peerFingerprint": peer, "link": {"port": 4996, "lanes": 2} | link,
            "volumes": [{"name": "data", "sizeBytes": MEGABYTES << 20, "tracking": "tap", "overwrite": False} | volume],
            "limits": self.limits, "linkLossTimeoutSeconds": 20, "resyncIntervalSeconds": 30, "verify": "full"}

    def configure(self):
        if not self.keys:
            self.keys = [guest.run(f"cmcagent fingerprint --root {AGENT_ROOT}").strip() for guest in
                         (self.source, self.destination)]
        self.destination.call("configureSession", fencingNumber=1, configuration=self.configuration(
            "destination", {"devicePath": DISK, "attachDevice": False}, {"listens": True, "address": "0.0.0.0"},
            self.keys[0]))
        self.configure_source(SESSION, self.keys[1])

    def configure_source(self, session, peer="SHA256:00"):
        self.source.call("configureSession", fencingNumber=1, configuration=self.configuration(
            "source", {"devicePath": self.device, "attachDevice": True},
            {"listens": False, "address": "10.0.2.2", "port": self.port}, peer) | {"session": session})

    def command(self, command, role="source"):
        guest = self.source if role == "source" else self.destination
        return guest.call("command", fencingNumber=1, session=SESSION, role=role, command=command)

    def seen(self, guest=None):
        sessions = (guest or self.source).call("observe")["sessions"]
        return sessions[0] if sessions else None

    def until(self, text, reached, seconds=180):
        end = time.monotonic() + seconds
        while True:
            seen = self.seen()
            if seen and reached(seen):
                return seen
            if time.monotonic() > end:
                raise Failure(f"no {text} within {seconds} s: {seen}")
            time.sleep(0.5)

    def resume(self):
        for guest in (self.source, self.destination):
            guest.call("setHold", session=SESSION, hold=None)


# -- the application

def application_start(guest):
    guest.run("writer /data/db /run/acknowledged </dev/null >/dev/null 2>&1 & echo $! >/run/writer.pid")


def application_goes_on(guest, more=3, seconds=90):
    """Waits for more transactions; answers how long the longest took."""
    script = f"""
      before=$(wc -l </run/acknowledged 2>/dev/null || echo 0)
      for i in $(seq {seconds * 5}); do
        [ -e /run/acknowledged.error ] && {{ cat /run/acknowledged.error; exit 1; }}
        now=$(wc -l </run/acknowledged 2>/dev/null || echo 0)
        [ $now -ge $((before + {more})) ] && {{ tail -n 1 /run/acknowledged; exit; }}
        sleep 0.2
      done
      echo "the application stands still"; tail -n 3 /run/acknowledged; dmesg | tail -n 20; exit 1"""
    number, _, longest = guest.run(script, timeout=seconds + 60).split()
    return f"{number} transactions, longest {longest} ms"


def transactions(guest):
    """How many were acknowledged up to now."""
    return int(guest.run("wc -l </run/acknowledged"))


def longest_since(guest, first):
    """The longest wait for one transaction after the `first` ones, in milliseconds."""
    return int(guest.run(f"tail -n +{first + 1} /run/acknowledged | awk '$2 > longest {{ longest = $2 }} END {{ print longest + 0 }}'"))


def application_stop(guest):
    guest.run("kill $(cat /run/writer.pid); for i in $(seq 300); do kill -0 $(cat /run/writer.pid) 2>/dev/null || exit 0; sleep 0.1; done; exit 1")


def table(guest):
    return guest.run("dmsetup table vg-data").strip()


def is_tapped(guest):
    leads_to_tap(table(guest))


def leads_to_tap(text):
    if "linear 43:" not in text:
        raise Failure(f"vg-data does not lead to an NBD device: {text}")


def is_itself(guest):
    text = table(guest)
    if "linear 8:" not in text:
        raise Failure(f"vg-data does not lead to its disk: {text}")


# -- the steps

def prepare_volume(source):
    """A logical volume on the disk at LUN 0, with a file system that is mounted."""
    source.add_disk(0, MEGABYTES + 32)
    source.run(f"""set -e
      pvcreate -q -y {DISK}; vgcreate -q vg {DISK}; lvcreate -q -y -W n -L {MEGABYTES}M -n data vg
      mkfs.ext4 -q {DEVICE}; mkdir -p /data; mount {DEVICE} /data""")


def choice(guest, device):
    report = guest.call("inspectDevices", paths=[device])[0]
    return f"{report['tapMethod']}: {report['tapReason']}"


def expect_choice(guest, device, method):
    said = choice(guest, device)
    if not said.startswith(method):
        raise Failure(f"{device} would get {said}")
    return said


def prove_connection(migration):
    """Emulated machines on a busy host may be slower than the limit of one try."""
    for attempt in range(5):
        try:
            migration.command("proveConnection")
            return
        except Failure:
            if attempt == 4:
                raise


def restart_agent(migration):
    migration.source.kill_agent()
    time.sleep(3)
    migration.source.start_agent()


def swing(migration):
    migration.command("swing")
    seen = migration.until("stand-in", lambda seen: seen["stage"] == "standIn")
    return f"pause {seen['lastSwingPauseSeconds'] * 1000:.0f} ms"


def revert(migration):
    migration.command("revert")
    migration.until("tracking", lambda seen: seen["stage"] == "tracking" and seen["authority"] == "source")


def clean(seen):
    return seen["stage"] == "tracking" and seen["connected"] and seen["volumes"][0]["dirtyBytes"] < 8 << 20


def start_anew(guest):
    guest.cut_power()
    guest.power_on()


def fence(migration):
    migration.command("fence")
    migration.until("fenced", lambda seen: seen["stage"] == "fenced")
    end = time.monotonic() + 60
    while True:
        said = migration.source.run("lvs --noheadings -o lv_attr,lv_tags,lv_skip_activation vg/data")
        if "cmcplan-fenced" in said and "skip" in said:
            break
        if time.monotonic() > end:
            raise Failure(f"the logical volume is not fenced: {said}")
        time.sleep(0.5)
    if migration.source.run(f"dd if=/dev/zero of={DEVICE} bs=4k count=1 conv=fsync 2>/dev/null", check=False) == 0:
        raise Failure("the fenced volume can be written")
    return said.strip()


def release(migration):
    end = time.monotonic() + 90
    while True:
        try:
            migration.command("release", "destination")
            return
        except Failure:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def verify(source, destination):
    """The acknowledged transactions are in the destination's database, its file system and database are whole."""
    acknowledged = int(source.run("tail -n 1 /run/acknowledged | cut -d' ' -f1"))
    found = destination.run(f"""set -e
      e2fsck -fn {DISK} >/run/fsck.out 2>&1 || {{ cat /run/fsck.out; exit 1; }}
      mkdir -p /data; mount {DISK} /data
      sqlite3 /data/db 'PRAGMA integrity_check; SELECT count(*), max(number) FROM entry;'""").split()
    if found[0] != "ok":
        raise Failure(f"the database is damaged: {found}")
    count, highest = (int(part) for part in found[1].split("|"))
    if count != highest or highest < acknowledged:
        raise Failure(f"{acknowledged} transactions were acknowledged, {count} are there, the last is {highest}")
    return f"{count} transactions, {acknowledged} acknowledged"


def source_digest(source, device=DEVICE):
    return source.run(f"blockdev --flushbufs {device}; dd if={device} bs=1M iflag=direct 2>/dev/null | sha256sum").split()[0]


def unchanged(source, before, device=DEVICE):
    if source_digest(source, device) != before:
        raise Failure("the source changed after its fence")
