import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Testing

/// Disks that exist become what is asked for, as far as their data and users stay where they are.
@Suite(.timeLimit(.minutes(2))) struct ChangingTests {
  @Test func aDiskGrowsOnceNeverShrinksAndStaysWhileItIsAttached() async throws {
    try await World.withEmulator { lab in
      let gateway = try lab.gateway()
      _ = try await gateway.ensureDisk(World.request("data", sizeGiB: 2))
      let grown = try await gateway.ensureDisk(World.request("data", sizeGiB: 5))
      #expect(grown.sizeBytes == 5 << 30)
      #expect(try await gateway.ensureDisk(World.request("data", sizeGiB: 3)) == grown)
      _ = try await gateway.attach([(grown.resourceID, .none)], to: "erp-db")
      #expect(try await gateway.ensureDisk(World.request("data", sizeGiB: 9)).sizeBytes == 5 << 30)
      #expect(try await lab.requests("disks/data").filter { $0.hasPrefix("PATCH") } == ["PATCH 202"])
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
      // The others have what their size gives them; what is asked there is the reader's to refuse.
      var plain = World.request("plain", sizeGiB: 2)
      _ = try await gateway.ensureDisk(plain)
      plain.iops = 5000
      #expect(try await gateway.ensureDisk(plain).sizeBytes == 2 << 30)
      #expect(try await lab.requests("disks/plain").filter { $0.hasPrefix("PATCH") } == [])
    }
  }
}
