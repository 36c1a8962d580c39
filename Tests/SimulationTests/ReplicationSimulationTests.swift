import Foundation
import Simulation
import Testing

private struct Batch: Sendable {
  var seeds = 0
  var report = SimulationReport()
  var failure: String?
}

@Suite struct ReplicationSimulationTests {
  /// Thousands of seeds within a bound of wall time; `SIM_SEED` repeats one and traces it.
  @Test func nothingAcknowledgedIsLostAndEverythingConverges() async throws {
    if let text = ProcessInfo.processInfo.environment["SIM_SEED"], let seed = UInt64(text) {
      let report = try Simulation.run(seed: seed, isTracing: true)
      print("seed \(seed): \(report)")
      return
    }
    let limit = Double(ProcessInfo.processInfo.environment["SIM_SECONDS"] ?? "") ?? 40
    let first = UInt64(ProcessInfo.processInfo.environment["SIM_FIRST"] ?? "") ?? 1
    let most = UInt64(ProcessInfo.processInfo.environment["SIM_SEEDS"] ?? "") ?? 4000
    // However slow the machine: so many.
    let least = min(most, UInt64(ProcessInfo.processInfo.environment["SIM_LEAST"] ?? "") ?? 200)
    let start = ContinuousClock.now
    let workers = UInt64(max(1, ProcessInfo.processInfo.activeProcessorCount))
    // Each worker takes every n-th seed, so that which seeds ran depends on time alone, never a seed's outcome.
    let total = await withTaskGroup(of: Batch.self) { group in
      for worker in 0..<workers {
        group.addTask {
          var batch = Batch()
          var seed = first + worker
          while seed < first + most, batch.failure == nil,
            seed < first + least || ContinuousClock.now - start < .seconds(limit)
          {
            do throws(SimulationFailure) {
              batch.report.add(try Simulation.run(seed: seed))
            } catch {
              batch.failure = "seed \(seed): \(error); repeat it with: make sim SEED=\(seed)"
            }
            batch.seeds += 1
            seed += workers
            // So that tests with a time limit get their turn.
            await Task.yield()
          }
          return batch
        }
      }
      var total = Batch()
      for await batch in group {
        total.seeds += batch.seeds
        total.report.add(batch.report)
        if let failure = batch.failure { Issue.record("\(failure)") }
      }
      return total
    }
    print(
      "simulated \(total.seeds) seeds: \(total.report.events) events, \(total.report.requests) requests, "
        + "\(total.report.swings) swings, \(total.report.links) links, \(total.report.packedFrames) packed frames, "
        + String(format: "longest recovery %.1f s, ", total.report.longestRecoverySeconds) + total.report.toldFaults)
    #expect(total.report.packedFrames > 0 || total.seeds < 10, "nothing ever went packed")
  }
}
