import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

/// What becomes of a disk that is there, what only the source's size decides, and whom a fault concerns.
@Suite struct DiskPreflightTests {
  private static let skuLine = SourcePosition(file: "plan.yaml", line: 30, column: 16)

  private static func plan(_ disk: ManagedDisk) -> MigrationPlan {
    var plan = samplePlan(.synchronized)
    plan.erp.volumes[0].destination = .disk(disk)
    plan.erp.volumes[0].places[.sku] = skuLine
    return plan
  }

  /// The agents are there and look at a source of 10 GiB; the disk is as `change` says, detached and without a session.
  private static func changesOfFreeDisk(
    _ wanted: ManagedDisk, _ change: (inout CloudDisk) -> Void = { _ in }
  ) -> ChangeSet {
    let plan = plan(wanted)
    var observation = liveObservation(plan, .prepared)
    for host in ["db", "db-azure"] { observation.hosts[HostName(host)]?.agent?.sessions = [] }
    observation.clouds["azure"]?.machines["vm"]?.attachments = []
    observation.clouds["azure"]?.disks[0].attachedTo = nil
    observation.clouds["azure"]?.disks[0].state = .unattached
    if var disk = observation.clouds["azure"]?.disks[0] {
      change(&disk)
      observation.clouds["azure"]?.disks[0] = disk
    }
    return changes(plan, observation)
  }

  private static func texts(_ found: ChangeSet) -> [String] {
    found.migrations.flatMap(\.changes).map(\.summary).filter { $0.hasPrefix("change disk") }
  }

  @Test(arguments: [
    (ManagedDisk.SKU.premium, ManagedDisk.SKU.standardSSD), (.standardHDD, .premium), (.premium, .premiumV2),
    (.premium, .premiumZoneRedundant), (.standardSSDZoneRedundant, .premium),
  ]) func aFreeDiskBecomesAnotherKind(from: ManagedDisk.SKU, to: ManagedDisk.SKU) {
    let found = Self.changesOfFreeDisk(ManagedDisk(sku: to, size: .auto)) { $0.sku = from.rawValue }
    #expect(Self.texts(found).contains { $0.contains("\(from.rawValue) → \(to.rawValue)") })
    #expect(!found.codes.contains(PlanningCode.diskDiffers))
  }

  @Test(arguments: [
    (ManagedDisk.SKU.premium, ManagedDisk.SKU.ultra), (.ultra, .premium), (.premiumV2, .premium), (.ultra, .premiumV2),
    (.premiumZoneRedundant, .premiumV2),
  ]) func whatAzureDoesNotConvertIsRefusedAtItsLine(from: ManagedDisk.SKU, to: ManagedDisk.SKU) {
    let found = Self.changesOfFreeDisk(ManagedDisk(sku: to, size: .auto)) { $0.sku = from.rawValue }
    let refusal = found.allDiagnostics.first { $0.code == PlanningCode.diskDiffers }
    #expect(refusal?.position == Self.skuLine)
    #expect(refusal?.advice.contains("a new disk and a full synchronization") == true)
  }

  @Test func aDiskInAZoneIsNotSpreadOverAll() {
    let found = Self.changesOfFreeDisk(ManagedDisk(sku: .premiumZoneRedundant, size: .auto)) { $0.zone = "1" }
    #expect(found.codes.contains(PlanningCode.diskDiffers))
  }

  @Test func aDiskInUseKeepsItsKind() {
    let plan = Self.plan(ManagedDisk(sku: .standardSSD, size: .auto))
    let found = changes(plan, liveObservation(plan, .tracking))
    let refusal = found.allDiagnostics.first { $0.code == PlanningCode.diskDiffers }
    #expect(refusal?.position == Self.skuLine)
    #expect(refusal?.advice.contains("only while no virtual machine has the disk") == true)
  }

