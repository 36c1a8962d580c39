#!/usr/bin/env python3
"""Speed beside named peers, in one run, as ratios: `make bench`, or `bench.py PART…` of: copy sparse resync verify resources tap
iqos fair.

Two agents copy a volume of incompressible data over TLS on loopback, next to nbdcopy between two nbdkit servers over TLS and
to a bare loop that only pushes as many bytes through OpenSSL; then the other parts of replication, and fio through the tap,
tracking on, next to nbdkit's and qemu-nbd's file servers. Everything is on tmpfs, each figure the median of RUNS interleaved
runs. Only ratios of one run mean something: machines differ, and are shared.

Sizes by environment: BENCH_MIB (of the copied volume, 1024), BENCH_RUNS (3), BENCH_SECONDS (of each fio job, 4).
"""
import contextlib, json, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../EndToEndTests/scripts"))
from agentpair import AgentError, configure, cpu_seconds, free_port, pair

AGENT = os.environ.get("BENCH_AGENT", os.path.join(HERE, "../../.build-product/cmcagent"))
MIB = int(os.environ.get("BENCH_MIB", "1024"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "4"))
LIMIT_SECONDS = 300
# Of the limited link, in bits a second, and sessions that share a pair.
LINK_BITS = int(os.environ.get("BENCH_LINK_BITS", "400000000"))
SESSIONS = 64
FAIR_MIB = int(os.environ.get("BENCH_FAIR_MIB", "48"))


def blank(path, size):
    """Reads as zeroes, and has its memory already: what a page's first touch costs says nothing about copying, and in a
    virtual machine it is most of a copy."""
    zeroes = bytes(1 << 20)
    with open(path, "wb") as f:
        for _ in range(size >> 20):
            f.write(zeroes)


def holes(path, size):
    with open(path, "wb") as f:
        f.truncate(size)


@contextlib.contextmanager
def agents(directory, source_file, size, empty=blank):
    """A configured pair, the connection proven, the tap open; nothing copied yet."""
    with pair(AGENT, directory) as (source, destination):
        os.link(source_file, f"{directory}/s/disk")
        empty(f"{directory}/d/disk", size)
        configure(source, destination, [("v", "disk", size)])
        source.command("proveConnection")
        source.command("openTap")
        yield source, destination


def synchronize(source):
    source.command("synchronize")
    return source.wait("the end of synchronization", lambda s: s["stage"] == "tracking", LIMIT_SECONDS)


def copy_ours(directory, source_file, size, empty=blank):
    with agents(directory, source_file, size, empty) as (source, destination):
        pids = (source.process.pid, destination.process.pid)
        before = sum(map(cpu_seconds, pids))
        start = time.time()
        synchronize(source)
        return time.time() - start, sum(map(cpu_seconds, pids)) - before


def certificates(directory):
    def run(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj",
        "/CN=bench", "-days", "2")
    for name in ("server", "client"):
        with open(f"{directory}/{name}.ext", "w") as f:
            f.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj",
            "/CN=localhost")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-out", f"{name}-cert.pem", "-days", "2", "-extfile", f"{name}.ext")


