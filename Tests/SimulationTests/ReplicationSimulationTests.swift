import Foundation
import Simulation
import Testing

@Suite struct ReplicationSimulationTests {
  /// Thousands of seeds within a bound of wall time; `SIM_SEED` repeats one and traces it.
  @Test func nothingAcknowledgedIsLostAndEverythingConverges() throws {
    if let text = ProcessInfo.processInfo.environment["SIM_SEED"], let seed = UInt64(text) {
      let report = try Simulation.run(seed: seed, isTracing: true)
      print("seed \(seed): \(report)")
      return
    }
    let limit = Double(ProcessInfo.processInfo.environment["SIM_SECONDS"] ?? "") ?? 40
    let first = UInt64(ProcessInfo.processInfo.environment["SIM_FIRST"] ?? "") ?? 1
    let most = UInt64(ProcessInfo.processInfo.environment["SIM_SEEDS"] ?? "") ?? 4000
    let start = ContinuousClock.now
    var total = SimulationReport()
    var seed = first
    while seed < first + most, ContinuousClock.now - start < .seconds(limit) {
      do {
        total.add(try Simulation.run(seed: seed))
      } catch {
        Issue.record("seed \(seed): \(error); repeat it with: make sim SEED=\(seed)")
        break
      }
      seed += 1
    }
    let faults = total.faults.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    print(
      "simulated \(seed - first) seeds: \(total.events) events, \(total.requests) requests, \(total.swings) swings, "
        + "\(total.links) links, \(faults)")
  }
}
