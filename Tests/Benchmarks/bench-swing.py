#!/usr/bin/env python3
"""What an application notices of a migration: `make bench`, or `bench-swing.py PART…` of: beside stall swings standin flush.

beside   p99 of reads and writes next to a copy at `minimum`, beside the same with nothing copied, on a limited disk
stall    the longest wait of any write (4 KiB, random, depth 32) around swings and reverts, beyond the longest of the same run
         without any; next to qemu-storage-daemon's mirror (write-blocking) and its pivot, in the same run
swings   a thousand swings and reverts under verified writes, then both copies compared byte for byte
standin  the median write in stand-in where the disks need 1 and 3 ms, next to each disk alone
flush    random writes over 100 GiB with the agent's records on a real disk (TMPDIR's, or /var/tmp), next to nbdkit's

Volumes are on tmpfs. Only ratios of one run mean something: machines differ, and are shared.

By environment: BENCH_RUNS (3), BENCH_SWINGS (1000), BENCH_SECONDS (of each fio job, 4).
"""
import contextlib, json, os, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../EndToEndTests/scripts"))
from agentpair import AgentError, configure, free_port, pair
from bench import AGENT, RUNS, SECONDS, listens, server

SWINGS = int(os.environ.get("BENCH_SWINGS", "1000"))
LIMIT_SECONDS = 600
# Of the log of longest waits.
WINDOW_MS = 50
MIB = 1 << 20