@contextlib.contextmanager
def server(arguments, ready):
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.time() + 20
        while not ready():
            if time.time() > until or process.poll() is not None:
                sys.exit(f"bench: {arguments[0]} did not start")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def copy_nbdcopy(directory, source_file, size, connections, empty=blank, options=()):
    target, unix, port = f"{directory}/target", f"{directory}/n.sock", free_port()
    empty(target, size)
    tls = f"{directory}/tls"
    try:
        with server(["nbdkit", "-f", "-U", unix, "-r", "file", source_file], lambda: os.path.exists(unix)) as reader, \
                server(["nbdkit", "-f", "-p", str(port), "-i", "127.0.0.1", "--tls=require",
                        f"--tls-certificates={tls}", "file", target], lambda: listens(port)) as writer:
            pids = (reader.pid, writer.pid)
            before = sum(map(cpu_seconds, pids)) + sum(os.times()[2:4])
            start = time.time()
            subprocess.run(["nbdcopy", *options, "--flush", "-C", str(connections), f"nbd+unix:///?socket={unix}",
                            f"nbds://localhost:{port}/?tls-certificates={tls}"], check=True, timeout=LIMIT_SECONDS)
            seconds = time.time() - start
            return seconds, sum(map(cpu_seconds, pids)) + sum(os.times()[2:4]) - before
    finally:
        for name in (target, unix):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def fio(socket_path, depth, block, pattern):
    result = subprocess.run(
        ["fio", "--name=b", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={socket_path}", f"--rw={pattern}",
         f"--bs={block}", f"--iodepth={depth}", "--time_based", f"--runtime={SECONDS}", "--size=100%",
         "--output-format=json", "--verify_state_save=0"], capture_output=True, text=True, cwd="/tmp",
        timeout=LIMIT_SECONDS)
    if result.returncode != 0:
        sys.exit(f"bench: fio: {result.stderr.strip() or result.stdout[-400:]}")
    write = json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]["write"]
    return write["iops"], write["clat_ns"]["percentile"]["99.000000"] / 1000


