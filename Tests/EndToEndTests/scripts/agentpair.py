"""Two agents in directories of their own, spoken to over their own bridges: for benchmarks and tests that need no plan."""
import contextlib, json, os, shutil, signal, socket, subprocess, time

from processes import Lines, end_in_order

SESSION = "pair/m"
START_SECONDS = 20
CALL_SECONDS = 120

end_in_order()


class AgentError(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Agent:
    def __init__(self, program, root):
        self.program = program
        self.root = root
        self.process = self.bridge = None
        os.makedirs(root, exist_ok=True)
        with self.stopped_on_failure():
            self.start()
            self.fingerprint = self.call("hello", oldestVersion=1, newestVersion=1)["fingerprint"]

    @contextlib.contextmanager
    def stopped_on_failure(self):
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def start(self):
        """`ready_seconds` is from the start of the process to the first answer."""
        with self.stopped_on_failure():
            self.start_processes()

    def start_processes(self):
        begun = time.monotonic()
        # A killed agent leaves its socket behind, so that only an answer says that the new one is there.
        self.process = subprocess.Popen(
            [self.program, "run", "--root", self.root, "--foreground"], stderr=subprocess.DEVNULL)
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                if s.connect_ex(f"{self.root}/agent.sock") == 0:
                    break
            if time.monotonic() > begun + START_SECONDS or self.process.poll() is not None:
                raise AgentError(f"the agent in {self.root} did not start")
            time.sleep(0.002)
        self.ready_seconds = time.monotonic() - begun
        self.bridge = subprocess.Popen([self.program, "rpc", "--root", self.root], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        self.answers = Lines(self.bridge.stdout)
        self.number = 0

    def call(self, method, **parameters):
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": parameters}
        try:
            self.bridge.stdin.write(json.dumps(message).encode() + b"\n")
            answer = None
            # What was asked before, and answered too late, is no answer to this.
            while answer is None or answer["id"] != self.number:
                line = self.answers.next(CALL_SECONDS)
                if not line:
                    raise AgentError(f"{method}: the agent hung up")
                answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise AgentError(f"{method}: {error}") from error
        if "error" in answer:
            raise AgentError(f"{method}: {answer['error']}")
        return answer["result"]

    def command(self, command, role="source", session=SESSION):
        return self.call("command", fencingNumber=1, session=session, role=role, command=command)

    def observe(self, session=SESSION):
        return next(s for s in self.call("observe")["sessions"] if s["session"] == session)

    def wait(self, what, test, seconds=120, session=SESSION):
        """The first observation that passes."""
        until = time.monotonic() + seconds
        seen = None
        while time.monotonic() < until:
            seen = self.observe(session)
            if test(seen):
                return seen
            time.sleep(0.01)
        raise AgentError(f"{what} was not reached in {seconds} s: {json.dumps(seen)[:600]}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.close_bridge()

    def close_bridge(self):
        if self.bridge is None:
            return
        self.bridge.kill()
        self.bridge.wait()
        for stream in (self.bridge.stdin, self.bridge.stdout):
            with contextlib.suppress(OSError):
                stream.close()

    def stop(self):
        self.close_bridge()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def configure(source, destination, volumes, session=SESSION, port=None, dialed=None, **more):
    """`volumes` are (name, device, bytes), at both ends alike. `dialed`: the port that the source opens, where something is
    between it and the destination's."""
    port = port or free_port()
    for agent, role, peer in ((destination, "destination", source), (source, "source", destination)):
        configuration = {
            "session": session, "plan": "pair", "migration": session.split("/")[-1], "role": role,
            "configurationDigest": "d", "peerFingerprint": peer.fingerprint,
            "link": {"listens": role == "destination", "address": "127.0.0.1",
                     "port": dialed or port if role == "source" else port, "lanes": 2},
            "volumes": [{"name": name, "devicePath": device, "sizeBytes": size, "tracking": "tap", "overwrite": False,
                         "attachDevice": False} for name, device, size in volumes],
            "limits": {}, "linkLossTimeoutSeconds": 5, "resyncIntervalSeconds": 900, "verify": "full"}
        configuration.update(more)
        agent.call("configureSession", fencingNumber=1, configuration=configuration)


@contextlib.contextmanager
def pair(program, directory):
    """Two agents, not configured; gone with their directories at the end."""
    agents = []
    try:
        for name in ("s", "d"):
            agents.append(Agent(program, f"{directory}/{name}"))
        yield agents
    finally:
        for agent in agents:
            agent.stop()
            shutil.rmtree(agent.root, ignore_errors=True)
