import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Testing

/// Disks that exist: growing, detaching, and deleting only what may be deleted.
@Suite(.timeLimit(.minutes(2))) struct ChangingTests {
  @Test func aDiskGrowsOnceAndNeverShrinks() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data", sizeGiB: 2))
      let grown = try await gateway.change(disk.resourceID, to: .init(sizeGiB: 5))
      #expect(grown.sizeBytes == 5 << 30)
      #expect(try await gateway.change(disk.resourceID, to: .init(sizeGiB: 3)) == grown)
      #expect(try await lab.requests("disks/data").filter { $0.hasPrefix("PATCH") } == ["PATCH 202"])
    }
  }

  @Test func performanceIsChangedWhereTheSKUHasIt() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("fast", sku: "PremiumV2_LRS", sizeGiB: 100, zone: "1"))
      let faster = try await gateway.change(disk.resourceID, to: .init(iops: 8000, megabytesPerSecond: 400))
      #expect(faster.iops == 8000 && faster.megabytesPerSecond == 400)
      let error = await #expect(throws: GatewayError.self) {
        try await gateway.change(disk.resourceID, to: .init(iops: 90_000))
      }
      #expect(error?.message.contains("diskIOPSReadWrite") == true)
      #expect(error?.message.contains("[request ") == true)
    }
  }

  @Test func disksAreDetachedByOneCallAndTheDevicesGo() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      var disks: [(diskID: String, caching: ManagedDisk.Caching)] = []
      for name in ["a", "b", "c"] {
        let disk = try await gateway.ensureDisk(World.request(name, tags: World.tags(volume: name)))
        disks.append((disk.resourceID, .none))
      }
      _ = try await gateway.attach(disks, to: "erp-db")
      try await gateway.detach(Array(disks.map(\.diskID).prefix(2)), from: "erp-db")
      #expect(try await gateway.machine("erp-db")?.attachments.map(\.lun) == [2])
      #expect(!FileManager.default.fileExists(atPath: "\(lab.directory)/erp-db/dev/disk/azure/scsi1/lun0"))
      try await gateway.detach(disks.map(\.diskID), from: "no-such-machine")
      #expect(try await lab.requests("attachDetachDataDisks") == ["POST 200", "POST 200"])
    }
  }

  @Test func onlyAFreeDiskOfThePlanIsDeleted() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let ours = try await gateway.ensureDisk(World.request("ours"))
      let other = World.tags(plan: PlanID("11111111-2222-3333-4444-555555555555"))
      let foreign = try await gateway.ensureDisk(World.request("foreign", tags: other))
      _ = try await gateway.attach([(ours.resourceID, .none)], to: "erp-db")
      let attached = await #expect(throws: GatewayError.self) {
        try await gateway.delete(ours.resourceID, of: World.plan)
      }
      #expect(attached?.code == "CMC3113")
      let refused = await #expect(throws: GatewayError.self) {
        try await gateway.delete(foreign.resourceID, of: World.plan)
      }
      #expect(refused?.code == "CMC3111")
      #expect(try await lab.requests("disks/").filter { $0.hasPrefix("DELETE") }.isEmpty)
      try await gateway.detach([ours.resourceID], from: "erp-db")
      try await gateway.delete(ours.resourceID, of: World.plan)
      try await gateway.delete(ours.resourceID, of: World.plan)
      #expect(try await gateway.disk(ours.resourceID) == nil)
      #expect(try await gateway.disk(foreign.resourceID) != nil)
    }
  }
}
