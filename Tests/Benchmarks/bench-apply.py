#!/usr/bin/env python3
"""Applying where nothing is to be done: `make bench`.

BENCH_MIGRATIONS (1000) live migrations between BENCH_AGENTS (20) agents of this machine are brought to `synchronized`, for
real; then `cmcplan apply`, a process from start to end, looks at all of them and finds that nothing is to be done. The
median of BENCH_RUNS (3). Without root, also where root runs it: a thousand loop devices are not the point. Exits 1 where this project's bar is missed: 30 s for a thousand.
"""
import os, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PRODUCT = os.environ.get('BENCH_PRODUCT', os.path.join(HERE, '../../.build-product'))
CMCPLAN, CMCAGENT = (os.path.join(PRODUCT, name) for name in ("cmcplan", "cmcagent"))
MIGRATIONS = int(os.environ.get("BENCH_MIGRATIONS", "1000"))
AGENTS = int(os.environ.get("BENCH_AGENTS", "20"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
VOLUME_BYTES = 4 << 20
FIRST_PORT = 20000
LIMIT_SECONDS = 1800
MOST_SECONDS = 30.0
NOBODY = 65534 if os.getuid() == 0 else None
HEAD = """apiVersion: cmcplan/v1
kind: MigrationPlan
metadata: {id: 0d1f7c55-2a7b-4c3e-9a51-6b7f3b6f1a10, name: thousand}
attestations: {operatingSystemLicensed: true, applicationLicensed: true}
"""


def write_plan(directory):
    """Half of the hosts are sources, half destinations; each migration has a volume of its own, a file on both."""
    pairs = AGENTS // 2
    hosts, migrations = ["hosts:\n"], ["migrations:\n"]
    for number in range(pairs):
        for role in ("s", "d"):
            name = f"{role}{number:02}"
            os.makedirs(f"{directory}/{name}/devices")
            hosts.append(f"  {name}: {{address: 127.0.0.1, local: {{root: ./{name}}}}}\n")
    for number in range(MIGRATIONS):
        name, source, destination = f"m{number:04}", f"s{number % pairs:02}", f"d{number % pairs:02}"
        for host, size in ((source, VOLUME_BYTES), (destination, VOLUME_BYTES + (2 << 20))):
            with open(f"{directory}/{host}/devices/{name}", "wb") as f:
                f.truncate(size)
        migrations.append(
            f"  {name}:\n    source: {source}\n    destination: {destination}\n"
            f"    connection: {{listener: destination, port: {FIRST_PORT + number}}}\n"
            f"    volumes:\n      data: {{device: devices/{name}, destination: {{device: devices/{name}}}}}\n"
            f"    cutover: {{phase: synchronized, approval: automatic}}\n")
    with open(f"{directory}/plan.yaml", "w") as f:
        f.writelines([HEAD, *hosts, *migrations])
    if NOBODY is not None:
        for folder, _, files in os.walk(directory):
            for path in [folder] + [os.path.join(folder, name) for name in files]:
                os.chown(path, NOBODY, NOBODY)


def apply(directory, *options):
    """Seconds, and what it said."""
    environment = {"PATH": os.environ["PATH"], "HOME": directory, "LC_ALL": "C.UTF-8", "TMPDIR": directory,
                   "CMCPLAN_AGENT": os.path.realpath(CMCAGENT)}
    start = time.monotonic()
    with open(f"{directory}/said", "w+b") as said:
        code = subprocess.run([CMCPLAN, "apply", "-f", "plan.yaml", "--auto-approve", *options], cwd=directory,
                              env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
                              user=NOBODY, group=NOBODY, timeout=LIMIT_SECONDS).returncode
        seconds = time.monotonic() - start
        said.seek(0)
        text = said.read().decode(errors="replace")
    if code != 0:
        sys.exit(f"bench: apply exits {code}: {text[-3000:]}")
    return seconds, text


def running(directory):
    """Our agents, by where their binary lies."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/exe").startswith(directory + "/"):
                found.append(int(name))
        except OSError:
            pass
    return found


def main():
    for program in (CMCPLAN, CMCAGENT):
        if not os.access(program, os.X_OK):
            sys.exit(f"bench: {program} is missing: run make build")
    directory = os.path.realpath(tempfile.mkdtemp(prefix="cmcb."))
    try:
        write_plan(directory)
        first, _ = apply(directory, "--wait", "20m", "--parallelism", "64")
        seconds = []
        for _ in range(RUNS):
            took, text = apply(directory)
            if "no changes" not in text.lower():
                sys.exit(f"bench: a second apply finds something to do: {text[-2000:]}")
            seconds.append(took)
        processes = len(running(directory))
    finally:
        for process in running(directory):
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
    median = statistics.median(seconds)
    print(f"\n{MIGRATIONS} migrations on {AGENTS} agents ({processes} processes): from nothing to synchronized {first:.1f} s; "
          f"apply with nothing to do {median:.1f} s ({', '.join(f'{s:.1f}' for s in seconds)})")
    if median > MOST_SECONDS * MIGRATIONS / 1000:
        print(f"  missed: {median:.1f} s is more than {MOST_SECONDS * MIGRATIONS / 1000:.0f}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
