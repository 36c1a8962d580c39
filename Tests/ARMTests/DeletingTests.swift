import ARMClient
import BlockModel
import MigrationModel
import Planning
import Reconciling
import Testing

/// Detaching and deleting, which only `destroy` asks for.
@Suite(.timeLimit(.minutes(10))) struct DeletingTests {
  @Test func disksAreDetachedByOneCallAndDeletedOnce() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let data = try await gateway.ensureDisk(World.request("data"))
      let log = try await gateway.ensureDisk(World.request("log", tags: World.tags(volume: "log")))
      _ = try await gateway.attach([(data.resourceID, .none), (log.resourceID, .none)], to: "erp-db")
      let inUse = await #expect(throws: GatewayError.self) {
        try await gateway.deleteDisk(data.resourceID, of: World.plan)
      }
      #expect(inUse?.message.contains("it is in use") == true)
      try await gateway.detach([data.resourceID, log.resourceID], from: "erp-db")
      #expect(try await gateway.machine("erp-db")?.attachments.isEmpty == true)
      #expect(try await lab.requests("attachDetach").count == 2)
      // Once more there is nothing left to do, and nothing is sent.
      try await gateway.detach([data.resourceID, log.resourceID], from: "erp-db")
      #expect(try await lab.requests("attachDetach").count == 2)
      try await gateway.deleteDisk(data.resourceID, of: World.plan)
      try await gateway.deleteDisk(data.resourceID, of: World.plan)
      #expect(try await lab.requests("disks/data").filter { $0.hasPrefix("DELETE") } == ["DELETE 202"])
      #expect(try await gateway.disks(of: World.plan).map(\.name) == ["log"])
    }
  }

  @Test func lostAnswersDeleteNothingElse() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let data = try await gateway.ensureDisk(World.request("data"))
      _ = try await gateway.ensureDisk(World.request("log", tags: World.tags(volume: "log")))
      _ = try await gateway.attach([(data.resourceID, .none)], to: "erp-db")
      try await lab.fault(
        #"""
        [{"match": "attachdetach", "drop": "after"}, {"match": "delete /subscriptions", "drop": "after"},
         {"match": "operations", "status": 500, "times": 3}]
        """#)
      try await gateway.detach([data.resourceID], from: "erp-db")
      try await gateway.deleteDisk(data.resourceID, of: World.plan)
      #expect(try await gateway.disks(of: World.plan).map(\.name) == ["log"])
    }
  }

  @Test func whatIsNotThisPlansOrIsFinishedStays() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data"))
      let foreign = await #expect(throws: GatewayError.self) {
        try await gateway.deleteDisk(disk.resourceID, of: PlanID("11111111-2222-3333-4444-555555555555"))
      }
      #expect(foreign?.code == "CMC3111")
      _ = try await gateway.setTags(["cmcplan-state": "finalized"], ofDisk: disk.resourceID)
      let finished = await #expect(throws: GatewayError.self) {
        try await gateway.deleteDisk(disk.resourceID, of: World.plan)
      }
      #expect(finished?.message.contains("an application lives on it") == true)
      #expect(try await lab.requests("disks/data").filter { $0.hasPrefix("DELETE") } == [])
    }
  }
}
