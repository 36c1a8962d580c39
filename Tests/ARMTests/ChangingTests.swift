import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import TestSupport
import Testing

/// Disks that exist become what is asked for, as far as their data and users stay where they are.
@Suite(.timeLimit(.minutes(10))) struct ChangingTests {
  @Test func aDiskGrowsFreeAndInUseAndNeverShrinks() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      _ = try await gateway.ensureDisk(World.request("data", sizeGiB: 2))
      let grown = try await gateway.ensureDisk(World.request("data", sizeGiB: 5))
      #expect(grown.sizeBytes == 5 << 30)
      #expect(try await gateway.ensureDisk(World.request("data", sizeGiB: 3)) == grown)
      _ = try await gateway.attach([(grown.resourceID, .none)], to: "erp-db")
      #expect(try await gateway.ensureDisk(World.request("data", sizeGiB: 9)).sizeBytes == 9 << 30)
      #expect(try Files.facts("\(lab.directory)/erp-db/dev/disk/azure/scsi1/lun0").sizeBytes == 9 << 30)
      #expect(try await lab.requests("disks/data").filter { $0.hasPrefix("PATCH") } == ["PATCH 202", "PATCH 202"])
    }
  }

  /// Runs in virtual time, without files: its disks are large.
  private func inVirtualTime(_ body: @escaping @Sendable (SimulatedWorld) async throws -> Void) async throws {
    let failure = try await onBlockingThread { () -> String? in
      let world = SimulatedWorld(seed: 5, machines: [.init(name: "erp-db", zone: "1")], throttling: false)
      let result: String?? = world.loop.run {
        do {
          try await body(world)
          return nil
        } catch {
          return "\(error)"
        }
      }
      return result ?? "it waits for what never comes"
    }
    #expect(failure == nil)
  }

  @Test func onlyWhatAzureGrowsInUseIsAskedFor() async throws {
    try await inVirtualTime { world in
      let gateway = try world.gateway()
      let small = try await gateway.ensureDisk(World.request("data", sizeGiB: 4096, zone: "1"))
      let fast = World.request("fast", sku: "PremiumV2_LRS", sizeGiB: 4096, zone: "1", tags: World.tags(volume: "fast"))
      let other = try await gateway.ensureDisk(fast)
      _ = try await gateway.attach([(small.resourceID, .none), (other.resourceID, .none)], to: "erp-db")
      // Past 4 TiB a Premium disk grows only while nobody has it; PremiumV2 has no such border.
      let same = try await gateway.ensureDisk(World.request("data", sizeGiB: 5000, zone: "1"))
      #expect(same.sizeBytes == 4096 << 30)
      #expect(world.azure.requests("disks/data").filter { $0.hasPrefix("PATCH") } == [])
      var larger = fast
      larger.sizeGiB = 5000
      #expect(try await gateway.ensureDisk(larger).sizeBytes == 5000 << 30)
    }
  }

  @Test func aFreeDiskBecomesAnotherKindWithItsPerformance() async throws {
    try await inVirtualTime { world in
      let gateway = try world.gateway()
      _ = try await gateway.ensureDisk(World.request("data", sizeGiB: 100, zone: "1"))
      let cheap = try await gateway.ensureDisk(World.request("data", sku: "StandardSSD_LRS", sizeGiB: 100, zone: "1"))
      #expect(cheap.sku == "StandardSSD_LRS")
      var request = World.request("data", sku: "PremiumV2_LRS", sizeGiB: 120, zone: "1")
      (request.iops, request.megabytesPerSecond) = (9000, 300)
      let fast = try await gateway.ensureDisk(request)
      #expect(fast.sku == "PremiumV2_LRS" && fast.sizeBytes == 120 << 30)
      #expect(fast.iops == 9000 && fast.megabytesPerSecond == 300)
      // There is no way back, and none from or to Ultra: nothing is asked for.
      let asked = world.azure.requests("disks/data").count
      for sku in ["Premium_LRS", "UltraSSD_LRS"] {
        #expect(try await gateway.ensureDisk(World.request("data", sku: sku, sizeGiB: 120, zone: "1")).sku == fast.sku)
      }
      #expect(world.azure.requests("disks/data")[asked...].allSatisfy { $0.hasPrefix("GET") })
    }
  }

  @Test func aDiskInUseKeepsItsKind() async throws {
    try await inVirtualTime { world in
      let gateway = try world.gateway()
      let disk = try await gateway.ensureDisk(World.request("data", sizeGiB: 100, zone: "1"))
      _ = try await gateway.attach([(disk.resourceID, .none)], to: "erp-db")
      let same = try await gateway.ensureDisk(World.request("data", sku: "StandardSSD_LRS", sizeGiB: 100, zone: "1"))
      #expect(same.sku == "Premium_LRS")
      #expect(world.azure.requests("disks/data").filter { $0.hasPrefix("PATCH") } == [])
    }
  }

  @Test func performanceIsChangedWhereTheSKUHasIt() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      var request = World.request("fast", sku: "PremiumV2_LRS", sizeGiB: 100, zone: "1")
      _ = try await gateway.ensureDisk(request)
      (request.iops, request.megabytesPerSecond) = (8000, 400)
      let faster = try await gateway.ensureDisk(request)
      #expect(faster.iops == 8000 && faster.megabytesPerSecond == 400)
      #expect(try await gateway.ensureDisk(request) == faster)
      #expect(try await lab.requests("disks/fast").filter { $0.hasPrefix("PATCH") } == ["PATCH 202"])
      var impossible = request
      impossible.iops = 90_000
      let asked = impossible
      let error = await #expect(throws: GatewayError.self) { try await gateway.ensureDisk(asked) }
      #expect(error?.message.contains("diskIOPSReadWrite") == true)
      #expect(error?.message.contains("[request ") == true)
      #expect(error?.field == .iops)
      // The others have what their size gives them; what is asked there is the reader's to refuse.
      var plain = World.request("plain", sizeGiB: 2)
      _ = try await gateway.ensureDisk(plain)
      plain.iops = 5000
      #expect(try await gateway.ensureDisk(plain).sizeBytes == 2 << 30)
      #expect(try await lab.requests("disks/plain").filter { $0.hasPrefix("PATCH") } == [])
    }
  }
}

