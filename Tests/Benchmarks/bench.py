#!/usr/bin/env python3
"""Speed beside named peers, in one run, as ratios: `make bench`.

Two agents copy a volume of incompressible data over TLS on loopback, next to nbdcopy between two nbdkit servers over TLS;
then fio writes through the tap, tracking on, next to nbdkit's and qemu-nbd's file servers. Everything is on tmpfs, each
figure the median of RUNS interleaved runs. Only ratios of one run mean something: machines differ, and are shared.

Sizes by environment: BENCH_MIB (of the copied volume, 1024), BENCH_RUNS (3), BENCH_SECONDS (of each fio job, 4).
"""
import contextlib, json, os, shutil, socket, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
AGENT = os.environ.get("BENCH_AGENT", os.path.join(HERE, "../../.build-product/cmcagent"))
MIB = int(os.environ.get("BENCH_MIB", "1024"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "4"))
LIMIT_SECONDS = 300


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def blank(path, size):
    """Reads as zeroes, and has its memory already: what a page's first touch costs says nothing about copying, and in a
    virtual machine it is most of a copy."""
    zeroes = bytes(1 << 20)
    with open(path, "wb") as f:
        for _ in range(size >> 20):
            f.write(zeroes)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Agent:
    """An agent in a directory of its own, spoken to over its own bridge."""

    def __init__(self, root):
        self.root = root
        os.makedirs(root)
        self.process = subprocess.Popen([AGENT, "run", "--root", root, "--foreground"], stderr=subprocess.DEVNULL)
        until = time.time() + 20
        while not os.path.exists(f"{root}/agent.sock"):
            if time.time() > until:
                sys.exit(f"bench: the agent in {root} did not start")
            time.sleep(0.02)
        self.bridge = subprocess.Popen(
            [AGENT, "rpc", "--root", root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.number = 0
        self.fingerprint = self.call("hello", oldestVersion=1, newestVersion=1)["fingerprint"]

    def call(self, method, **parameters):
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": parameters}
        self.bridge.stdin.write(json.dumps(message) + "\n")
        self.bridge.stdin.flush()
        answer = json.loads(self.bridge.stdout.readline())
        if "error" in answer:
            sys.exit(f"bench: {method}: {answer['error']}")
        return answer["result"]

    def command(self, command, role):
        return self.call("command", fencingNumber=1, session="bench/m", role=role, command=command)

    def stop(self):
        self.bridge.kill()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


@contextlib.contextmanager
def agents(directory, source_file, size):
    """A configured pair, the connection proven, the tap open; nothing copied yet."""
    source, destination = Agent(f"{directory}/s"), Agent(f"{directory}/d")
    try:
        os.link(source_file, f"{directory}/s/disk")
        blank(f"{directory}/d/disk", size)
        port = free_port()
        for agent, role, peer in ((destination, "destination", source), (source, "source", destination)):
            agent.call("configureSession", fencingNumber=1, configuration={
                "session": "bench/m", "plan": "bench", "migration": "m", "role": role, "configurationDigest": "d",
                "peerFingerprint": peer.fingerprint,
                "link": {"listens": role == "destination", "address": "127.0.0.1", "port": port, "lanes": 2},
                "volumes": [{"name": "v", "devicePath": "disk", "sizeBytes": size, "tracking": "tap",
                             "overwrite": False, "attachDevice": False}],
                "limits": {}, "linkLossTimeoutSeconds": 5, "resyncIntervalSeconds": 900, "verify": "full"})
        source.command("proveConnection", "source")
        source.command("openTap", "source")
        yield source, destination
    finally:
        source.stop()
        destination.stop()
        shutil.rmtree(f"{directory}/s", ignore_errors=True)
        shutil.rmtree(f"{directory}/d", ignore_errors=True)


def synchronize(source):
    source.command("synchronize", "source")
    until = time.time() + LIMIT_SECONDS
    while time.time() < until:
        session = source.call("observe")["sessions"][0]
        if session["stage"] == "tracking":
            return session
        time.sleep(0.01)
    sys.exit("bench: the synchronization did not end in time")


def copy_ours(directory, source_file, size):
    with agents(directory, source_file, size) as (source, destination):
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


def copy_nbdcopy(directory, source_file, size, connections):
    target, unix, port = f"{directory}/target", f"{directory}/n.sock", free_port()
    blank(target, size)
    tls = f"{directory}/tls"
    try:
        with server(["nbdkit", "-f", "-U", unix, "-r", "file", source_file], lambda: os.path.exists(unix)) as reader, \
                server(["nbdkit", "-f", "-p", str(port), "-i", "127.0.0.1", "--tls=require",
                        f"--tls-certificates={tls}", "file", target], lambda: listens(port)) as writer:
            pids = (reader.pid, writer.pid)
            before = sum(map(cpu_seconds, pids)) + sum(os.times()[2:4])
            start = time.time()
            subprocess.run(["nbdcopy", "--flush", "-C", str(connections), f"nbd+unix:///?socket={unix}",
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


def bench_copy(directory, source_file, size):
    runs = {"cmcagent": [], "nbdcopy 1": [], "nbdcopy 2": [], "nbdcopy 4": []}
    for _ in range(RUNS):
        runs["cmcagent"].append(copy_ours(directory, source_file, size))
        for connections in (1, 2, 4):
            runs[f"nbdcopy {connections}"].append(copy_nbdcopy(directory, source_file, size, connections))
    gib = size / 2**30
    print(f"\nfull copy of {MIB} MiB over TLS, loopback, tmpfs, median of {RUNS}")
    print(f"  {'':12}{'GiB/s':>8}{'CPU-s/GiB':>12}")
    rate, cost = {}, {}
    for name, found in runs.items():
        rate[name] = gib / statistics.median(seconds for seconds, _ in found)
        cost[name] = statistics.median(cpu for _, cpu in found) / gib
        print(f"  {name:12}{rate[name]:8.2f}{cost[name]:12.2f}")
    best = max((name for name in runs if name != "cmcagent"), key=rate.get)
    print(f"  cmcagent : {best}   speed {rate['cmcagent'] / rate[best]:.2f}, CPU {cost['cmcagent'] / cost[best]:.2f}")


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


def main():
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
        bench_copy(directory, source_file, size)
        bench_tap(directory, source_file, size)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
