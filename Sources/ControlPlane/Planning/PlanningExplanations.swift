package import Diagnostics

/// What planning's codes mean. In the order of the codes.
package enum PlanningExplanations {
  package static let all: [CodeExplanation] =
    document + world + sessions + replacing + forecasts + pruning + guardrails + azure

  private typealias Code = PlanningCode

  private static let document: [CodeExplanation] = [
    .init(
      Code.operatingSystemNotAttested, "somebody attests that the operating system is licensed at the destination",
      "No API can tell, and without it nothing is moved.", "attestations: {operatingSystemLicensed: true}"),
    .init(
      Code.applicationNotAttested, "somebody attests that the application's licence allows the destination",
      "No API can tell, and without it nothing is moved.", "attestations: {applicationLicensed: true}"),
    .init(
      Code.noIntegration, "a migration with disks has an integration to make them in",
      "A disk is made in a subscription, a resource group and a location.",
      "migrations: {erp-db: {integration: corp, …}}   # or one integration only, which is everyone's"),
    .init(
      Code.backwards, "a phase behind finalized can't be reached any more",
      "Finalize fences the source; what was written since is on the destination alone.",
      "cutover: {phase: finalized}   # or retired"),
  ]

  private static let world: [CodeExplanation] = [
    .init(
      Code.hostNotObserved, "a host that a migration needs can be seen",
      "Nothing is planned on a guess; the other migrations are planned all the same.",
      "cmcplan doctor   # tells what is in the way of which host"),
    .init(
      Code.cloudNotObserved, "what a migration needs of Azure can be seen",
      "A disk that nobody could look at may be there already.", "cmcplan doctor   # tells who may not see what"),
    .init(
      Code.noVirtualMachine, "the destination's virtual machine exists",
      "Disks are attached to it; it is made beforehand.",
      "hosts: {erp-db-azure: {azureVirtualMachine: erp-db}}"),
    .init(
      Code.sourceDeviceMissing, "the source device is there and can be read",
      "It is the device that the application uses, by a name that lasts.", "device: /dev/mapper/vg_erp-data"),
    .init(
      Code.systemDevice, "a device in use by the system isn't migrated",
      "The running system, and what is mounted at the destination, would be written under its feet.",
      "umount /mnt   # at the destination; operating system disks are not migrated"),
    .init(
      Code.destinationTooSmall, "a destination is at least as large as its source",
      "What doesn't fit would be lost; sources may grow while they are copied.", "disk: {size: auto}"),
    .init(
      Code.foreignDisk, "a disk that isn't this plan's is never touched",
      "Tags say whose a disk is. One without them is somebody's, one of another plan is that plan's.",
      "disk: {name: erp-data-2}   # another name; or id: to take an existing disk over"),
    .init(
      Code.diskDiffers, "what Azure can't change of a disk is as the plan says",
      "SKU, zone, name and a smaller size need another disk, and the data copied anew.",
      "cmcplan plan --replace erp-db/data   # shows what a new disk would cost"),
    .init(
      Code.sourceChanged, "a session keeps the devices whose data it moved",
      "Another device under the same name would be copied over good data.",
      "cmcplan plan --replace erp-db/data   # where it is meant: a new disk, the old one kept"),
    .init(
      Code.trackingCannotSwing, "cMotion needs a tap for every volume",
      "Only a tap sees each write; digests see differences much later.",
      "tracking: tap   # or phase: finalized, which stops the application"),
    .init(
      Code.destinationNotBlank, "a destination is blank or ours", "Somebody's data may be on it.",
      "cmcplan plan --overwrite erp-db/data   # if it may be lost"),
    .init(
      Code.noListenerAddress, "somebody says where the listener is reached", "The other agent connects there.",
      "connection: {address: erp-db-azure.internal}   # or address: of the host"),
    .init(
      Code.hookHost, "a hook runs on the migration's source or destination", "Its agents run it, and no others.",
      "hooks: {mount: {host: erp-db-azure, run: …}}"),
    .init(
      Code.unknownTimeZone, "time zones are those of the IANA database here",
      "A window in an unknown zone never opens.",
      "timeZone: Europe/Berlin"),
    .init(
      Code.destinationMissing, "the destination that the plan names is there", "Nothing is made in its place.",
      "disk: {sku: Premium_LRS}   # without id: a disk is made"),
    .init(
      Code.machineWithoutUltra, "Ultra disks go to machines that may have them",
      "Azure enables it for a machine while that is deallocated.",
      "az vm update --resource-group erp --name erp-db --ultra-ssd-enabled true"),
    .init(
      Code.diskStaysSmaller, "a Standard or Premium disk passes 4 TiB only while it is detached",
      "So Azure has it; the disk is left as it is, and goes on.", "size: 4095 GiB   # or enlarge it after finalize"),
  ]

  private static let sessions: [CodeExplanation] = [
    .init(
      Code.sessionError, "an agent reports an error of its own", "Replication may stand still until it is mended.",
      "cmcplan status   # and agent.log on the host"),
    .init(
      Code.agentOutdated, "an agent of another version is left alone while it replicates",
      "Nothing is restarted without being asked.", "cmcplan agent upgrade erp-db"),
    .init(
      Code.sourceCopyLost, "the source's copy is lost, and the destination's is the only one",
      "The source's disk failed in cMotion; the application goes on on the destination's disk.",
      "phase: finalized   # or mend the source's device"),
    .init(
      Code.nameTaken, "a name is free before another session gets it",
      "An agent keeps a renamed session's first name for good.", "migrations: {shop-db-2: …}"),
    .init(
      Code.renameAmbiguous, "moved leads from one session to one name", "Two sessions can't be one.",
      "moved: [{from: old, to: new}]   # and remove one of the two with cmcplan agent remove"),
    .init(
      Code.renameUnfinished, "a rename that began is in the plan until it is done",
      "Without it, half of the migration would be somebody else's.", "moved: [{from: old, to: new}]"),
    .init(
      Code.renameNotKnown, "an agent that is to take over a name is new enough",
      "Older ones can't keep what the plan calls a session by now.", "cmcplan agent upgrade erp-db"),
    .init(
      Code.renameKept, "a rename can't be carried out now, and goes on under the former name",
      "Its agents or its finished session don't take names any more.",
      "moved: [{from: old, to: new}]   # leave it in the plan"),
    .init(
      Code.unknownMigration, "what is named is a migration of the plan", "A misspelt name must not mean none.",
      "cmcplan plan --only erp-db"),
  ]

  private static let replacing: [CodeExplanation] = [
    .init(
      Code.replaceTooLate, "nothing is replaced from a swing on",
      "In cMotion I/O lives on the destination: giving that copy up would take production with it.",
      "cmcplan revert erp-db && cmcplan resume erp-db   # with phase: synchronized; then --replace"),
    .init(
      Code.replaceNotNeeded, "--replace does nothing where nothing needs it",
      "It may be given again without making a third disk.", "cmcplan plan   # without it, the same is planned"),
    .init(
      Code.replaceOverwrites, "a copy that --replace gives up is kept",
      "A destination that the plan names by device or id would be written over.",
      "cmcplan plan --replace erp-db/data --overwrite erp-db/data   # if it may be lost"),
  ]

  private static let forecasts: [CodeExplanation] = [
    .init(
      Code.willNotConverge, "less is written than may be copied meanwhile",
      "Otherwise what differs only grows, and a swing never gets through its last bytes.",
      "iqos: {level: aggressive}   # or relentless, or a schedule with quieter hours"),
    .init(
      Code.sourceShrank, "a source device keeps its size",
      "What lies past its end can't be read any more, and to copy it as empty would lose what the destination has.",
      "lvextend -L 10G vg/data   # its size again, then apply"),
    .init(
      Code.volumeStaysSmaller, "a volume grows with its source",
      "Not in cMotion or finalize, and not past its destination: it goes on with the size that was agreed.",
      "cutover: {phase: synchronized}   # reverts, grows; then cmotion again"),
  ]

  private static let pruning: [CodeExplanation] = [
    .init(
      Code.pruneTooLate, "nothing is pruned from a swing on",
      "In cMotion I/O lives on the destination: giving that copy up would take production with it.",
      "cutover: {phase: synchronized}   # put it back with this, apply, and take it out then"),
    .init(
      Code.prunePeerUnseen, "a session is pruned with both its halves",
      "The half that isn't seen may be further than the other one, and would be left behind.",
      "hosts: {erp-db-azure: {address: 198.51.100.20}}   # put back, until it is pruned"),
  ]

  private static let guardrails: [CodeExplanation] = [
    .init(
      Code.guardrailLocation, "guardrails allow the location of new disks", "Whoever owns the guardrails decides.",
      "integrations: {corp: {azure: {location: westeurope}}}"),
    .init(
      Code.guardrailSKU, "guardrails allow the SKU of new disks", "Whoever owns the guardrails decides.",
      "disk: {sku: Premium_LRS}"),
    .init(
      Code.guardrailSize, "guardrails allow the size of new disks", "Whoever owns the guardrails decides.",
      "disk: {size: 1 TiB}"),
    .init(
      Code.guardrailMoves, "a run moves no more migrations than guardrails allow",
      "A mistake in a plan reaches no further than one run.", "cmcplan apply --max-moves 5"),
    .init(
      Code.guardrailBytes, "a run starts to move no more bytes than guardrails allow",
      "Links and bills are others' too.", "cmcplan apply --only erp-db"),
    .init(
      Code.guardrailLevel, "the iQoS level is no higher than guardrails allow at this hour",
      "Production has the disks by day.", "iqos: {level: minimum}   # or a schedule"),
    .init(
      Code.guardrailOwner, "guardrails want an owner", "Somebody is to be asked at 2 a.m.",
      "metadata: {owner: storage@example.com}"),
    .init(
      Code.guardrailOneWay, "guardrails want one-way steps from a saved change set",
      "What can't be taken back is carried out as it was reviewed.",
      "cmcplan plan --out FILE; cmcplan apply FILE"),
  ]

  private static let azure: [CodeExplanation] = [
    .init(
      Code.skuNotAvailable, "the SKU is sold to this subscription, there", "Azure tells before a disk is made.",
      "disk: {sku: Premium_LRS}   # or another location or zone"),
    .init(
      Code.quotaExceeded, "new disks fit into the subscription's quota",
      "Half of them would be made, and the rest refused.",
      "cmcplan apply --max-moves 5   # or ask Azure for more"),
    .init(
      Code.cannotBeAttached, "a disk is where its machine is", "Location and zone of both have to agree.",
      "disk: {zone: \"1\"}   # the machine's"),
    .init(
      Code.permissionMissing, "the credential may do what the plan needs", "Told before half of it is done.",
      "examples/azure/role.json   # the smallest role that is enough"),
    .init(
      Code.diskImpossible, "a disk of the source's size can have what the plan says",
      "IOPS, caching and SKU have limits that go by size.", "disk: {sku: PremiumV2_LRS, iops: 8000, size: auto}"),
    .init(
      Code.diskDetached, "a disk that a session uses is attached",
      "Somebody detached it; replication waits for it.", "cmcplan apply   # attaches it again"),
    .init(
      Code.lunsNotNamed, "the destination's udev names Azure disks by their LUN",
      "Two disks that are attached at once couldn't be told apart.",
      "apt-get install azure-vm-utils && udevadm trigger"),
    .init(
      Code.clockOff, "a host's clock is within five minutes of this machine's",
      "Data is safe, but windows, approvals and the times of a report go by it.",
      "timedatectl set-ntp true   # or chrony"),
  ]
}
