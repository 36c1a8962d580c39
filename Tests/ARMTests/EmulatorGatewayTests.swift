import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Testing

/// The client against the emulator, over HTTP on loopback.
@Suite(.timeLimit(.minutes(10))) struct EmulatorGatewayTests {
  @Test func aDiskIsMadeOnceAndFoundAgain() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let made = try await gateway.ensureDisk(World.request("erp-data", sizeGiB: 2))
      #expect(made.sizeBytes == 2 << 30)
      #expect(made.state == .unattached)
      #expect(made.iops == 120)
      #expect(made.provisioningState == "Succeeded")
      let again = try await gateway.ensureDisk(World.request("erp-data", sizeGiB: 2))
      #expect(again == made)
      #expect(try await lab.requests("disks/erp-data").filter { $0 == "PUT 202" }.count == 1)
      #expect(try await gateway.disks(of: World.plan).map(\.name) == ["erp-data"])
      #expect(try await gateway.disks(of: PlanID("another")).isEmpty)
      #expect(try await gateway.disk(made.resourceID) == made)
      #expect(try await gateway.disk("nothing-here") == nil)
    }
  }

  @Test func aDiskOfAKilledRunIsAdoptedByTheNext() async throws {
    try await World.withEmulator { lab in
      // The first run dies while the disk is being made: its task is cancelled in the middle of waiting for a status.
      try await lab.fault(#"{"match": "diskoperations", "delay": 120}"#)
      let first = Task { try await lab.gateway().ensureDisk(World.request("erp-data")) }
      while try await lab.requests("disks/erp-data").contains("PUT 202") == false {}
      first.cancel()
      await #expect(throws: GatewayError.self) { try await first.value }
      let disk = try await lab.gateway().ensureDisk(World.request("erp-data"))
      #expect(disk.provisioningState == "Succeeded")
      #expect(try await lab.requests("disks/erp-data").filter { $0.hasPrefix("PUT") }.count == 1)
    }
  }

  @Test func someoneElsesDiskIsRefused() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let other = World.tags(plan: PlanID("11111111-2222-3333-4444-555555555555"))
      _ = try await gateway.ensureDisk(World.request("taken", tags: other))
      let error = await #expect(throws: GatewayError.self) { try await gateway.ensureDisk(World.request("taken")) }
      #expect(error?.code == "CMC3111")
      #expect(error?.disposition == .needsOperator)
      #expect(error?.message.contains("11111111-2222-3333-4444-555555555555") == true)
    }
  }

  @Test func tagsOfOthersStayWhenOursAreSet() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      var tags = World.tags()
      tags["costCenter"] = "4711"
      let disk = try await gateway.ensureDisk(World.request("erp-data", tags: tags))
      let tagged = try await gateway.setTags(["cmcplan-state": "finalized"], ofDisk: disk.resourceID)
      #expect(tagged.tags["cmcplan-state"] == "finalized")
      #expect(tagged.tags["costCenter"] == "4711")
      _ = try await gateway.setTags(["cmcplan-state": "finalized"], ofDisk: disk.resourceID)
      #expect(try await lab.requests("disks/erp-data").filter { $0.hasPrefix("PATCH") }.count == 1)
    }
  }

  @Test func twoDisksAreAttachedByOneCallAndTheHostGetsDevices() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let data = try await gateway.ensureDisk(World.request("data", sizeGiB: 1))
      let log = try await gateway.ensureDisk(World.request("log", sizeGiB: 3, tags: World.tags(volume: "log")))
      let machine = try #require(try await gateway.machine("ERP-DB"))
      #expect(machine.attachments.isEmpty)
      #expect(machine.size == "Standard_D4s_v5")
      let wanted: [(diskID: String, caching: ManagedDisk.Caching)] = [
        (data.resourceID, .none), (log.resourceID, .readOnly),
      ]
      let attached = try await gateway.attach(wanted, to: machine.resourceID)
      #expect(attached.map(\.lun) == [0, 1])
      #expect(try await lab.requests("attachDetachDataDisks") == ["POST 200"])
      let device = "\(lab.directory)/erp-db/dev/disk/azure/scsi1/lun1"
      #expect(try Files.facts(device).sizeBytes == 3 << 30)
      // Once more: nothing is left to do, and nothing is sent.
      #expect(try await gateway.attach(wanted, to: machine.resourceID) == attached)
      #expect(try await lab.requests("attachDetachDataDisks").count == 1)
      let seen = try #require(try await gateway.disk(data.resourceID))
      #expect(seen.state == .attached)
      #expect(seen.attachedTo?.lowercased() == machine.resourceID.lowercased())
    }
  }

  @Test func aLostAnswerToAnAttachIsNotAskedAgain() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data"))
      try await lab.fault(#"{"match": "attachdetachdatadisks", "drop": "after"}"#)
      let attached = try await gateway.attach([(disk.resourceID, .none)], to: "erp-db")
      #expect(attached.map(\.lun) == [0])
      #expect(try await lab.requests("attachDetachDataDisks").count == 1)
    }
  }

  @Test func lostAnswersAndUnwellServicesMakeNoSecondDisk() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      try await lab.fault(
        #"""
        [{"match": "put /subscriptions", "drop": "after"}, {"match": "get /subscriptions", "status": 503, "times": 2},
         {"match": "diskoperations", "status": 500, "times": 3}, {"match": "diskoperations", "drop": "before"}]
        """#)
      let disk = try await gateway.ensureDisk(World.request("data"))
      #expect(disk.provisioningState == "Succeeded")
      #expect(try await gateway.disks(of: World.plan).count == 1)
    }
  }

  @Test func anAttachThatAzurePreemptsIsRepeated() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data"))
      try await lab.fault(#"{"match": "attachdetach", "operation": {"code": "OperationPreempted"}}"#)
      let attached = try await gateway.attach([(disk.resourceID, .none)], to: "erp-db")
      #expect(attached.map(\.lun) == [0])
      #expect(try await lab.requests("attachDetachDataDisks").count == 2)
    }
  }

  @Test func attachmentsOfRivalsGetALUNEach() async throws {
    try await World.withEmulator(timeScale: 2000, throttling: false) { lab in
      let gateway = try lab.gateway()
      var ids: [String] = []
      for number in 0..<6 {
        let tags = World.tags(volume: "v\(number)")
        ids.append(try await gateway.ensureDisk(World.request("disk\(number)", tags: tags)).resourceID)
      }
      let luns = try await withThrowingTaskGroup(of: [CloudAttachment].self) { group in
        for pair in [ids[0...1], ids[2...3], ids[4...5]] {
          let rival = try lab.gateway()
          group.addTask { try await rival.attach(pair.map { ($0, .none) }, to: "erp-db") }
        }
        var luns: [Int] = []
        for try await attached in group { luns += attached.map(\.lun) }
        return luns
      }
      #expect(luns.sorted() == [0, 1, 2, 3, 4, 5])
    }
  }

  @Test func aDiskThatAnotherMachineHasIsNamed() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data"))
      _ = try await gateway.attach([(disk.resourceID, .none)], to: "other")
      let error = await #expect(throws: GatewayError.self) {
        try await gateway.attach([(disk.resourceID, .none)], to: "erp-db")
      }
      #expect(error?.code == "CMC3113")
      #expect(error?.message.contains("ConflictingUserInput") == true)
    }
  }

  @Test func throttlingIsWaitedOutAndShown() async throws {
    try await World.withEmulator { lab in
      let waits = Waits()
      let gateway = try lab.gateway(waits: waits)
      try await lab.fault(#"{"match": "put /subscriptions", "status": 429, "retryAfter": 1, "times": 2}"#)
      _ = try await gateway.ensureDisk(World.request("data"))
      #expect(waits.all.filter { $0.why.contains("throttled") }.count == 2)
      #expect(waits.all.first?.description.hasPrefix("waiting for Azure: 1 s (throttled by the service") == true)
    }
  }

  @Test func aWrongSecretIsSaidWithoutShowingIt() async throws {
    try await World.withEmulator { lab in
      let error = await #expect(throws: GatewayError.self) {
        try await lab.gateway(secret: "wrong-s3cret").machine("erp-db")
      }
      #expect(error?.code == "CMC3102")
      #expect(error?.disposition == .needsOperator)
      #expect(error?.message.contains("AADSTS7000215") == true)
      #expect(error?.description.contains("s3cret") == false)
      let wrongTenant = await #expect(throws: GatewayError.self) {
        try await lab.gateway(tenant: "99999999-0000-0000-0000-000000000000").machine("erp-db")
      }
      #expect(wrongTenant?.advice.contains("tenantId") == true)
    }
  }

  @Test func aRevokedTokenIsReplaced() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      #expect(try await gateway.machine("erp-db") != nil)
      _ = try await lab.control(.delete, "tokens")
      #expect(try await gateway.machine("erp-db") != nil)
      #expect(try await lab.requests("oauth2").count == 2)
    }
  }

  @Test func aDiskThatAGuestHoldsIsNamedWithAzuresWords() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data"))
      try await lab.fault(
        #"{"match": "attachdetach", "status": 409, "code": "AttachDiskWhileBeingDetached", "times": 99}"#)
      let error = await #expect(throws: GatewayError.self) {
        try await gateway.attach([(disk.resourceID, .none)], to: "erp-db")
      }
      #expect(error?.message.contains("409 AttachDiskWhileBeingDetached") == true)
      #expect(error?.message.contains("[request ") == true && error?.advice.contains("hasn't let go") == true)
      try await lab.fault(#"{"match": "patch /subscriptions", "status": 409, "code": "Conflict", "times": 99}"#)
      let busy = await #expect(throws: GatewayError.self) {
        try await gateway.setTags(["k": "v"], ofDisk: disk.resourceID)
      }
      #expect(busy?.message.contains("10 attempts; the last one: 409 Conflict") == true, "\(busy?.message ?? "")")
    }
  }

  @Test func aMachineThatIsNotThereIsNilToFindAndAnErrorToAttachTo() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      let reading = try await gateway.machineReading("gone")
      #expect(reading.value == nil && reading.answer?.refusal == "404 ResourceNotFound")
      #expect(reading.answer?.requestID?.isEmpty == false && reading.answer?.clientRequestID.isEmpty == false)
      let disk = try await gateway.ensureDisk(World.request("data"))
      let error = await #expect(throws: GatewayError.self) {
        try await gateway.attach([(disk.resourceID, .none)], to: "gone")
      }
      #expect(error?.code == "CMC3112")
      #expect(error?.message.contains("'gone'") == true && error?.message.contains("[request ") == true)
    }
  }

  @Test func moreDisksThanTheSizeAllowsAreRefusedWithTheReason() async throws {
    try await World.withEmulator(throttling: false) { lab in
      let gateway = try lab.gateway()
      var disks: [(diskID: String, caching: ManagedDisk.Caching)] = []
      for number in 0..<9 {
        let tags = World.tags(volume: "v\(number)")
        disks.append((try await gateway.ensureDisk(World.request("d\(number)", tags: tags)).resourceID, .none))
      }
      let wanted = disks
      let error = await #expect(throws: GatewayError.self) { try await gateway.attach(wanted, to: "erp-db") }
      #expect(error?.code == "CMC3114")
      #expect(error?.advice.contains("larger machine size") == true)
    }
  }

  @Test func overHTTPSTheEmulatorsOwnAuthorityIsNeeded() async throws {
    try await World.withEmulator(https: true) { lab in
      let machine = try await lab.gateway().machine("erp-db")
      #expect(machine?.name == "erp-db")
      let error = await #expect(throws: GatewayError.self) { try await World.gateway(lab.url).machine("erp-db") }
      #expect(error?.code == "CMC3105")
      let key = try Files.facts("\(lab.directory)/state/tls/server.key")
      #expect(key.mode & 0o077 == 0)
    }
  }

  @Test func everythingIsThereAfterARestart() async throws {
    let directory = FileManager.default.temporaryDirectory.path + "/cmc-arm-restart-\(UInt64.random(in: 0 ... .max))"
    defer { try? Files.removeTree(directory) }
    let before = try await World.withEmulator(in: directory) { lab in
      let gateway = try lab.gateway()
      let disk = try await gateway.ensureDisk(World.request("data"))
      _ = try await gateway.attach([(disk.resourceID, .none)], to: "erp-db")
      return try await gateway.disk(disk.resourceID)
    }
    try Files.remove("\(directory)/erp-db/dev/disk/azure/scsi1/lun0")
    try await World.withEmulator(in: directory) { lab in
      let gateway = try lab.gateway()
      let disk = try #require(try await gateway.disk("data"))
      #expect(disk == before)
      #expect(try await gateway.machine("erp-db")?.attachments.map(\.lun) == [0])
      #expect(try Files.facts("\(directory)/erp-db/dev/disk/azure/scsi1/lun0").sizeBytes == 1 << 30)
    }
    let state = try Files.readText("\(directory)/state/state.json")
    #expect(!state.contains(World.secretValue))
  }
}