def sparse(path, size, data=0):
    """`data` bytes of it hold something."""
    with open(path, "wb") as f:
        for _ in range(data // MIB):
            f.write(os.urandom(MIB))
        f.truncate(size)


def fio_command(path, seconds, size, depth=32, more=()):
    return ["fio", "--name=b", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={path}", "--rw=randwrite", "--bs=4k",
            f"--iodepth={depth}", f"--size={size}", "--time_based", f"--runtime={seconds}", "--output-format=json",
            "--verify_state_save=0", "--randrepeat=0", *more]


def job_part(text, kind):
    return json.loads(text[text.index("{"):])["jobs"][0][kind]


def write_part(text):
    return job_part(text, "write")


def fio(path, seconds, size, depth=32, more=()):
    done = subprocess.run(fio_command(path, seconds, size, depth, more), capture_output=True, text=True, cwd="/tmp",
                          timeout=LIMIT_SECONDS)
    if done.returncode != 0:
        sys.exit(f"bench: fio: {done.stderr.strip() or done.stdout[-400:]}")
    return write_part(done.stdout)


@contextlib.contextmanager
def tapped(directory, volume, size, state=None, **more):
    """A synchronized pair; `volume(path, role)` makes each copy."""
    with pair(AGENT, state or directory) as (source, destination):
        paths = {}
        for role, agent in (("source", source), ("destination", destination)):
            paths[role] = f"{directory}/{role}.disk"
            volume(paths[role], role)
            os.symlink(paths[role], f"{agent.root}/disk")
        configure(source, destination, [("v", "disk", size)], **more)
        source.command("proveConnection")
        source.command("openTap")
        source.command("synchronize")
        seen = source.wait("the end of synchronization", lambda s: s["stage"] == "tracking", LIMIT_SECONDS)
        yield source, destination, seen["volumes"][0]["tapSocket"], paths


def swing(source, stage):
    source.command("swing" if stage == "standIn" else "revert")
    authority = "source" if stage == "tracking" else "standIn"
    return source.wait(stage, lambda s: s["stage"] == stage and s["authority"] == authority, LIMIT_SECONDS)


def stalls(directory, path, size, turns):
    """fio runs; `turns` does what it does meanwhile, and answers when, as (from, to). The longest waits in ms: around
    those, and apart from them."""
    prefix = f"{directory}/lat"
    seconds = 120
    job = subprocess.Popen(
        fio_command(path, seconds, size, more=(
            f"--write_lat_log={prefix}", f"--log_avg_msec={WINDOW_MS}", "--log_max_value=1", "--log_unix_epoch=1")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/tmp")
    try:
        time.sleep(2)
        times = turns()
        time.sleep(2)
    finally:
        job.terminate()
        said, trouble = job.communicate(timeout=60)
    if '"jobs"' not in said:
        sys.exit(f"bench: fio: {trouble.strip()[-400:] or said[-400:]}")
    around, apart = [], []
    with open(f"{prefix}_clat.1.log") as log:
        for line in log:
            at, longest = (int(part) for part in line.split(",")[:2])
            at /= 1000
            # An entry tells of the window that ends at its time.
            near = any(begin - 0.2 <= at <= end + 0.4 for begin, end in times)
            (around if near else apart).append(longest / 1e6)
    for name in os.listdir(directory):
        if name.startswith("lat_"):
            os.unlink(f"{directory}/{name}")
    # What fio's own start costs is neither.
    return max(around), max(apart[10:])


def our_stalls(directory, size, data):
    with tapped(directory, lambda path, role: sparse(path, size, data if role == "source" else 0), size) as (source, _, tap, _):
        # The memory of what fio writes is the volume's from here on.
        fio(tap, 2, "1g")

        def turns():
            times = []
            for _ in range(5):
                for stage in ("standIn", "tracking"):
                    begin = time.time()
                    swing(source, stage)
                    times.append((begin, time.time()))
                    time.sleep(1)
            return times

        return stalls(directory, tap, "1g", turns)


class Monitor:
    """qemu-storage-daemon's control connection."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_SECONDS)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.events = []
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                sys.exit(f"bench: qemu-storage-daemon: {command}: {answer['error']}")
            else:
                return answer["return"]

    def wait(self, status):
        while True:
            for event in self.events:
                if event["event"] == "JOB_STATUS_CHANGE" and event["data"]["status"] == status:
                    return
            answer = json.loads(self.lines.readline())
            if "event" in answer:
                self.events.append(answer)


def qemu_stalls(directory, size, data):
    source, target = f"{directory}/qs", f"{directory}/qt"
    sparse(source, size, data)
    sparse(target, size)
    port, nbd, control = free_port(), f"{directory}/q.sock", f"{directory}/qmp.sock"
    try:
        with server(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "file", target], lambda: listens(port)), \
                server(["qemu-storage-daemon", "--chardev", f"socket,path={control},server=on,wait=off,id=m",
                         "--monitor", "chardev=m",
                         "--blockdev", f"file,filename={source},node-name=copy,discard=unmap",
                         "--blockdev", "raw,file=copy,node-name=top",
                         "--nbd-server", f"addr.type=unix,addr.path={nbd}",
                         "--export", "nbd,id=e,node-name=top,writable=on,name="],
                        lambda: os.path.exists(control) and os.path.exists(nbd)):
            fio(nbd, 2, "1g")
            monitor = Monitor(control)

            def turns():
                monitor.call("blockdev-add", driver="nbd", **{
                    "node-name": "target", "server": {"type": "inet", "host": "127.0.0.1", "port": str(port)}})
                monitor.call("blockdev-mirror", **{
                    "job-id": "j", "device": "top", "target": "target", "sync": "full", "copy-mode": "write-blocking"})
                monitor.wait("ready")
                # Its pivot alone, not what copying beside it costs.
                time.sleep(2)
                begin = time.time()
                monitor.call("job-complete", id="j")
                monitor.wait("concluded")
                return [(begin, time.time())]

            return stalls(directory, nbd, "1g", turns)
    finally:
        for path in (source, target, nbd, control):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def bench_stall(directory):
    cases = [("cmcagent, 1 GiB: 5 swings, 5 reverts", lambda: our_stalls(directory, 1 << 30, 1 << 30)),
             ("cmcagent, 1 TiB, sparse: the same", lambda: our_stalls(directory, 1 << 40, 256 * MIB)),
             ("qemu-storage-daemon, 1 GiB: a pivot", lambda: qemu_stalls(directory, 1 << 30, 1 << 30))]
    found = {title: [] for title, _ in cases}
    for _ in range(RUNS):
        for title, run in cases:
            found[title].append(run())
    print(f"\nlongest write of 4 KiB at depth 32, in ms, median of {RUNS} runs")
    print(f"  {'':40}{'around':>9}{'apart':>9}{'more':>9}")
    for title, _ in cases:
        around, apart = (statistics.median(run[index] for run in found[title]) for index in (0, 1))
        more = statistics.median(run[0] - run[1] for run in found[title])
        print(f"  {title:40}{around:9.1f}{apart:9.1f}{max(0, more):9.1f}")


def bench_swings(directory):
    size = 64 * MIB
    with tapped(directory, lambda path, role: sparse(path, size, size if role == "source" else 0), size) as \
            (source, _, tap, paths):
        job = subprocess.Popen(
            fio_command(tap, LIMIT_SECONDS * 10, "64m", more=(
                "--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1", "--do_verify=1")),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/tmp")
        drained = threading.Thread(target=job.stderr.read)
        drained.start()
        pauses = []
        try:
            source.wait("writes", lambda s: s["volumes"][0]["dirtyBytes"] > 0)
            begin = time.monotonic()
            for turn in range(SWINGS):
                pauses.append(swing(source, "tracking" if turn % 2 else "standIn")["lastSwingPauseSeconds"])
                if job.poll() is not None:
                    sys.exit(f"bench: fio ended with {job.returncode} after {turn + 1} swings: {job.stdout.read()[-400:]}")
            seconds = time.monotonic() - begin
        finally:
            job.terminate()
            said = job.stdout.read()
            drained.join()
            job.wait(60)
        if SWINGS % 2:
            swing(source, "tracking")
        error = json.loads(said[said.index("{"):])["jobs"][0]["error"]
        source.command("resync")
        source.wait("equal copies", lambda s: s["connected"] and s["volumes"][0]["dirtyBytes"] == 0, LIMIT_SECONDS)
        # The destination's first and last MiB are withheld until the release.
        differing = subprocess.run(["cmp", "-i", str(MIB), "-n", str(size - 2 * MIB), paths["source"], paths["destination"]],
                                   capture_output=True, text=True)
        told = "equal" if differing.returncode == 0 else differing.stdout.strip()
        print(f"\n{SWINGS} swings and reverts under verified writes in {seconds:.0f} s: fio's errors {error}, the copies are {told}; "
              f"pause: median {1000 * statistics.median(pauses):.1f} ms, longest {1000 * max(pauses):.1f} ms")
        if error or differing.returncode:
            sys.exit("bench: bytes went wrong")


@contextlib.contextmanager
def slow_disks(directory, settings, size=64 * MIB):
    """Files as slow as `settings[role]` of nbdkit's delay and rate filters say, behind a file of nbdfuse."""
    with contextlib.ExitStack() as stack:
        files = {}
        for role, words in settings.items():
            mount, image = f"{directory}/{role}.mount", f"{directory}/{role}.img"
            sparse(image, size, size if role == "source" else 0)
            stack.callback(os.unlink, image)
            os.mkdir(mount)
            stack.callback(os.rmdir, mount)
            files[role] = f"{mount}/disk"
            stack.enter_context(server(
                ["nbdfuse", files[role], "--command", "nbdkit", "-s", "--filter=delay", "--filter=rate", "file",
                 image, *words.split()], lambda path=files[role]: os.path.exists(path)))
        yield files


def median_write(tap):
    return fio(tap, SECONDS, "64m", depth=1)["clat_ns"]["percentile"]["50.000000"] / 1e6


def bench_standin(directory):
    if not (os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("nbdfuse")):
        return print("\n(stand-in on slow disks: needs nbdfuse and /dev/fuse)")
    print("\nmedian write of 4 KiB at depth 1, in ms, with disks whose writes take 1 and 3 ms")
    print(f"  {'':28}{'source':>9}{'far disk':>9}{'round trip':>12}{'stand-in':>10}   to the slower")
    for here, there in ((1, 3), (3, 1)):
        found = []
        for _ in range(RUNS):
            alone = {}
            with slow_disks(directory, {"source": f"wdelay={here}ms", "destination": f"wdelay={there}ms"}) as files:
                def link(path, role):
                    os.symlink(files[role], path)

                with tapped(directory, link, 64 * MIB) as (source, _, tap, paths):
                    alone["source"] = median_write(tap)
                    seen = swing(source, "standIn")
                    both = median_write(tap)
                    trip = 1000 * source.observe()["connectionProof"]["roundTripSeconds"]
                    swing(source, "tracking")
                for path in paths.values():
                    os.unlink(path)
            # What the far disk costs where it is the only one.
            with slow_disks(directory, dict.fromkeys(("source", "destination"), f"wdelay={there}ms")) as files:
                with tapped(directory, link, 64 * MIB) as (source, _, tap, paths):
                    alone["destination"] = median_write(tap)
                for path in paths.values():
                    os.unlink(path)
            slower = max(alone["source"], trip + alone["destination"])
            found.append((alone["source"], alone["destination"], trip, both, both / slower))
        local, far, trip, both, ratio = (statistics.median(run[index] for run in found) for index in range(5))
        print(f"  {f'{here} ms here, {there} ms there':28}{local:9.2f}{far:9.2f}{trip:12.2f}{both:10.2f}{ratio:16.2f}")


def bench_beside(directory):
    if not (os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("nbdfuse")):
        return print("\n(p99 next to a copy on a limited disk: needs nbdfuse and /dev/fuse)")
    size, found, rates = 2 << 30, [], []

    def p99(tap):
        job = fio_command(tap, 2 * SECONDS, size, depth=4, more=["--rw=randrw", "--rate_iops=150,150"])
        done = subprocess.run(job, capture_output=True, text=True, cwd="/tmp", timeout=LIMIT_SECONDS)
        if done.returncode != 0:
            sys.exit(f"bench: fio: {done.stderr.strip() or done.stdout[-400:]}")
        return [job_part(done.stdout, kind)["clat_ns"]["percentile"]["99.000000"] / 1e6 for kind in ("read", "write")]

    disk = "rdelay=1ms wdelay=1ms rate=800M"
    with slow_disks(directory, {"source": disk, "destination": disk}, size) as files, \
            pair(AGENT, directory) as (source, destination):
        for role, agent in (("source", source), ("destination", destination)):
            os.symlink(files[role], f"{agent.root}/disk")
        configure(source, destination, [("v", "disk", size)], limits={"share": 0.25})
        source.command("proveConnection")
        source.command("openTap")
        tap = source.wait("a tap", lambda s: s["volumes"][0].get("tapSocket"))["volumes"][0]["tapSocket"]
        p99(tap)
        for _ in range(RUNS):
            alone = p99(tap)
            source.command("synchronize")
            # It measures the disk first.
            before = source.wait("some data", lambda s: s["volumes"][0]["wireBytes"] > 0, LIMIT_SECONDS)
            time.sleep(2)
            begin = time.monotonic()
            beside = p99(tap)
            seen = source.observe()
            if seen["stage"] != "synchronizing":
                sys.exit("bench: all was copied before the end of fio")
            rates.append((seen["volumes"][0]["wireBytes"] - before["volumes"][0]["wireBytes"]) /
                         (time.monotonic() - begin + 2))
            source.command("stopSynchronizing")
            source.wait("the end of copying", lambda s: s["stage"] == "prepared", LIMIT_SECONDS)
            found.append([with_it / without for with_it, without in zip(beside, alone)] + alone + beside)
    read, write, *times = (statistics.median(run[index] for run in found) for index in range(6))
    print(f"\np99 of 150 reads and 150 writes a second of 4 KiB on a disk of 100 MB/s and 1 ms, next to `minimum` "
          f"({statistics.median(rates) / 1e6:.1f} MB/s)")
    print(f"  reads  {times[2]:6.2f} ms, {times[0]:6.2f} ms with nothing copied: {read:.2f} times (bar: 1.1)")
    print(f"  writes {times[3]:6.2f} ms, {times[1]:6.2f} ms with nothing copied: {write:.2f} times (bar: 1.1)")


def record_milliseconds(directory):
    """What making one small record durable takes there."""
    path, times = f"{directory}/record", []
    for _ in range(50):
        begin = time.monotonic()
        with open(f"{path}.new", "wb") as f:
            f.write(bytes(4096))
            f.flush()
            os.fsync(f.fileno())
        os.rename(f"{path}.new", path)
        parent = os.open(directory, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)
        times.append(time.monotonic() - begin)
    os.unlink(path)
    return 1000 * statistics.median(times)


def bench_flush(directory):
    size, unix = 100 << 30, f"{directory}/k.sock"
    state = tempfile.mkdtemp(prefix="cmcb.", dir=os.environ.get("TMPDIR", "/var/tmp"))
    other = f"{directory}/other"
    ratios, plain, cost = [], [], record_milliseconds(state)
    try:
        for _ in range(RUNS):
            sparse(other, size)
            with tapped(directory, lambda path, role: sparse(path, size), size, state=state) as (_, _, tap, _), \
                    server(["nbdkit", "-f", "-U", unix, "file", other], lambda: os.path.exists(unix)):
                # Once into every extent of 4 MiB: each costs a record, the first time.
                warm = ["--rw=write:4092k", "--number_ios=25600", "--time_based=0"]
                for path in (tap, unix):
                    fio(path, LIMIT_SECONDS, "100g", more=warm)
                ours, theirs = (fio(path, SECONDS, "100g")["iops"] for path in (tap, unix))
            ratios.append(ours / theirs)
            plain.append(ours)
            for path in (other, unix, f"{directory}/source.disk", f"{directory}/destination.disk"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
    finally:
        shutil.rmtree(state, ignore_errors=True)
    print(f"\nrandom writes of 4 KiB at depth 32 over 100 GiB, warmed up, where the agent's record takes {cost:.1f} ms: "
          f"{statistics.median(plain):.0f} a second, {statistics.median(ratios):.2f} of nbdkit's")


PARTS = {"beside": bench_beside, "stall": bench_stall, "swings": bench_swings, "standin": bench_standin, "flush": bench_flush}


def main():
    parts = sys.argv[1:] or list(PARTS)
    if not set(parts) <= set(PARTS):
        sys.exit(f"bench-swing: the parts are {' '.join(PARTS)}")
    if not os.access(AGENT, os.X_OK):
        sys.exit("bench-swing: .build-product/cmcagent is missing: run make build")
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    directory = tempfile.mkdtemp(prefix="cmcb.", dir=base)
    try:
        for part in parts:
            PARTS[part](directory)
    except AgentError as error:
        sys.exit(f"bench-swing: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
