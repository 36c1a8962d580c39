"""A plan of two migrations against an emulator of one's own: what the scripts about the operator's view share."""

import os
import re
import shutil
import socket
import subprocess

import lab

AGENT = os.environ.get("CMCPLAN_AGENT", lab.REPOSITORY + "/.build-product/cmcagent")
RUN_SECONDS = 120
OWN = re.compile("(AZURE|ARM|ACTIONS|IDENTITY|SSL_CERT)_|CURL_CA_BUNDLE$|(.*_PROXY)$", re.IGNORECASE)
PLAN = """\
apiVersion: cmcplan/v1
kind: MigrationPlan
metadata:
  id: 7a6c7a52-3d0e-4a53-9a4e-6f4f6a1c2d10
  name: refusals
integrations:
  lab:
    azure:
      cloud: {{authority: "{url}", resourceManager: "{url}"}}
      tenantId: {tenant}
      subscriptionId: {subscription}
      resourceGroup: rehearsal
      location: westeurope
      credential: {{clientId: {client}, clientSecret: {{env: AZURE_CLIENT_SECRET}}}}
attestations: {{operatingSystemLicensed: true, applicationLicensed: true}}
hosts:
  db: {{address: 127.0.0.1, local: {{root: ./db}}}}
  vm:
    address: 127.0.0.1
    local: {{root: ./vm}}
    azureVirtualMachine: erp-db
  other:
    address: 127.0.0.1
    local: {{root: ./other}}
    azureVirtualMachine: other
migrations:
  erp:
    source: db
    destination: vm
    connection: {{port: {port}}}
    volumes:
      data:
        device: data.img
        disk:
          name: erp-data
          sku: Premium_LRS
    cutover: {{phase: prepared}}
  hr:
    source: db
    destination: other
    connection: {{port: {other_port}}}
    volumes:
      data:
        device: hr.img
        disk: {{name: hr-data, sku: Premium_LRS}}
    cutover: {{phase: prepared}}
"""
GUARDRAILS = """\
apiVersion: cmcplan/v1
kind: Guardrails
allow:
  endpoints: ["{url}"]
  secrets: [{{env: AZURE_CLIENT_SECRET}}, {{env: PFX_PASSWORD}}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Laboratory:
    def __init__(self, cloud, url=None, name="plan"):
        """`url`: where the plan says that the cloud is, if not at itself."""
        self.cloud = cloud
        self.directory = f"{cloud.directory}/{name}"
        for host in ("db", "vm", "other"):
            os.makedirs(f"{self.directory}/{host}")
        for volume in ("data", "hr"):
            with open(f"{self.directory}/db/{volume}.img", "wb") as file:
                file.truncate(8 << 20)
        with open(self.directory + "/guardrails.yaml", "w") as file:
            file.write(GUARDRAILS.format(url=url or cloud.url))
        self.text = PLAN.format(
            url=url or cloud.url, tenant=lab.TENANT, client=lab.CLIENT, subscription=cloud.subscription, port=free_port(),
            other_port=free_port())

    def run(self, *arguments, text=None, credentials=None):
        with open(self.directory + "/plan.yaml", "w") as file:
            file.write(text or self.text)
        # How this machine's own user signs in, and gets to the network, is no part of the test.
        inherited = {name: value for name, value in os.environ.items() if not OWN.match(name)}
        result = subprocess.run(
            [lab.CMCPLAN, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=RUN_SECONDS,
            env={**inherited, "CMCPLAN_GUARDRAILS": "guardrails.yaml", "CMCPLAN_AGENT": AGENT, "NO_COLOR": "1",
                 **(credentials or {"AZURE_CLIENT_SECRET": lab.SECRET})})
        return result.returncode, result.stdout + result.stderr

    def line(self, key, text=None):
        """"plan.yaml:12:" of the first line that says `key`."""
        lines = (text or self.text).splitlines()
        return f"plan.yaml:{next(number for number, line in enumerate(lines, 1) if key in line)}:"

    def fault(self, **fault):
        answer = self.cloud.send("POST", self.cloud.url + "/cmc-emulator/faults", fault, token=None)
        assert answer.status == 201, answer.body

    def clear(self):
        self.cloud.send("DELETE", self.cloud.url + "/cmc-emulator/faults", token=None)

    def resource(self, path, version="2024-07-01"):
        return self.cloud.resource(f"/resourceGroups/rehearsal/providers/Microsoft.Compute/{path}", version)

    def remove(self):
        # As a person would; agents that never started make it fail, and leave nothing behind.
        for host in ("db", "vm", "other"):
            self.run("agent", "remove", host, "--force", "--auto-approve")
        shutil.rmtree(self.directory, ignore_errors=True)


def held(name, outcome, *wanted, code=1):
    """The output, without its line breaks, has every one of the patterns."""
    exit_code, output = outcome
    flat = re.sub(r"\s+", " ", output)
    missing = [pattern for pattern in wanted if not re.search(pattern, flat)]
    if code is not None and exit_code != code:
        missing.append(f"exit {code}, not {exit_code}")
    lab.check(name, not missing, *[f"missing: {pattern}" for pattern in missing], *output.splitlines()[-40:])
