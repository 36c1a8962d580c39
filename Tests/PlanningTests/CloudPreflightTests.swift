import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

/// What `plan` says of disks that Azure would refuse, before anything is made.
@Suite struct CloudPreflightTests {
  static func codes(
    limits: CloudLimits? = nil, _ change: (inout MigrationPlan, inout CloudMachine) -> Void = { _, _ in }
  ) -> [String] {
    var plan = samplePlan(.prepared)
    var observation = bareObservation(plan)
    guard var cloud = observation.clouds["azure"], var machine = cloud.machines["vm"] else { return ["no machine"] }
    change(&plan, &machine)
    cloud.machines["vm"] = machine
    cloud.limits = limits
    observation.clouds["azure"] = cloud
    return changes(plan, observation).allDiagnostics.filter { $0.severity == .error }.map(\.code)
  }

  /// Each finding tells by which answer of the service it was found.
  @Test func whatWasFoundNamesTheAnswerThatShowedIt() {
    func answer(_ name: String) -> CloudAnswer { CloudAnswer(requestID: name, clientRequestID: "c-\(name)") }
    var limits = Self.allowed
    limits.answers = CloudLimits.Answers(
      skus: answer("skus"), usages: answer("usages"), permissions: answer("permissions"))
    limits.disks = ["Premium_LRS": CloudLimits.DiskKind(zones: [], restriction: "NotAvailableForSubscription")]
    limits.disksLeft = ["Premium_LRS": 0]
    limits.missingActions = ["Microsoft.Compute/disks/write"]
    let plan = samplePlan(.prepared)
    var observation = bareObservation(plan)
    observation.clouds["azure"]?.limits = limits
    let found = changes(plan, observation).allDiagnostics
    for (code, list) in [("CMC2070", "skus"), ("CMC2071", "usages"), ("CMC2073", "permissions")] {
      let message = found.first { $0.code == code }?.message
      #expect(message?.hasSuffix("[request \(list), client request c-\(list)]") == true, "\(code): \(message ?? "")")
    }
    observation = bareObservation(plan)
    observation.clouds["azure"]?.machines = [:]
    var answers = CloudObservation.Answers()
    answers.machines["vm"] = CloudAnswer(
      refusal: "404 ResourceNotFound", requestID: "gone", clientRequestID: "c-gone")
    observation.clouds["azure"]?.answers = answers
    let gone = changes(plan, observation).allDiagnostics.first { $0.code == "CMC2022" }?.message
    #expect(gone?.hasSuffix(": 404 ResourceNotFound [request gone, client request c-gone]") == true, "\(gone ?? "")")
  }

  static let allowed = CloudLimits(
    disks: ["Premium_LRS": CloudLimits.DiskKind(zones: ["1", "2"], restriction: nil)],
    dataDisks: ["Standard_D4s_v5": 8], disksLeft: ["Premium_LRS": 1], missingActions: [])

  static func zone(_ zone: String, _ plan: inout MigrationPlan) {
    guard case .disk(var disk) = plan.erp.volumes[0].destination else { return }
    disk.zone = zone
    plan.erp.volumes[0].destination = .disk(disk)
  }

  @Test func whatIsAllowedIsPlanned() {
    #expect(Self.codes(limits: Self.allowed).isEmpty)
    #expect(Self.codes().isEmpty)
  }

  @Test func limitsThatCouldNotBeAskedHoldOnlyWhoNeedsADisk() {
    let fault = ObservationFault(part: "what new disks may be", code: "CMC4001", message: "HTTP 503", advice: "later")
    let plan = samplePlan(.finalized)
    var bare = bareObservation(plan)
    bare.clouds["azure"]?.limitsFault = fault
    let refused = changes(plan, bare)
    #expect(refused.codes == [PlanningCode.cloudNotObserved])
    #expect(
      refused.allDiagnostics[0].message.contains("it needs a new disk") && refused.migrations[0].actionable.isEmpty)
    #expect(refused.allDiagnostics[0].message.contains("HTTP 503"))
    for stage in [SessionStage.tracking, .standIn, .fenced] {
      var live = liveObservation(plan, stage)
      live.clouds["azure"]?.limitsFault = fault
      #expect(changes(plan, live) == changes(plan, liveObservation(plan, stage)), "its disks are there")
    }
  }

  @Test func aSKUThatCannotBeHadIsRefused() {
    var limits = Self.allowed
    limits.disks = ["StandardSSD_LRS": CloudLimits.DiskKind(zones: [], restriction: nil)]
    #expect(Self.codes(limits: limits) == ["CMC2070"])
    limits.disks = ["Premium_LRS": CloudLimits.DiskKind(zones: [], restriction: "NotAvailableForSubscription")]
    #expect(Self.codes(limits: limits) == ["CMC2070"])
  }

  @Test func aZoneMustBeTheMachinesAndTheSKUs() {
    #expect(Self.codes(limits: Self.allowed) { _, machine in machine.zone = "1" } == ["CMC2072"])
    #expect(Self.codes(limits: Self.allowed) { plan, _ in Self.zone("1", &plan) } == ["CMC2072"])
    let both: (inout MigrationPlan, inout CloudMachine) -> Void = { plan, machine in
      machine.zone = "3"
      Self.zone("3", &plan)
    }
    #expect(Self.codes(limits: Self.allowed, both) == ["CMC2070"])
  }

  @Test func anotherLocationIsRefused() {
    #expect(Self.codes { _, machine in machine.location = "northeurope" } == ["CMC2072"])
  }

  @Test func quotaCountsAndRolesAreHeld() {
    var limits = Self.allowed
    limits.disksLeft = ["Premium_LRS": 0]
    #expect(Self.codes(limits: limits) == ["CMC2071"])
    limits = Self.allowed
    limits.missingActions = ["Microsoft.Compute/disks/write"]
    #expect(Self.codes(limits: limits) == ["CMC2073"])
    let full: (inout MigrationPlan, inout CloudMachine) -> Void = { _, machine in
      machine.attachments = (0..<8).map { CloudAttachment(lun: $0, diskID: "/other\($0)") }
    }
    #expect(Self.codes(limits: Self.allowed, full) == ["CMC2072"])
  }
}