def build_push(directory):
    """The bare loop; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        print("  (no C compiler: the bare TLS loop is left out)")
        return None
    program = f"{directory}/tlspush"
    subprocess.run([compiler, "-O2", f"{HERE}/tlspush.c", "-o", program, "-lssl", "-lcrypto", "-lpthread"], check=True)
    return program


def push(program, size):
    seconds, cpu = subprocess.run([program, str(size)], check=True, capture_output=True, text=True,
                                  timeout=LIMIT_SECONDS).stdout.split()
    return float(seconds), float(cpu)


def table(title, runs, gib):
    print(f"\n{title}, median of {RUNS}")
    print(f"  {'':14}{'GiB/s':>8}{'CPU-s/GiB':>12}")
    rate, cost = {}, {}
    for name, found in runs.items():
        rate[name] = gib / statistics.median(seconds for seconds, _ in found)
        cost[name] = statistics.median(cpu for _, cpu in found) / gib
        print(f"  {name:14}{rate[name]:8.2f}{cost[name]:12.2f}")
    return rate, cost


def bench_copy(directory, source_file, size):
    runs = {"cmcagent": [], "nbdcopy 1": [], "nbdcopy 2": [], "nbdcopy 4": []}
    program = build_push(directory)
    if program:
        runs["TLS alone"] = []
    for _ in range(RUNS):
        runs["cmcagent"].append(copy_ours(directory, source_file, size))
        for connections in (1, 2, 4):
            runs[f"nbdcopy {connections}"].append(copy_nbdcopy(directory, source_file, size, connections))
        if program:
            runs["TLS alone"].append(push(program, size))
    rate, cost = table(f"full copy of {size >> 20} MiB over TLS, loopback, tmpfs", runs, size / 2**30)
    best = max((name for name in runs if name.startswith("nbdcopy")), key=rate.get)
    print(f"  cmcagent : {best}   speed {rate['cmcagent'] / rate[best]:.2f}, CPU {cost['cmcagent'] / cost[best]:.2f}")
    if program:
        print(f"  cmcagent : TLS alone   speed {rate['cmcagent'] / rate['TLS alone']:.2f}")


def bench_sparse(directory, source_file, size):
    """Eight times as large as its data, which lies in eight places."""
    sparse, whole = f"{directory}/sparse", size * 8
    with open(sparse, "wb") as f, open(source_file, "rb") as data:
        f.truncate(whole)
        for place in range(8):
            f.seek(place * size)
            for _ in range(size >> 23):
                f.write(data.read(1 << 20))
    runs = {"cmcagent": [], "nbdcopy 2": [], "nbdcopy 4": []}
    for _ in range(RUNS):
        runs["cmcagent"].append(copy_ours(directory, sparse, whole, holes))
        for connections in (2, 4):
            runs[f"nbdcopy {connections}"].append(
                copy_nbdcopy(directory, sparse, whole, connections, holes, ["--destination-is-zero"]))
    os.unlink(sparse)
    rate, _ = table(f"sparse volume of {whole >> 20} MiB, {size >> 20} MiB of it data, over TLS", runs, whole / 2**30)
    best = max((name for name in runs if name.startswith("nbdcopy")), key=rate.get)
    print(f"  cmcagent : {best} --destination-is-zero   speed {rate['cmcagent'] / rate[best]:.2f}")


def bench_resync(directory, source_file, size):
    """One percent of an eight times larger, empty volume in random writes of 4 KiB: what crosses the wire, and how long."""
    sparse, whole = f"{directory}/sparse", size * 8
    holes(sparse, whole)
    with agents(directory, sparse, whole, holes) as (source, destination):
        tap = synchronize(source)["volumes"][0]["tapSocket"]
        print(f"\nresync of a volume of {whole >> 20} MiB after random writes of 4 KiB")
        for percent in (0.1, 1.0):
            written = int(whole * percent / 100) >> 12 << 12
            before = source.observe()["volumes"][0]
            fio_write(tap, whole, written)
            pids = (source.process.pid, destination.process.pid)
            cpu, start = sum(map(cpu_seconds, pids)), time.time()
            source.command("resync")
            after = source.wait("the end of the resync", lambda s: s["volumes"][0]["dirtyBytes"] == 0, 60)["volumes"][0]
            seconds, cpu = time.time() - start, sum(map(cpu_seconds, pids)) - cpu
            wire = after["wireBytes"] - before["wireBytes"]
            print(f"  {percent} %: {written >> 10} KiB written, {wire >> 10} KiB on the wire ({wire / written:.2f} times), "
                  f"{seconds:.2f} s, {cpu:.2f} CPU-s")
    os.unlink(sparse)


def fio_write(tap, size, count):
    subprocess.run(
        ["fio", "--name=w", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={tap}", "--rw=randwrite", "--bs=4k",
         "--iodepth=16", f"--size={size}", f"--io_size={count}", "--verify_state_save=0", "--randrepeat=0"],
        check=True, capture_output=True, cwd="/tmp", timeout=LIMIT_SECONDS)


def bench_verify(directory, source_file, size):
    """Both copies read and digested at once, next to what one core makes of SHA-256."""
    gib = size / 2**30
    with agents(directory, source_file, size) as (source, destination):
        synchronize(source)
        done = lambda s: s["volumes"][0].get("verifiedBytes") == size
        source.wait("the first comparison", done, LIMIT_SECONDS)
        found, alone = [], []
        for _ in range(RUNS):
            pids = (source.process.pid, destination.process.pid)
            cpu, start = sum(map(cpu_seconds, pids)), time.time()
            source.command("verify")
            source.wait("the comparison", done, LIMIT_SECONDS)
            found.append((time.time() - start, sum(map(cpu_seconds, pids)) - cpu))
            start, before = time.time(), sum(os.times()[2:4])
            subprocess.run(["openssl", "dgst", "-sha256", source_file], check=True, capture_output=True)
            alone.append((time.time() - start, sum(os.times()[2:4]) - before))
    rate, cost = table(f"comparison of two copies of {size >> 20} MiB (each byte read twice)",
                       {"cmcagent": found, "openssl dgst": alone}, gib)
    print(f"  CPU per GiB and side : openssl dgst   {cost['cmcagent'] / 2 / cost['openssl dgst']:.2f}")


def run_seconds(pid):
    """Finer than clock ticks: what the scheduler counted."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def memory_mib(process):
    with open(f"/proc/{process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024


def bench_resources(directory, source_file, size):
    """Four empty volumes of 1 TiB, synchronizing and then idle."""
    volumes = [(f"v{n}", f"disk{n}", 1 << 40) for n in range(4)]
    with pair(AGENT, directory) as (source, destination):
        for agent in (source, destination):
            for _, name, length in volumes:
                holes(f"{agent.root}/{name}", length)
        ready = max(source.ready_seconds, destination.ready_seconds)
        configure(source, destination, volumes)
        source.command("openTap")
        start = time.time()
        synchronize(source)
        seconds = time.time() - start
        memory = max(memory_mib(source.process), memory_mib(destination.process))
        # Comparing ahead of a proof is work; idle is what is left without it.
        configure(source, destination, volumes, verify="none", port=source.observe()["configuration"]["link"]["port"])
        time.sleep(2)
        before, start = [run_seconds(a.process.pid) for a in (source, destination)], time.time()
        time.sleep(max(SECONDS, 4))
        idle = max((run_seconds(a.process.pid) - b) / (time.time() - start)
                   for a, b in zip((source, destination), before))
        print(f"\nan agent with 4 empty volumes of 1 TiB: synchronized in {seconds:.1f} s, at most {memory:.0f} MiB of memory, "
              f"idle at {100 * idle:.2f} % of a core; start to first answer {1000 * ready:.0f} ms")


def bench_tap(directory, source_file, size):
    jobs = [("4 KiB random write, depth 1", 1, "4k", "randwrite"), ("4 KiB random write, depth 32", 32, "4k", "randwrite"),
            ("1 MiB write, depth 8", 8, "1m", "write")]
    other, kit, qemu = f"{directory}/other", f"{directory}/k.sock", f"{directory}/q.sock"
    shutil.copyfile(source_file, other)
    with agents(directory, source_file, size) as (source, _), \
            server(["nbdkit", "-f", "-U", kit, "file", other], lambda: os.path.exists(kit)), \
            server(["qemu-nbd", "-f", "raw", "-k", qemu, "-t", "-e", "4", other], lambda: os.path.exists(qemu)):
        ours = synchronize(source)["volumes"][0]["tapSocket"]
        print(f"\nfio through NBD on a Unix socket, tracking on, median of {RUNS}")
        print(f"  {'':30}{'cmcagent':>10}{'nbdkit':>10}{'qemu-nbd':>10}   ours : nbdkit   p99 : nbdkit")
        for title, depth, block, pattern in jobs:
            found = {"ours": [], "kit": [], "qemu": []}
            for _ in range(RUNS):
                for name, path in (("ours", ours), ("kit", kit), ("qemu", qemu)):
                    found[name].append(fio(path, depth, block, pattern))
            iops = {name: statistics.median(i for i, _ in values) for name, values in found.items()}
            p99 = {name: statistics.median(p for _, p in values) for name, values in found.items()}
            print(f"  {title:30}{iops['ours']:10.0f}{iops['kit']:10.0f}{iops['qemu']:10.0f}"
                  f"{iops['ours'] / iops['kit']:16.2f}{p99['ours'] / p99['kit']:15.2f}")


@contextlib.contextmanager
def slow_link():
    """A network name space whose loopback lets through LINK_BITS a second."""
    name = f"cmcb-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = ["ip", "netns", "exec", name]
        # Larger packets than a wire's would be more than the bucket holds.
        subprocess.run([*inside, "ip", "link", "set", "lo", "up", "mtu", "1500"], check=True)
        subprocess.run([*inside, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", str(LINK_BITS), "burst", "256k",
                        "latency", "50ms"], check=True)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def bench_iqos(directory, source_file, size):
    """What each level takes of a link that is limited, and by how much any five seconds are off."""
    if os.geteuid() != 0 or shutil.which("tc") is None:
        return print("\n(iQoS on a limited link: needs root and tc)")
    with slow_link() as inside:
        subprocess.run([*inside, sys.executable, os.path.abspath(__file__), "iqos-inside"], check=True)


def bench_iqos_inside(directory, source_file, size):
    window, measured, every = 5.0, 12.0, 0.1
    print(f"\niQoS on a link of {LINK_BITS // 10**6} Mbit/s, {measured:.0f} s each")
    print(f"  {'':12}{'MB/s':>8}{'of relentless':>16}{'worst 5 s':>12}")
    full = None
    for name, share in (("relentless", None), ("aggressive", 0.75), ("moderate", 0.5), ("minimum", 0.25)):
        with agents(directory, source_file, size) as (source, _):
            limits = {} if share is None else {"share": share}
            configure_limits(source, limits)
            source.command("synchronize")
            source.wait("some data", lambda s: s["volumes"][0]["wireBytes"] > 0, LIMIT_SECONDS)
            time.sleep(1)
            samples, start = [], time.monotonic()
            while time.monotonic() < start + measured:
                samples.append((time.monotonic(), source.observe()["volumes"][0]["wireBytes"]))
                time.sleep(every)
        rate = (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0])
        full = full or rate
        wanted = full * (share or 1)
        worst = 0
        for at, total in samples:
            last = next(((t, b) for t, b in samples if t >= at + window), None)
            if last:
                worst = max(worst, abs((last[1] - total) / (last[0] - at) / wanted - 1))
        print(f"  {name:12}{rate / 1e6:8.1f}{100 * rate / full:14.1f} %{100 * worst:10.1f} %")


