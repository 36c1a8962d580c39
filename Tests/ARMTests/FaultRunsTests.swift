import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import TestSupport
import Testing

/// Seeded runs of the client against the emulator with everything going wrong on the way.
@Suite(.timeLimit(.minutes(5))) struct FaultRunsTests {
  static let faults = [
    #"{"match": "get /subscriptions", "status": 503, "times": 2}"#,
    #"{"match": "put /subscriptions", "drop": "after"}"#,
    #"{"match": "put /subscriptions", "drop": "before"}"#, #"{"match": "operations", "status": 500, "times": 3}"#,
    #"{"match": "operations", "drop": "before", "times": 2}"#, #"{"match": "attachdetach", "drop": "after"}"#,
    #"{"match": "attachdetach", "drop": "before"}"#, #"{"match": "attachdetach", "status": 500}"#,
    #"{"match": "attachdetach", "operation": {"code": "OperationPreempted"}}"#,
    #"{"match": "attachdetach", "status": 409, "code": "Conflict"}"#,
    #"{"match": "put /subscriptions", "status": 409, "code": "Conflict"}"#,
    #"{"match": "/subscriptions", "status": 429, "retryAfter": 0.05, "times": 3}"#,
    #"{"match": "oauth2", "status": 503}"#, #"{"match": "/subscriptions", "delay": 0.05, "times": 4}"#,
    #"{"match": "operations", "status": 404, "times": 4}"#,
    #"{"match": "get /subscriptions", "status": 401, "code": "ExpiredAuthenticationToken"}"#,
  ]

  /// `make test-full` asks for 200.
  static let runs = ProcessInfo.processInfo.environment["CMC_FAULT_RUNS"].flatMap(Int.init) ?? 10

  @Test(arguments: 1...runs) func noFaultMakesASecondDiskOrSharesALUN(seed: Int) async throws {
    try await World.withEmulator(timeScale: 1000, throttling: false) { lab in
      let random = SeededRandom(seed: UInt64(seed))
      for _ in 0..<5 {
        guard let fault = random.pick(Self.faults) else { continue }
        try await lab.fault(fault)
      }
      // Two runs at once, as when somebody starts a second apply; each may be told to come back.
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<2 {
          group.addTask { _ = try? await Self.migrate(lab) }
        }
      }
      _ = try await lab.control(.delete, "faults")
      let attached = try await Self.migrate(lab)
      let gateway = try lab.gateway()
      #expect(try await gateway.disks(of: World.plan).map(\.name) == ["data", "log"])
      let machine = try #require(try await gateway.machine("erp-db"))
      #expect(machine.attachments.count == 2)
      #expect(Set(machine.attachments.map(\.lun)).count == 2)
      #expect(Set(attached.map(\.lun)) == Set(machine.attachments.map(\.lun)))
      for attachment in attached {
        let device = "\(lab.directory)/erp-db/dev/disk/azure/scsi1/lun\(attachment.lun)"
        #expect(FileManager.default.fileExists(atPath: device))
      }
    }
  }

  static func migrate(_ lab: Lab) async throws -> [CloudAttachment] {
    let gateway = try lab.gateway()
    let data = try await gateway.ensureDisk(World.request("data"))
    let log = try await gateway.ensureDisk(World.request("log", tags: World.tags(volume: "log")))
    return try await gateway.attach([(data.resourceID, .none), (log.resourceID, .none)], to: "erp-db")
  }
}