/// How often Azure lets a disk's performance be set.
@Suite(.timeLimit(.minutes(10))) struct ChangeLimitTests {
  @Test func theFifthSettingOfADayIsRefusedAndOneOfTheNextDayIsNot() async throws {
    let time = ManualTime()
    let azure = EmulatorInMemory(
      EmulatorConfiguration(
        stateDirectory: "", machines: [], clientSecret: World.secretValue, throttling: false),
      now: time.wallNow().secondsSince1970
    ) { UUID().uuidString.lowercased() }
    let services = ClientServices(time: time, random: SeededRandom(seed: 1), pauses: InstantPauses(time)) { _ in }
    let gateway = try AzureGateway(
      integration: World.integration("https://management.azure.com"),
      transport: EmulatedTransport(azure: azure, time: time), services: services,
      environment: ["LAB_SECRET": World.secretValue])
    func disk(_ iops: Int, gib: Int = 100) -> DiskRequest {
      var request = World.request("fast", sku: "PremiumV2_LRS", sizeGiB: gib, zone: "1")
      request.iops = iops
      return request
    }
    for iops in [4000, 5000, 6000, 7000] { _ = try await gateway.ensureDisk(disk(iops)) }
    let error = await #expect(throws: GatewayError.self) { try await gateway.ensureDisk(disk(8000)) }
    #expect(error?.field == .iops && error?.advice.contains("four times in 24 hours") == true, "\(error?.advice ?? "")")
    #expect(error?.message.contains("409 OperationNotAllowed") == true)
    // Its size is another matter, and a day later so is its performance.
    #expect(try await gateway.ensureDisk(disk(7000, gib: 120)).sizeBytes == 120 << 30)
    time.advance(seconds: 86_400)
    #expect(try await gateway.ensureDisk(disk(8000, gib: 120)).iops == 8000)
  }
}

/// Which value of the document a refusal blames, and what it tells to do.
@Suite struct BlameTests {
  private func refused(
    _ status: Int, _ code: String, _ message: String = "m", target: String? = nil, headers: [(String, String)] = []
  ) async throws -> GatewayError? {
    let place = target.map { #","target":"\#($0)""# } ?? ""
    let answer = ScriptedTransport.answer(
      status, #"{"error":{"code":"\#(code)","message":"\#(message)"\#(place)}}"#, headers)
    let (gateway, _, _) = try World.scripted([ScriptedTransport.token, answer, ScriptedTransport.token, answer])
    return await #expect(throws: GatewayError.self) { try await gateway.ensureDisk(World.request("data")) }
  }

  @Test(
    arguments: [
      (401, "InvalidAuthenticationTokenTenant", "m", nil, PlanField.tenant, "another tenant"),
      (403, "AuthorizationFailed", "m", nil, .credential, "role.json"),
      (404, "SubscriptionNotFound", "m", nil, .subscription, "subscriptionId"),
      (404, "ResourceGroupNotFound", "m", nil, .resourceGroup, "az group create"),
      (409, "SkuNotAvailable", "m", nil, .sku, "az vm list-skus"),
      (409, "QuotaExceeded", "m", nil, .sku, "raise the quota"),
      (409, "OperationNotAllowed", "exceeding approved quota", nil, .sku, "raise the quota"),
      (409, "InvalidResourceLocation", "m", nil, .location, "correct location"),
      (400, "InvalidParameter", "m", "disk.diskIOPSReadWrite", .iops, "the plan"),
      (400, "InvalidParameter", "m", "disk.diskSizeGB", .size, "the plan"),
      (400, "InvalidAvailabilityZone", "m", nil, .zone, "the plan"),
      (409, "ConflictingUserInput", "m", nil, .diskName, "the other machine"),
      (404, "NotFoundAtAll", "The Resource 'Microsoft.Compute/virtualMachines/x' was not found", nil, .machine, "name"),
    ] as [(Int, String, String, String?, PlanField, String)]) func aRefusalBlamesAValueOfThePlan(
      status: Int, code: String, message: String, target: String?, field: PlanField, advice: String
    ) async throws
  {
    let error = try await refused(status, code, message, target: target, headers: [("x-ms-request-id", "service-id")])
    #expect(error?.field == field)
    #expect(error?.advice.contains(advice) == true)
    #expect(error?.message.contains(code) == true)
    #expect(error?.message.contains("[request service-id, client request ") == true)
    #expect(error?.disposition == .needsOperator)
  }

  @Test func aClockThatIsOffIsMeasured() async throws {
    // The clock of tests stands long before this date.
    let error = try await refused(
      401, "ExpiredAuthenticationToken", headers: [("Date", "Mon, 23 Nov 2099 15:20:16 GMT")])
    #expect(error?.advice.contains("s behind Azure's: set it by NTP") == true)
    let unknown = try await refused(401, "ExpiredAuthenticationToken")
    #expect(unknown?.advice.contains("this machine's clock") == true)
  }
}
