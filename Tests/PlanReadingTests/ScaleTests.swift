import Foundation
import MigrationModel
import PlanReading
import Testing

@Suite struct ScaleTests {
  /// An estate: each migration between hosts of its own, with ten volumes. About 400 bytes a volume.
  static func estate(migrations: Int) -> String {
    let head = minimalPlan.prefix(upTo: minimalPlan.firstRange(of: "hosts:")?.lowerBound ?? minimalPlan.endIndex)
    var text = String(head) + "hosts:\n"
    for index in 0..<migrations {
      text += """
          source-\(index): {address: host\(index).example.com, ssh: {user: migrate, sudo: true}}
          target-\(index): {address: host\(index).example.net, azureVirtualMachine: vm-\(index)}

        """
    }
    text += "migrations:\n"
    for index in 0..<migrations {
      text += "  app-\(index):\n    source: source-\(index)\n    destination: target-\(index)\n    volumes:\n"
      for volume in 0..<10 {
        text += """
                data-\(volume):
                  # Volume group \(index), one of ten that belong to the same application and swing together.
                  device: /dev/disk/by-id/wwn-0x5000c500\(index)a\(volume)
                  tracking: auto
                  disk:
                    sku: PremiumV2_LRS
                    size: 512 GiB
                    zone: "1"
                    iops: 8000
                    throughput: 400 MB/s
                    tags:
                      application: app-\(index)
                      tier: "data volume \(volume)"

          """
      }
      text += "    iqos: {level: moderate, networkLimit: 400 Mbit/s}\n    cutover:\n      phase: synchronized\n"
    }
    return text
  }

  @Test func anEstateOfThousandsOfVolumesIsRead() {
    let (plan, diagnostics) = read(Self.estate(migrations: 300))
    #expect(diagnostics.isEmpty, "\(diagnostics.prefix(3))")
    #expect(plan?.migrations.count == 300)
    #expect(plan?.migrations.values.allSatisfy { $0.volumes.count == 10 } == true)
  }

  static let benchFile = ProcessInfo.processInfo.environment["CMC_BENCH_PLAN"]

  /// CMC_BENCH_PLAN=FILE writes a plan of 100,000 volumes there, reads it and prints what that took.
  @Test(.enabled(if: benchFile != nil, "CMC_BENCH_PLAN is not set"))
  func aHundredThousandVolumes() throws {
    let file = try #require(Self.benchFile)
    let text = Self.estate(migrations: 10_000)
    try Data(text.utf8).write(to: URL(filePath: file))
    let clock = ContinuousClock()
    let start = clock.now
    let (plan, diagnostics) = read(text)
    let seconds = start.duration(to: clock.now)
    print(
      "\(text.utf8.count) bytes, \(plan?.migrations.count ?? 0) migrations in \(seconds), \(diagnostics.count) faults")
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    print(status.split(separator: "\n").filter { $0.hasPrefix("VmHWM") }.joined())
    #expect(plan != nil)
  }
}
