import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

/// A size that the plan names is held against the source and against the disk.
@Suite struct DiskSizeTests {
  private func sized(_ bytes: UInt64) -> MigrationPlan {
    var plan = samplePlan(.synchronized)
    if case .disk(var disk) = plan.erp.volumes[0].destination {
      disk.size = .bytes(bytes)
      plan.erp.volumes[0].destination = .disk(disk)
    }
    return plan
  }

  @Test func aNewDiskSmallerThanItsSourceIsRefused() {
    let plan = sized(1 << 30)
    // The agent was there to look at the source; the disk is not made yet.
    var observation = liveObservation(plan, .prepared)
    observation.clouds["azure"]?.disks = []
    let found = changes(plan, observation)
    #expect(found.codes.contains(PlanningCode.destinationTooSmall))
    #expect(found.allDiagnostics.contains { $0.advice.contains("size: auto") })
  }

  @Test func aDiskIsNotShrunk() {
    let plan = sized(1 << 40)
    var observation = liveObservation(plan, .prepared)
    #expect(!changes(plan, observation).codes.contains(PlanningCode.diskDiffers))
    observation.clouds["azure"]?.disks[0].sizeBytes = 2 << 40
    let found = changes(plan, observation)
    #expect(found.codes.contains(PlanningCode.diskDiffers))
    #expect(found.allDiagnostics.contains { $0.advice.contains("can't shrink") && $0.advice.contains("2048 GiB") })
  }

  @Test(arguments: [(true, false), (false, true), (nil, false)])
  func anUltraDiskNeedsAMachineThatCanHaveIt(_ canHave: Bool?, _ isRefused: Bool) {
    var plan = samplePlan(.synchronized)
    plan.erp.volumes[0].destination = .disk(ManagedDisk(sku: .ultra, size: .auto))
    var observation = bareObservation(plan)
    observation.clouds["azure"]?.machines["vm"]?.ultraDisks = canHave
    let found = changes(plan, observation)
    #expect(found.codes.contains(PlanningCode.machineWithoutUltra) == isRefused)
    #expect(!isRefused || found.allDiagnostics.contains { $0.advice.contains("--ultra-ssd-enabled") })
  }
}
