#!/usr/bin/env python3
"""Reading and validating a large plan, beside PyYAML's C loader only loading the same file: `make bench`.

The plan has 100,000 volumes in 10,000 migrations, some 40 MB. Whole processes are measured, start to end, interleaved;
each figure is the median of BENCH_RUNS (3). BENCH_MIGRATIONS (10000) makes it smaller. Exits 1 where a bar of this
project is missed: 3 times as fast, and, on a quiet machine, 5 s and 1.5 GiB.
"""
import os, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
CMCPLAN = os.path.join(HERE, "../../.build-product/cmcplan")
MIGRATIONS = int(os.environ.get("BENCH_MIGRATIONS", "10000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
LIMIT_SECONDS = 600
LEAST_RATIO, MOST_SECONDS, MOST_MIB = 3.0, 5.0, 1536
PYYAML = "import sys, yaml; yaml.load(open(sys.argv[1], 'rb'), yaml.CSafeLoader)"

HEAD = """apiVersion: cmcplan/v1
kind: MigrationPlan
metadata: {id: 6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11, name: estate}
integrations:
  corp:
    azure:
      tenantId: 11111111-1111-1111-1111-111111111111
      subscriptionId: 22222222-2222-2222-2222-222222222222
      resourceGroup: erp
      location: westeurope
attestations: {operatingSystemLicensed: true, applicationLicensed: true}
hosts:
"""
HOSTS = """  source-{0}: {{address: host{0}.example.com, ssh: {{user: migrate, sudo: true}}}}
  target-{0}: {{address: host{0}.example.net, azureVirtualMachine: vm-{0}}}
"""
MIGRATION = "  app-{0}:\n    source: source-{0}\n    destination: target-{0}\n    volumes:\n"
VOLUME = """      data-{1}:
        # Volume group {0}, one of ten that belong to the same application and swing together.
        device: /dev/disk/by-id/wwn-0x5000c500{0}a{1}
        tracking: auto
        disk:
          sku: PremiumV2_LRS
          size: 512 GiB
          zone: "1"
          iops: 8000
          throughput: 400 MB/s
          tags:
            application: app-{0}
            tier: "data volume {1}"
"""
TAIL = "    iqos: {level: moderate, networkLimit: 400 Mbit/s}\n    cutover:\n      phase: synchronized\n"


def write_plan(path):
    with open(path, "w") as f:
        f.write(HEAD)
        for index in range(MIGRATIONS):
            f.write(HOSTS.format(index))
        f.write("migrations:\n")
        for index in range(MIGRATIONS):
            f.write(MIGRATION.format(index))
            for volume in range(10):
                f.write(VOLUME.format(index, volume))
            f.write(TAIL)
    return os.path.getsize(path)


def measure(command):
    """Seconds, seconds of CPU, largest resident MiB."""
    start = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    # What goes wrong is short; a pipe holds it.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.time() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or seconds > LIMIT_SECONDS:
        sys.exit(f"bench: {command[0]} exits {process.returncode} after {seconds:.0f} s: {process.stderr.read(2000).decode()}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    if not os.access(CMCPLAN, os.X_OK):
        sys.exit("bench: .build-product/cmcplan is missing: run make build")
    with tempfile.TemporaryDirectory(prefix="cmcb.") as directory:
        path = os.path.join(directory, "plan.yaml")
        size = write_plan(path)
        commands = {"cmcplan validate": [CMCPLAN, "validate", "-f", path],
                    "PyYAML C loader": ["/usr/bin/python3", "-c", PYYAML, path]}
        found = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                found[name].append(measure(command))
    print(f"\nreading a plan of {MIGRATIONS * 10} volumes in {MIGRATIONS} migrations, {size / 1e6:.0f} MB, median of {RUNS}")
    print(f"  {'':18}{'seconds':>9}{'CPU-s':>9}{'MiB':>8}")
    medians = {}
    for name, runs in found.items():
        medians[name] = [statistics.median(values) for values in zip(*runs)]
        print(f"  {name:18}{medians[name][0]:9.2f}{medians[name][1]:9.2f}{medians[name][2]:8.0f}")
    ours, theirs = medians.values()
    ratio = theirs[1] / ours[1]
    print(f"  reading and validating is {ratio:.1f} times as fast as their loading (by CPU; {theirs[0] / ours[0]:.1f} by the clock)")
    missed = []
    if ratio < LEAST_RATIO:
        missed.append(f"{ratio:.1f} times is less than {LEAST_RATIO:.0f}")
    if ours[2] > MOST_MIB:
        missed.append(f"{ours[2]:.0f} MiB are more than {MOST_MIB}")
    if ours[1] > MOST_SECONDS:
        missed.append(f"{ours[1]:.1f} s of CPU are more than {MOST_SECONDS:.0f}")
    for miss in missed:
        print(f"  missed: {miss}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
