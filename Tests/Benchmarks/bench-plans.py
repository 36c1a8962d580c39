#!/usr/bin/env python3
"""Reading and validating a large plan, beside PyYAML's C loader only loading the same file, and planning it against a
recorded observation, beside Terraform: `make bench`.

The plan has 100,000 volumes in 10,000 migrations, some 40 MB. Whole processes are measured, start to end, interleaved;
each figure is the median of BENCH_RUNS (3). BENCH_MIGRATIONS (10000) makes it smaller. Exits 1 where a bar of this
project is missed: reading 3 times as fast, and, on a quiet machine, 5 s and 1.5 GiB; planning 10 s and 2 GiB, at most 12
times as long for 10 times as many volumes; and 50 times as fast as Terraform with 2,000 resources, which is skipped where
`terraform` isn't on PATH.
"""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
CMCPLAN = os.path.join(HERE, "../../.build-product/cmcplan")
MIGRATIONS = int(os.environ.get("BENCH_MIGRATIONS", "10000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
LIMIT_SECONDS = 600
LEAST_RATIO, MOST_SECONDS, MOST_MIB = 3.0, 5.0, 1536
PLAN_SECONDS, PLAN_MIB, PLAN_GROWTH = 10.0, 2048, 12.0
# 154 migrations with their 308 hosts and 1,540 volumes.
TERRAFORM_MIGRATIONS, TERRAFORM_RATIO = 154, 50.0
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


def write_plan(path, migrations=MIGRATIONS):
    with open(path, "w") as f:
        f.write(HEAD)
        for index in range(migrations):
            f.write(HOSTS.format(index))
        f.write("migrations:\n")
        for index in range(migrations):
            f.write(MIGRATION.format(index))
            for volume in range(10):
                f.write(VOLUME.format(index, volume))
            f.write(TAIL)
    return os.path.getsize(path)


def measure(command, **options):
    """Seconds, seconds of CPU, largest resident MiB."""
    start = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    # What goes wrong is short; a pipe holds it.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.time() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or seconds > LIMIT_SECONDS:
        sys.exit(f"bench: {command[0]} exits {process.returncode} after {seconds:.0f} s: {process.stderr.read(2000).decode()}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


PLAN_ID = "6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11"
GROUP = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/erp/providers/Microsoft.Compute"


def write_observation(path, migrations):
    """What `cmcplan observe --out` would save: every disk there and attached, the hosts reached, no agent yet."""
    machines, disks, hosts = {}, [], {}
    for index in range(migrations):
        machine = {"resourceID": f"{GROUP}/virtualMachines/vm-{index}", "name": f"vm-{index}", "location": "westeurope",
                   "size": "Standard_E16s_v5", "zone": "1", "attachments": []}
        for volume in range(10):
            name = f"cmc-{PLAN_ID[:8]}-app-{index}-data-{volume}"
            tags = {"cmcplan-id": PLAN_ID, "cmcplan-migration": f"app-{index}", "cmcplan-volume": f"data-{volume}",
                    "cmcplan-state": "prepared"}
            disks.append({"resourceID": f"{GROUP}/disks/{name}", "name": name, "sku": "PremiumV2_LRS", "zone": "1",
                          "sizeBytes": 512 << 30, "iops": 8000, "megabytesPerSecond": 400, "state": "attached",
                          "attachedTo": machine["resourceID"], "tags": tags, "provisioningState": "Succeeded"})
            machine["attachments"].append({"lun": volume, "diskID": f"{GROUP}/disks/{name}"})
        machines[f"vm-{index}"] = machine
        for host in (f"source-{index}", f"target-{index}"):
            hosts[host] = {"state": {"agentRunning": False, "tombstones": []}, "devices": [], "resolved": {},
                           "devicePaths": {}, "faults": []}
    cloud = {"machines": machines, "disks": disks, "namedDisks": {}, "faults": []}
    with open(path, "w") as f:
        json.dump({"version": 1, "plan": PLAN_ID, "observedAt": time.time(), "clouds": {"corp": cloud},
                   "hosts": hosts}, f)


def write_terraform(directory):
    """As many resources as a plan of TERRAFORM_MIGRATIONS has hosts, migrations and volumes, with its references, and
    the state in which they are."""
    text, resources = [], []

    def add(name, value, references):
        written = ", ".join(f"{key} = {word}" for key, word in value.items())
        text.append(f'resource "terraform_data" "{name}" {{\n  input = {{ {written} }}\n}}\n')
        kept = {key: word.split(".")[1] if word.startswith("terraform_data.") else word.strip('"')
                for key, word in value.items()}
        dynamic = {"value": kept, "type": ["object", {key: "string" for key in kept}]}
        resources.append({
            "mode": "managed", "type": "terraform_data", "name": name,
            "provider": 'provider["terraform.io/builtin/terraform"]',
            "instances": [{"schema_version": 0, "sensitive_attributes": [],
                           "dependencies": [f"terraform_data.{other}" for other in references],
                           "attributes": {"id": name, "input": dynamic, "output": dynamic, "triggers_replace": None}}]})

    for index in range(TERRAFORM_MIGRATIONS):
        ends = [f"source_{index}", f"target_{index}"]
        for host in ends:
            add(host, {"address": f'"host{index}.example.com"'}, [])
        app = f"app_{index}"
        add(app, {key: f"terraform_data.{host}.id" for key, host in zip(("source", "destination"), ends)}, ends)
        for volume in range(10):
            add(f"data_{index}_{volume}",
                {"migration": f"terraform_data.{app}.id", "device": f'"/dev/{index}/{volume}"'}, [app, *ends])
    with open(os.path.join(directory, "main.tf"), "w") as f:
        f.writelines(text)
    with open(os.path.join(directory, "terraform.tfstate"), "w") as f:
        json.dump({"version": 4, "terraform_version": "1.0.0", "serial": 1, "outputs": {}, "resources": resources,
                   "lineage": "767b688c-b3b1-bda6-9319-8fd649fc1d9f", "check_results": None}, f)
    return len(resources)


def medians(commands, runs=RUNS, **options):
    """Of each, interleaved: seconds, seconds of CPU, MiB."""
    found = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            found[name].append(measure(command, **options))
    print(f"  {'':26}{'seconds':>9}{'CPU-s':>9}{'MiB':>8}")
    result = {}
    for name, values in found.items():
        result[name] = [statistics.median(column) for column in zip(*values)]
        print(f"  {name:26}{result[name][0]:9.2f}{result[name][1]:9.2f}{result[name][2]:8.0f}")
    return result


def plan_command(directory, migrations):
    plan, observation = (os.path.join(directory, f"{migrations}.{kind}") for kind in ("yaml", "json"))
    write_plan(plan, migrations)
    write_observation(observation, migrations)
    return [CMCPLAN, "plan", "-f", plan, "--observation", observation]


def bench_reading(directory):
    path = os.path.join(directory, "plan.yaml")
    size = write_plan(path)
    print(f"\nreading a plan of {MIGRATIONS * 10} volumes in {MIGRATIONS} migrations, {size / 1e6:.0f} MB, median of {RUNS}")
    ours, theirs = medians({"cmcplan validate": [CMCPLAN, "validate", "-f", path],
                            "PyYAML C loader": ["/usr/bin/python3", "-c", PYYAML, path]}).values()
    ratio = theirs[1] / ours[1]
    print(f"  reading and validating is {ratio:.1f} times as fast as their loading (by CPU; {theirs[0] / ours[0]:.1f} by the clock)")
    return [(ratio < LEAST_RATIO, f"{ratio:.1f} times is less than {LEAST_RATIO:.0f}"),
            (ours[2] > MOST_MIB, f"{ours[2]:.0f} MiB are more than {MOST_MIB}"),
            (ours[1] > MOST_SECONDS, f"{ours[1]:.1f} s of CPU are more than {MOST_SECONDS:.0f}")]


def bench_planning(directory):
    tenth = max(1, MIGRATIONS // 10)
    commands = {f"{count * 10} volumes": plan_command(directory, count) for count in (tenth, MIGRATIONS)}
    print(f"\nplanning against a recorded observation, median of {RUNS}")
    small, large = medians(commands).values()
    growth = large[1] / small[1]
    print(f"  {MIGRATIONS / tenth:.0f} times the volumes take {growth:.1f} times as long (by CPU)")
    return [(large[1] > PLAN_SECONDS, f"{large[1]:.1f} s of CPU are more than {PLAN_SECONDS:.0f}"),
            (large[2] > PLAN_MIB, f"{large[2]:.0f} MiB are more than {PLAN_MIB}"),
            (growth > PLAN_GROWTH, f"{growth:.1f} times is more than {PLAN_GROWTH:.0f}")]


def bench_terraform(directory):
    terraform = shutil.which("terraform")
    if terraform is None:
        print("\nskipped: planning beside Terraform: terraform is not on PATH")
        return []
    home = os.path.join(directory, "terraform")
    os.mkdir(home)
    count = write_terraform(home)
    configuration = os.path.join(home, "rc")
    open(configuration, "w").close()
    environment = {**os.environ, "HOME": home, "TF_CLI_CONFIG_FILE": configuration, "CHECKPOINT_DISABLE": "1"}
    measure([terraform, "init", "-input=false"], cwd=home, env=environment)
    print(f"\nplanning {count} resources, with what is there recorded, median of {RUNS}")
    ours, theirs = medians(
        {"cmcplan plan": plan_command(directory, TERRAFORM_MIGRATIONS),
         "terraform plan": [terraform, "plan", "-input=false", "-refresh=false", "-lock=false"]},
        cwd=home, env=environment).values()
    print(f"  {theirs[1] / ours[1]:.0f} times as fast as Terraform (by CPU; {theirs[0] / ours[0]:.0f} by the clock)")
    ratio = theirs[1] / ours[1]
    return [(ratio < TERRAFORM_RATIO, f"{ratio:.0f} times is less than {TERRAFORM_RATIO:.0f}")]


def main():
    if not os.access(CMCPLAN, os.X_OK):
        sys.exit("bench: .build-product/cmcplan is missing: run make build")
    with tempfile.TemporaryDirectory(prefix="cmcb.") as directory:
        missed = [what for bench in (bench_reading, bench_planning, bench_terraform)
                  for is_missed, what in bench(directory) if is_missed]
    for miss in missed:
        print(f"  missed: {miss}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
