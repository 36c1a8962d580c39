"""What the scripts about Azure share: an emulator of their own, requests to it, and lines that say what was held.

Each check prints one line: `ok - …`, `not ok - …` or `skipped - NAME: why`. A script exits 0 only where none failed.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts"))
from processes import end_in_order  # noqa: E402

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CMCPLAN = os.environ.get("CMCPLAN", REPOSITORY + "/.build-product/cmcplan")
SPECS = os.environ.get("AZURE_SPECS", REPOSITORY + "/../shared/azure-specs")
TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
SECRET = "s3cret-of-the-test"
START_SECONDS = 30
REQUEST_SECONDS = 60

failures = 0

end_in_order()


def passed(text):
    print("ok - " + text, flush=True)


def failed(text, details=()):
    global failures
    failures += 1
    print("not ok - " + text)
    for line in details:
        print("    " + line)
    sys.stdout.flush()


def skipped(name, why):
    print(f"skipped - {name}: {why}", flush=True)


def check(text, condition, *details):
    if condition:
        passed(text)
    else:
        failed(text, details)


def finish():
    sys.exit(1 if failures else 0)


def need_specs(name):
    """The recordings and OpenAPI files are no part of the repository: a machine has them beside it, or where AZURE_SPECS
    says, or not at all."""
    if os.path.isdir(SPECS):
        return
    skipped(name, f"set AZURE_SPECS to a directory of the service's OpenAPI files and recordings ({SPECS} is none)")
    sys.exit(0)


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body) if self.body else None


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


class Emulator:
    """`cmcplan emulator` as a child process, gone when the block ends."""

    def __init__(self, *options, subscription="00000000-0000-0000-0000-000000000001", group="rehearsal",
                 location="westeurope", https=False, scale=20):
        self.subscription = subscription
        self.group = group
        self.location = location
        self.https = https
        self.directory = tempfile.mkdtemp(prefix="cmc-azure.")
        self.arguments = [
            CMCPLAN, "emulator", "--state", self.directory + "/state", "--ready-file", self.directory + "/ready",
            "--subscription", subscription, "--resource-group", group, "--location", location,
            "--time-scale", str(scale), *(["--https"] if https else []), *options,
        ]
        self.process = self.log = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        self.log = open(self.directory + "/log", "wb")
        self.process = subprocess.Popen(
            self.arguments, stdout=self.log, stderr=self.log, env={**os.environ, "CMC_EMULATOR_CLIENT_SECRET": SECRET})
        end = time.monotonic() + START_SECONDS
        while not os.path.exists(self.directory + "/ready"):
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit("not ok - the emulator starts: " + open(self.directory + "/log").read())
            time.sleep(0.02)
        self.url = open(self.directory + "/ready").read().strip().replace("127.0.0.1", "localhost")
        self.authority = self.directory + "/state/ca.pem" if self.https else None
        self.token = self.sign_in()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.log is not None:
            self.log.close()

    def sign_in(self):
        form = urllib.parse.urlencode({
            "client_id": CLIENT, "client_secret": SECRET, "grant_type": "client_credentials",
            "scope": "https://management.azure.com/.default"}).encode()
        answer = self.send("POST", f"{self.url}/{TENANT}/oauth2/v2.0/token", form, token=None,
                           kind="application/x-www-form-urlencoded")
        return answer.json["access_token"]

    def send(self, method, url, body=None, token="own", kind="application/json", headers=None):
        """One request; any status is an answer."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
        if body is not None:
            request.add_header("Content-Type", kind)
        if token == "own":
            request.add_header("Authorization", "Bearer " + self.token)
        context = None
        if self.https:
            import ssl
            context = ssl.create_default_context(cafile=self.authority)
        opener = urllib.request.build_opener(
            NoRedirects, urllib.request.ProxyHandler({}),
            *([urllib.request.HTTPSHandler(context=context)] if context else []))
        try:
            with opener.open(request, timeout=REQUEST_SECONDS) as answer:
                return Answer(answer.status, answer.getheaders(), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.items(), error.read())

    def resource(self, path, version):
        mark = "&" if "?" in path else "?"
        return f"{self.url}/subscriptions/{self.subscription}{path}{mark}api-version={version}"

    def settle(self, answer, seconds=30):
        """Follows the operation that an answer names to its end; its last status."""
        url = answer.headers.get("azure-asyncoperation")
        end = time.monotonic() + seconds
        while url and time.monotonic() < end:
            status = self.send("GET", url)
            if status.status == 200 and status.json.get("status") != "InProgress":
                return status
            time.sleep(0.03)
        return None


def pattern(text):
    """A pattern of the differences file: `*` is anything, everything else is itself."""
    return re.compile("".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", text)) + "$")
