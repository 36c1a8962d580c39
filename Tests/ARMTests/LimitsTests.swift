import ARMClient
import ARMEmulator
import Foundation
import LinuxPlatform
import Planning
import Seams
import Testing

/// What preflight learns of the cloud, and that the smallest role has what it asks for.
@Suite(.timeLimit(.minutes(10))) struct LimitsTests {
  @Test func skusQuotaAndPermissionsAreSeen() async throws {
    let directory = FileManager.default.temporaryDirectory.path + "/cmc-arm-\(SystemRandom().uuid())"
    defer { try? Files.removeTree(directory) }
    var configuration = EmulatorConfiguration(
      stateDirectory: directory, machines: [], timeScale: 500, clientSecret: World.secretValue)
    configuration.restrictedSKUs = ["ultrassd_lrs"]
    configuration.quotas = ["premiumdiskcount": 3]
    configuration.deniedActions = ["microsoft.compute/virtualmachines/write"]
    try await EmulatorServer.withServer(configuration) { url in
      let limits = try #require(try await World.gateway(url).limits())
      #expect(limits.disks["Premium_LRS"] == CloudLimits.DiskKind(zones: ["1", "2", "3"], restriction: nil))
      #expect(limits.disks["UltraSSD_LRS"]?.restriction == "NotAvailableForSubscription")
      #expect(limits.dataDisks["Standard_D8s_v5"] == 16)
      #expect(limits.disksLeft["Premium_LRS"] == 3)
      #expect(limits.missingActions == ["Microsoft.Compute/virtualMachines/write"])
      let asked = [limits.answers?.skus, limits.answers?.usages, limits.answers?.permissions].compactMap(\.?.requestID)
      #expect(Set(asked).count == 3, "each list has an answer of its own")
    }
  }

  @Test func whatMayNotBeReadIsSaidAndTheRestIsChecked() async throws {
    try await World.withEmulator { lab in
      try await lab.fault(#"{"match": "compute/skus", "status": 403, "code": "AuthorizationFailed"}"#)
      let limits = try #require(try await lab.gateway().limits())
      #expect(limits.unchecked == ["SKUs"])
      #expect(limits.disks.isEmpty && limits.disksLeft["Premium_LRS"] == 50_000)
    }
  }

  private struct Role: Decodable {
    var Actions: [String]
  }

  @Test func theSmallestRoleHasWhatPreflightAsksFor() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let role = try JSONDecoder().decode(
      Role.self, from: try Data(contentsOf: root.appendingPathComponent("examples/azure/role.json")))
    #expect(Set(CloudLimits.neededActions).isSubset(of: role.Actions))
    #expect(!role.Actions.contains { $0.contains("*") || $0.hasSuffix("/delete") })
  }
}