  @Test(arguments: [
    (ManagedDisk.SKU.premium, 64, true), (.standardHDD, 64, true), (.standardSSD, 4096, true), (.premium, 4097, false),
    (.premiumV2, 9000, true), (.ultra, 9000, true),
  ]) func aDiskInUseGrowsWhereAzureGrowsIt(sku: ManagedDisk.SKU, gib: Int, grows: Bool) {
    let plan = Self.plan(ManagedDisk(sku: sku, size: .bytes(UInt64(gib) << 30)))
    var observation = liveObservation(plan, .tracking)
    observation.clouds["azure"]?.disks[0].sku = sku.rawValue
    observation.clouds["azure"]?.machines["vm"]?.ultraDisks = true
    let found = changes(plan, observation)
    #expect(Self.texts(found).contains { $0.contains("10 → \(gib) GiB") } == grows)
    #expect(found.codes.contains(PlanningCode.diskStaysSmaller) == !grows)
  }

  @Test func aDiskPastTheBorderGrowsOnInUse() {
    let plan = Self.plan(ManagedDisk(sku: .premium, size: .bytes(8192 << 30)))
    var observation = liveObservation(plan, .tracking)
    observation.clouds["azure"]?.disks[0].sizeBytes = 5000 << 30
    #expect(Self.texts(changes(plan, observation)).contains { $0.contains("5000 → 8192 GiB") })
  }

  @Test(
    arguments: [
      (ManagedDisk(sku: .premiumV2, size: .auto, zone: "1", iops: 5000), nil),
      (ManagedDisk(sku: .premiumV2, size: .auto, zone: "1", iops: 5001), "3000 to 5000"),
      (ManagedDisk(sku: .ultra, size: .auto, zone: "1", iops: 10_000), nil),
      (ManagedDisk(sku: .ultra, size: .auto, zone: "1", iops: 10_001), "100 to 10000"),
    ] as [(ManagedDisk, String?)]) func performanceIsHeldAgainstTheSizeThatTheSourceGives(
      disk: ManagedDisk, advice: String?
    )
  {
    var plan = Self.plan(disk)
    plan.erp.volumes[0].places[.iops] = SourcePosition(file: "plan.yaml", line: 31, column: 17)
    var observation = liveObservation(plan, .prepared)
    observation.clouds["azure"]?.disks = []
    observation.clouds["azure"]?.machines["vm"]?.zone = "1"
    let refusal = changes(plan, observation).allDiagnostics.first { $0.code == PlanningCode.diskImpossible }
    #expect((refusal == nil) == (advice == nil))
    guard let advice else { return }
    #expect(refusal?.advice.contains(advice) == true)
    #expect(refusal?.position?.line == 31)
  }

  @Test func aSourceTooLargeForItsKindOfDiskOrForCachingIsRefused() {
    func codes(_ disk: ManagedDisk, gib: UInt64) -> [Diagnostic] {
      let plan = Self.plan(disk)
      var observation = liveObservation(plan, .prepared)
      observation.clouds["azure"]?.disks = []
      for host in ["db", "db-azure"] { observation.hosts[HostName(host)]?.agent?.sessions = [] }
      observation.hosts[HostName("db")]?.devices[0].sizeBytes = gib << 30
      return changes(plan, observation).allDiagnostics.filter { $0.code == PlanningCode.diskImpossible }
    }
    #expect(codes(ManagedDisk(sku: .premium, size: .auto), gib: 32_767).isEmpty)
    #expect(codes(ManagedDisk(sku: .premium, size: .auto), gib: 32_768)[0].advice.contains("PremiumV2_LRS"))
    #expect(codes(ManagedDisk(sku: .premium, size: .auto, caching: .readOnly), gib: 4095).isEmpty)
    #expect(codes(ManagedDisk(sku: .premium, size: .auto, caching: .readOnly), gib: 4096).count == 1)
  }

  @Test func anUltraDiskIsMadeNoSmallerThanItCanBe() throws {
    let plan = Self.plan(ManagedDisk(sku: .ultra, size: .auto))
    let request = try #require(diskRequest(for: plan.erp.volumes[0], in: plan.erp, of: plan, sourceBytes: 1 << 30))
    #expect(request.sizeGiB == 4)
  }

