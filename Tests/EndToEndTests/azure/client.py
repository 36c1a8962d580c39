"""Microsoft's own Python clients against the emulator: run in an environment that has azure-mgmt-compute.

Arguments: base URL, file of the certificate authority, subscription. The secret is in AZURE_CLIENT_SECRET; what else signs
in is in OWN_PEM, OWN_PFX (with PFX_PASSWORD) and TOKEN_FILE, what mustn't in STRANGER_PEM and STALE_FILE.
"""

import sys

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import (
    CertificateCredential, ClientAssertionCredential, ClientSecretCredential, WorkloadIdentityCredential)
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute import models
import os

BASE, AUTHORITY, SUBSCRIPTION = sys.argv[1:4]
GROUP, MACHINE = "rehearsal", "erp-db"
TENANT, CLIENT = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def check(text, condition):
    print(("ok - " if condition else "not ok - ") + text, flush=True)


def refused(code, action):
    try:
        action()
    except HttpResponseError as error:
        return error.error is not None and error.error.code == code
    return False


def contents(path):
    with open(path) as file:
        return file.read().strip()


def try_identities(version):
    """Every way of azure-identity's to sign in without a secret, each with a client of its own."""
    common = {"authority": BASE, "disable_instance_discovery": True, "connection_verify": AUTHORITY}
    files = os.environ

    def certificate(path, **more):
        return CertificateCredential(TENANT, CLIENT, path, **more, **common)

    def assertion(path):
        return ClientAssertionCredential(TENANT, CLIENT, lambda: contents(path), **common)

    def workload(path):
        return WorkloadIdentityCredential(tenant_id=TENANT, client_id=CLIENT, token_file_path=path, **common)

    for name, credential in (
            ("a certificate as PEM", certificate(files["OWN_PEM"])),
            ("a certificate as PFX", certificate(files["OWN_PFX"], password=files["PFX_PASSWORD"])),
            ("a workload's token file", workload(files["TOKEN_FILE"])),
            ("an assertion of its own", assertion(files["TOKEN_FILE"]))):
        client = ComputeManagementClient(
            credential, SUBSCRIPTION, base_url=BASE, credential_scopes=["https://management.azure.com/.default"],
            connection_verify=AUTHORITY)
        check(f"{version} signs in by {name}", list(client.disks.list()) == [])
    for name, credential, code in (
            ("a certificate that isn't registered", certificate(files["STRANGER_PEM"]), "AADSTS700027"),
            ("a stale token file", workload(files["STALE_FILE"]), "AADSTS700024")):
        try:
            credential.get_token("https://management.azure.com/.default")
            check(f"{version} is refused by {name}", False)
        except ClientAuthenticationError as error:
            check(f"{version} is refused by {name}", code in str(error))


