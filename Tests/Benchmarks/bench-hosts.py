#!/usr/bin/env python3
"""Deploying agents to a fleet, beside ansible doing less of it: `make bench`.

BENCH_HOSTS (200) hosts of this machine, from nothing: `cmcplan agent deploy` (looks at the host, copies and checks the
static agent, starts it, speaks with it) beside `ansible -m ping` and then `-m copy` of the same file, at equal forks
(BENCH_FORKS, 32); and both again, with nothing to do. Whole processes, start to end. Exits 1 where a bar of this project
is missed: at most 1.5 times ansible's time from nothing, and at least 5 times as fast where nothing is to be done.

ansible-core is installed from PyPI into .build-product/python; where it can't be had, the comparison is skipped by name.
"""
import os, resource, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PRODUCT = os.path.join(HERE, "../../.build-product")
CMCPLAN, CMCAGENT = (os.path.join(PRODUCT, name) for name in ("cmcplan", "cmcagent"))
PYTHON = os.path.join(PRODUCT, "python/ansible")
ANSIBLE = os.environ.get("ANSIBLE", os.path.join(PYTHON, "bin/ansible"))
RELEASE = "ansible-core==2.18.6"
HOSTS = int(os.environ.get("BENCH_HOSTS", "200"))
FORKS = int(os.environ.get("BENCH_FORKS", "32"))
LIMIT_SECONDS = 1800
INSTALL_SECONDS = 300
MOST_RATIO, LEAST_RATIO = 1.5, 5.0
HEAD = """apiVersion: cmcplan/v1
kind: MigrationPlan
metadata: {id: 6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11, name: fleet}
attestations: {operatingSystemLicensed: true, applicationLicensed: true}
migrations: {}
hosts:
"""


def install():
    """Whether there is an ansible now."""
    if os.access(ANSIBLE, os.X_OK):
        return True
    try:
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", PYTHON], check=True, timeout=INSTALL_SECONDS,
                       capture_output=True)
        subprocess.run([f"{PYTHON}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RELEASE],
                       check=True, timeout=INSTALL_SECONDS, capture_output=True)
    except (OSError, subprocess.SubprocessError) as problem:
        print(f"skipped the comparison with ansible: {RELEASE} can't be installed: {problem}")
        return False
    return True


def measure(commands, directory, environment, succeeds=True):
    """Seconds, and seconds of CPU of all that was waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    for command in commands:
        with open(os.path.join(directory, "said"), "w+b") as said:
            code = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=said,
                                  stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS).returncode
            if succeeds and code != 0:
                said.seek(0)
                sys.exit(f"bench: {command[0]} exits {code}: {said.read()[-2000:].decode(errors='replace')}")
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def running(directory):
    """Our agents, by where their binary lies."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/exe").startswith(directory + "/h"):
                found.append(int(name))
        except OSError:
            pass
    return found


def main():
    for program in (CMCPLAN, CMCAGENT):
        if not os.access(program, os.X_OK):
            sys.exit(f"bench: {program} is missing: run make build")
    if not install():
        return 0
    directory = os.path.realpath(tempfile.mkdtemp(prefix="cmcb."))
    names = [f"h{number:03}" for number in range(HOSTS)]
    try:
        with open(f"{directory}/plan.yaml", "w") as f:
            f.write(HEAD + "".join(f"  {name}: {{local: {{root: ./{name}}}}}\n" for name in names))
        with open(f"{directory}/inventory", "w") as f:
            f.writelines(f"{name}\n" for name in names)
            f.write("[all:vars]\nansible_connection=local\nansible_python_interpreter=/usr/bin/python3\n")
        os.mkdir(f"{directory}/theirs")
        for name in names:
            os.mkdir(f"{directory}/theirs/{name}")
        environment = {"PATH": os.environ["PATH"], "HOME": directory, "LC_ALL": "C.UTF-8", "TMPDIR": directory,
                       "ANSIBLE_HOME": f"{directory}/.ansible", "CMCPLAN_AGENT": os.path.realpath(CMCAGENT)}
        base = [ANSIBLE, "all", "-i", "inventory", "-f", str(FORKS)]
        copy = f"src={os.path.realpath(CMCAGENT)} dest={directory}/theirs/{{{{inventory_hostname}}}}/cmcagent mode=0700"
        theirs = [base + ["-m", "ping"], base + ["-m", "copy", "-a", copy]]
        ours = [[CMCPLAN, "agent", "deploy", "-f", "plan.yaml", "--parallelism", str(FORKS)]]
        rows = {}
        for what in ("from nothing", "nothing to do"):
            rows[what] = (measure(ours, directory, environment), measure(theirs, directory, environment))
            if len(running(directory)) != HOSTS:
                sys.exit(f"bench: {len(running(directory))} agents run, not {HOSTS}")
    finally:
        for process in running(directory):
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{HOSTS} hosts of this machine, {FORKS} at once, an agent of {os.path.getsize(CMCAGENT) / 1e6:.0f} MB")
    print(f"  {'':16}{'cmcplan':>10}{'CPU-s':>8}{'ansible':>10}{'CPU-s':>8}")
    for what, (our, their) in rows.items():
        print(f"  {what:16}{our[0]:10.1f}{our[1]:8.1f}{their[0]:10.1f}{their[1]:8.1f}")
    first, second = (our[0] / their[0] for our, their in rows.values())
    print(f"  from nothing cmcplan takes {first:.2f} times as long; with nothing to do it is {1 / second:.1f} times as fast")
    missed = []
    if first > MOST_RATIO:
        missed.append(f"from nothing {first:.2f} times is more than {MOST_RATIO}")
    if 1 / second < LEAST_RATIO:
        missed.append(f"with nothing to do {1 / second:.1f} times is less than {LEAST_RATIO:.0f}")
    for miss in missed:
        print(f"  missed: {miss}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
