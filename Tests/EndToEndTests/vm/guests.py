"""Guests of the virtual machine tests: two Debian machines with LVM, device-mapper and the kernel's NBD client, and the
agents in them. Everything is below one directory; whatever was started is ended by `Lab.remove`."""

import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))
from processes import Lines, end_in_order  # noqa: E402

AGENT_ROOT = "/var/lib/cmcplan"
# Beyond what `vmlab start` waits itself.
BOOT_SECONDS = 180 + int(os.environ.get("VMLAB_BOOT_SECONDS", 120))
CALL_SECONDS = 120
KILL_SECONDS = 30
BUILD_SECONDS = 1800


class Failure(Exception):
    """What a check found."""


def build_image(directory):
    """Makes the guests' image: all of it or none, whatever ends the making."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    making = pathlib.Path(tempfile.mkdtemp(prefix=directory.name + ".making.", dir=directory.parent))
    # A process group of its own, which is ended whole, and mounts of its own, which go with it: debootstrap makes some.
    command = ["unshare", "--mount", "--propagation", "private", str(HERE / "vmlab"), "build", str(making)]
    build = None
    try:
        with open(making / "build.log", "w+", errors="replace") as log:
            build = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            if build.wait(timeout=BUILD_SECONDS) != 0:
                log.seek(0)
                raise Failure(log.read().strip()[-300:])
        making.chmod(0o755)
        shutil.rmtree(directory, ignore_errors=True)
        making.rename(directory)
    finally:
        if build and build.poll() is None:
            os.killpg(build.pid, signal.SIGKILL)
            build.wait()
        shutil.rmtree(making, ignore_errors=True)


class Guest:
    def __init__(self, lab, name, port, forwards=()):
        self.lab, self.name, self.port, self.forwards = lab, name, port, list(forwards)
        self.channel = self.answers = None
        self.number = 0
        self.servers = []
        self.disks = {}

    # -- the machine

    def boot(self):
        self.lab.vmlab("start", self.name, str(self.port), *self.forwards, timeout=BOOT_SECONDS)

    def ssh_command(self, *words):
        control = self.lab.directory / f"{self.name}.ssh"
        return [
            "ssh", "-i", str(self.lab.image / "id"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=90", "-o", "ControlMaster=auto", "-o", f"ControlPath={control}",
            "-o", "ControlPersist=600", "-o", "ServerAliveInterval=15", "-p", str(self.port), "root@127.0.0.1", *words]

    def run(self, script, timeout=CALL_SECONDS, check=True):
        """Runs a shell script in the guest; answers what it printed."""
        done = subprocess.run(
            self.ssh_command("bash", "-s"), input=script, text=True, capture_output=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failure(f"{self.name}: exit {done.returncode} of: {script.strip()[:300]}\n{done.stdout}{done.stderr}")
        return done.stdout if check else done.returncode

    def push(self, path, target):
        with open(path, "rb") as file:
            subprocess.run(
                self.ssh_command(f"cat >{target}.new && chmod 755 {target}.new && mv {target}.new {target}"), stdin=file,
                check=True, timeout=CALL_SECONDS)

    def add_disk(self, lun, megabytes):
        """A disk behind a write-back cache that a power cut loses."""
        backing = self.lab.directory / f"{self.name}.{lun}.img"
        if not backing.exists():
            with open(backing, "wb") as file:
                file.truncate(megabytes << 20)
        self.disks[lun] = backing
        self.attach(lun)

    def attach(self, lun):
        socket = self.lab.directory / f"{self.name}.{lun}.sock"
        socket.unlink(missing_ok=True)
        with open(f"{socket}.log", "a") as log:
            server = subprocess.Popen(
                ["nbdkit", "-f", "-U", str(socket), "--filter=cache", "file", str(self.disks[lun]), "cache=writeback"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.servers.append(server)
        for _ in range(100):
            if socket.exists():
                break
            time.sleep(0.1)
        self.lab.vmlab("attach", self.name, f"nbd:{socket}", str(lun))
        self.run(f"for i in $(seq 100); do [ -b /dev/disk/azure/scsi1/lun{lun} ] && exit; sleep 0.2; done; exit 1")

    def cut_power(self):
        """Pulls the plug of the machine and of its disks' write-back caches at once."""
        # First of all: who watches what was acknowledged cuts the moment after it.
        machine = os.pidfd_open(int((self.lab.directory / f"{self.name}.pid").read_text()))
        signal.pidfd_send_signal(machine, signal.SIGKILL)
        for server in self.servers:
            server.kill()
            server.wait()
        self.servers = []
        is_dead, _, _ = select.select([machine], [], [], KILL_SECONDS)
        os.close(machine)
        if not is_dead:
            raise Failure(f"{self.name} lives {KILL_SECONDS} s after SIGKILL")
        self.hang_up()
        subprocess.run(
            self.ssh_command("-O", "exit"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)

    def power_on(self):
        self.boot()
        for lun in self.disks:
            self.attach(lun)

    # -- the agent

    def start_agent(self):
        # To a file: the agent that this leaves behind would keep a pipe open.
        self.run(f"""mkdir -p -m 700 {AGENT_ROOT}
          cmcagent run --root {AGENT_ROOT} </dev/null >/run/cmcagent.out 2>&1 || {{ cat /run/cmcagent.out; exit 1; }}""", timeout=60)

    def kill_agent(self):
        self.hang_up()
        self.run(f"kill -9 $(pidof cmcagent); while pidof cmcagent >/dev/null; do sleep 0.1; done")

    def hang_up(self):
        if self.channel:
            self.channel.kill()
            self.channel.wait()
            self.channel = None

    def call(self, method, **parameters):
        if self.channel is None:
            self.channel = subprocess.Popen(
                self.ssh_command("cmcagent", "rpc", "--root", AGENT_ROOT), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, bufsize=0)
            self.answers = Lines(self.channel.stdout)
        self.number += 1
        line = json.dumps({"jsonrpc": "2.0", "id": self.number, "method": method, "params": parameters})
        try:
            self.channel.stdin.write(line.encode() + b"\n")
            answer = json.loads(self.answers.next(CALL_SECONDS) or '{"error": {"message": "the agent hung up"}}')
        except (OSError, ValueError) as problem:
            # What is still under way would be taken for the next call's answer.
            self.hang_up()
            raise Failure(f"{self.name}: {method} {parameters.get('command', '')}: {problem}") from problem
        if "error" in answer:
            raise Failure(f"{self.name}: {method} {parameters.get('command', '')}: {answer['error']['message']}")
        return answer["result"]


class Lab:
    def __init__(self, image):
        self.image = pathlib.Path(image)
        self.directory = pathlib.Path(subprocess.check_output(["mktemp", "-d", "/tmp/cmc-vm.XXXXXX"], text=True).strip())
        self.guests = []
        for name in ("id", "vmlinuz", "initrd.gz", "base.img"):
            os.symlink(self.image / name, self.directory / name)

    def guest(self, name, port, forwards=()):
        guest = Guest(self, name, port, forwards)
        self.guests.append(guest)
        return guest

    def vmlab(self, verb, *words, timeout=120):
        done = subprocess.run(
            [str(HERE / "vmlab"), verb, str(self.directory), *words], text=True, capture_output=True, timeout=timeout)
        if done.returncode != 0:
            raise Failure(f"vmlab {verb} {' '.join(words)}: {done.stdout}{done.stderr}")

    def remove(self):
        self.remove_guests()
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove_guests(self):
        for guest in self.guests:
            guest.hang_up()
            for server in guest.servers:
                server.kill()
                server.wait()
            pid = self.directory / f"{guest.name}.pid"
            if pid.exists():
                try:
                    os.kill(int(pid.read_text()), signal.SIGKILL)
                except (ProcessLookupError, ValueError):
                    pass
            subprocess.run(
                guest.ssh_command("-O", "exit"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        self.guests = []