def main(version):
    os.environ["REQUESTS_CA_BUNDLE"] = AUTHORITY
    try_identities(version)
    credential = ClientSecretCredential(
        TENANT, CLIENT, os.environ["AZURE_CLIENT_SECRET"], authority=BASE, disable_instance_discovery=True,
        connection_verify=AUTHORITY)
    client = ComputeManagementClient(
        credential, SUBSCRIPTION, base_url=BASE, credential_scopes=["https://management.azure.com/.default"],
        connection_verify=AUTHORITY, polling_interval=0.1)
    disks, machines = client.disks, client.virtual_machines

    made = []
    for number in range(3):
        disk = {"location": "westeurope", "zones": ["1"], "sku": {"name": "Premium_LRS"}, "tags": {"k": "v"},
                "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 8}}
        made.append(disks.begin_create_or_update(GROUP, f"d{number}", disk).result())
    check(f"{version} creates disks", all(disk.provisioning_state == "Succeeded" for disk in made))
    shown = disks.get(GROUP, "d0")
    check(f"{version} shows a disk", shown.tier == "P2" and shown.disk_iops_read_write == 120 and shown.zones == ["1"])
    check(f"{version} lists disks", {"d0", "d1", "d2"} <= {disk.name for disk in disks.list()}
          and {"d0", "d1", "d2"} <= {disk.name for disk in disks.list_by_resource_group(GROUP)})
    updated = disks.begin_update(GROUP, "d0", {"tags": {"k": "w"}, "properties": {"diskSizeGB": 16}}).result()
    check(f"{version} updates a disk", updated.disk_size_gb == 16 and updated.tags == {"k": "w"})
    check(f"{version} is told of a disk that isn't there", refused("ResourceNotFound", lambda: disks.get(GROUP, "no")))
    check(f"{version} is refused a smaller size",
          refused("OperationNotAllowed",
                  lambda: disks.begin_update(GROUP, "d0", {"properties": {"diskSizeGB": 4}}).result()))

    body = {"dataDisksToAttach": [
        {"diskId": disk.id, "lun": lun, "caching": "ReadOnly", "deleteOption": "Detach",
         "writeAcceleratorEnabled": False} for lun, disk in enumerate(made)]}
    profile = machines.begin_attach_detach_data_disks(GROUP, MACHINE, body).result()
    check(f"{version} attaches three disks by one call", profile is not None)
    machine = machines.get(GROUP, MACHINE, expand="instanceView")
    check(f"{version} shows the machine with its disks and view",
          [disk.lun for disk in machine.storage_profile.data_disks] == [0, 1, 2]
          and any(status.code == "PowerState/running" for status in machine.instance_view.statuses))
    check(f"{version} sees the disk attached", disks.get(GROUP, "d1").disk_state == "Attached")
    check(f"{version} is refused to delete an attached disk",
          refused("OperationNotAllowed", lambda: disks.begin_delete(GROUP, "d1").result()))
    machines.begin_attach_detach_data_disks(
        GROUP, MACHINE, {"dataDisksToDetach": [{"diskId": disk.id} for disk in made[:2]]}).result()
    machine = machines.get(GROUP, MACHINE)
    check(f"{version} detaches two", [disk.lun for disk in machine.storage_profile.data_disks] == [2])
    machine.storage_profile.data_disks.append(
        models.DataDisk(lun=7, name="made-with-it", create_option="Empty", disk_size_gb=4))
    machine = machines.begin_create_or_update(GROUP, MACHINE, machine).result()
    check(f"{version} attaches a new disk by a PUT of the machine",
          sorted(disk.lun for disk in machine.storage_profile.data_disks) == [2, 7]
          and disks.get(GROUP, "made-with-it").disk_size_gb == 4)
    machine = machines.begin_update(GROUP, MACHINE, {"tags": {"role": "db"}}).result()
    check(f"{version} tags the machine and leaves its disks", machine.tags == {"role": "db"}
          and len(machine.storage_profile.data_disks) == 2)
    machines.begin_deallocate(GROUP, MACHINE).result()
    check(f"{version} deallocates: its disks are reserved", disks.get(GROUP, "d2").disk_state == "Reserved")
    machines.begin_start(GROUP, MACHINE).result()
    for name in ("d0", "d1"):
        disks.begin_delete(GROUP, name).result()
    try:
        disks.get(GROUP, "d0")
        check(f"{version} deletes disks", False)
    except ResourceNotFoundError:
        check(f"{version} deletes disks", True)
    skus = list(client.resource_skus.list(filter="location eq 'westeurope'"))
    largest = [one.value for sku in skus if sku.name == "Standard_D8s_v5" for one in sku.capabilities
               if one.name == "MaxDataDiskCount"]
    check(f"{version} lists SKUs", largest == ["16"] and any(sku.name == "UltraSSD_LRS" for sku in skus))
    used = {one.name.value: one.current_value for one in client.usage.list("westeurope")}
    check(f"{version} lists usages", used.get("PremiumDiskCount", 0) >= 2)


if __name__ == "__main__":
    from importlib.metadata import version as installed
    main("azure-mgmt-compute " + installed("azure-mgmt-compute"))