def configure_limits(source, limits):
    configuration = dict(source.observe()["configuration"], limits=limits)
    source.call("configureSession", fencingNumber=1, configuration=configuration)


def bench_fair(directory, source_file, size):
    """Sessions that share one pair of agents: Jain's index of what each got from when all had begun until the first was done."""
    piece = max(FAIR_MIB, MIB // SESSIONS) << 20
    with pair(AGENT, directory) as (source, destination):
        names = [f"pair/m{n}" for n in range(SESSIONS)]
        for number, name in enumerate(names):
            with open(f"{directory}/s/disk{number}", "wb") as f, open(source_file, "rb") as data:
                f.write(data.read(piece))
            holes(f"{directory}/d/disk{number}", piece)
            configure(source, destination, [("v", f"disk{number}", piece)], session=name,
                      linkLossTimeoutSeconds=LIMIT_SECONDS)
            source.wait("a connection", lambda s: s["connected"], session=name)

        def sent():
            return [s["volumes"][0]["wireBytes"] for s in source.call("observe")["sessions"]]

        # Telling so many to begin takes longer than a volume: none gets further than what is on its way while the other end
        # stands still.
        os.kill(destination.process.pid, signal.SIGSTOP)
        try:
            for name in names:
                source.command("synchronize", session=name)
        finally:
            os.kill(destination.process.pid, signal.SIGCONT)
        before = now = sent()
        until = time.time() + LIMIT_SECONDS
        while max(now) < piece * 0.9 and time.time() < until:
            time.sleep(0.02)
            now = sent()
    got = [later - earlier for later, earlier in zip(now, before)]
    jain = sum(got) ** 2 / (SESSIONS * sum(g * g for g in got))
    print(f"\n{SESSIONS} sessions of {piece >> 20} MiB on one pair, while all run: Jain's index {jain:.3f}, "
          f"the least has {min(got) / (sum(got) / SESSIONS):.2f} of the mean")


PARTS = {"copy": bench_copy, "sparse": bench_sparse, "resync": bench_resync, "verify": bench_verify,
         "resources": bench_resources, "tap": bench_tap, "iqos": bench_iqos, "fair": bench_fair}
HIDDEN = {"iqos-inside": bench_iqos_inside}


def main():
    parts = sys.argv[1:] or list(PARTS)
    if not set(parts) <= set(PARTS | HIDDEN):
        sys.exit(f"bench: the parts are {' '.join(PARTS)}")
    if not os.access(AGENT, os.X_OK):
        sys.exit("bench: .build-product/cmcagent is missing: run make build")
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    directory = tempfile.mkdtemp(prefix="cmcb.", dir=base)
    try:
        size = MIB << 20
        source_file = f"{directory}/source"
        with open(source_file, "wb") as f:
            for _ in range(MIB):
                f.write(os.urandom(1 << 20))
        os.mkdir(f"{directory}/tls")
        certificates(f"{directory}/tls")
        for part in parts:
            (PARTS | HIDDEN)[part](directory, source_file, size)
    except AgentError as error:
        sys.exit(f"bench: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