  @Test func aDiskThatSomebodyDetachedIsNamedAndAttachedAgain() {
    var plan = Self.plan(ManagedDisk(sku: .premium, size: .auto, name: "erp-data"))
    plan.erp.volumes[0].places[.diskName] = SourcePosition(file: "plan.yaml", line: 29, column: 17)
    var observation = liveObservation(plan, .tracking)
    observation.clouds["azure"]?.disks[0].name = "erp-data"
    #expect(!changes(plan, observation).codes.contains(PlanningCode.diskDetached))
    observation.clouds["azure"]?.machines["vm"]?.attachments = []
    observation.clouds["azure"]?.disks[0].attachedTo = nil
    let found = changes(plan, observation)
    let warning = found.allDiagnostics.first { $0.code == PlanningCode.diskDetached }
    #expect(warning?.severity == .warning)
    #expect(warning?.position?.line == 29)
    #expect(warning?.advice.contains("az monitor activity-log list --resource-id /vm") == true)
    #expect(found.migrations[0].changes.contains { if case .attachDisks = $0.action { true } else { false } })
  }

  @Test(arguments: [(nil, false), (true, false), (false, true)] as [(Bool?, Bool)])
  func aHostThatGivesDisksNoNamesIsSaid(namesLUNs: Bool?, isSaid: Bool) {
    let plan = samplePlan(.synchronized)
    var observation = bareObservation(plan)
    observation.hosts[HostName("db-azure")]?.state?.namesLUNs = namesLUNs
    let found = changes(plan, observation).allDiagnostics.first { $0.code == PlanningCode.lunsNotNamed }
    #expect((found != nil) == isSaid)
    #expect(!isSaid || found?.advice.contains("azure-vm-utils") == true)
    // What is attached already was found.
    var live = liveObservation(plan, .tracking)
    live.hosts[HostName("db-azure")]?.state?.namesLUNs = namesLUNs
    #expect(!changes(plan, live).codes.contains(PlanningCode.lunsNotNamed))
  }

  @Test func aHostWhoseClockIsOffIsSaidAndHoldsNothing() {
    let plan = samplePlan(.synchronized)
    var observation = bareObservation(plan)
    let steps = changes(plan, observation).migrations[0].changes
    observation.hosts[HostName("db-azure")]?.state?.clockAheadSeconds = 3601
    observation.hosts[HostName("db")]?.state?.clockAheadSeconds = -420
    let found = changes(plan, observation)
    let said = found.allDiagnostics.filter { $0.code == PlanningCode.clockOff }
    #expect(said.map(\.severity) == [.warning, .warning])
    #expect(
      said.map(\.message).sorted() == [
        "erp: the clock of db is 7 min behind this machine's",
        "erp: the clock of db-azure is 60 min ahead of this machine's",
      ])
    #expect(found.migrations[0].changes == steps)
  }

  @Test func aFaultOfOneMachineOrDiskHoldsOnlyThoseWhoNeedIt() {
    let plan = samplePlan(.synchronized)
    func refused(_ fault: ObservationFault) -> Bool {
      var observation = liveObservation(plan, .tracking)
      observation.clouds["azure"]?.faults = [fault]
      return changes(plan, observation).codes.contains(PlanningCode.cloudNotObserved)
    }
    var fault = ObservationFault(part: "virtual machine other", code: "CMC3106", message: "409", advice: "")
    #expect(refused(fault), "what is said of nobody concerns everybody")
    fault.migrations = [MigrationName("hr")]
    #expect(!refused(fault))
    fault.migrations = [MigrationName("erp"), MigrationName("hr")]
    #expect(refused(fault))
  }

  @Test func aFaultIsShownAtTheLineItBlames() {
    var plan = samplePlan(.synchronized)
    let line = SourcePosition(file: "plan.yaml", line: 12, column: 17)
    plan.integrations["azure"]?.places[.subscription] = line
    var observation = liveObservation(plan, .tracking)
    observation.clouds["azure"]?.faults = [
      ObservationFault(part: "disks", code: "CMC3112", message: "404", advice: "", field: .subscription)
    ]
    #expect(changes(plan, observation).allDiagnostics.first?.position == line)
  }
}
