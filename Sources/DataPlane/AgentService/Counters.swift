internal import AgentProtocol
internal import Synchronization

/// Operations and bytes since the agent started; any thread.
final class Counters: Sendable {
  private let reads = Atomic<UInt64>(0)
  private let readBytes = Atomic<UInt64>(0)
  private let writes = Atomic<UInt64>(0)
  private let writeBytes = Atomic<UInt64>(0)
  private let flushes = Atomic<UInt64>(0)

  func countRead(_ bytes: UInt64) {
    reads.wrappingAdd(1, ordering: .relaxed)
    readBytes.wrappingAdd(bytes, ordering: .relaxed)
  }
  func countWrite(_ bytes: UInt64) {
    writes.wrappingAdd(1, ordering: .relaxed)
    writeBytes.wrappingAdd(bytes, ordering: .relaxed)
  }
  func countFlush() { flushes.wrappingAdd(1, ordering: .relaxed) }

  var snapshot: IOCounters {
    var counters = IOCounters()
    counters.reads = reads.load(ordering: .relaxed)
    counters.readBytes = readBytes.load(ordering: .relaxed)
    counters.writes = writes.load(ordering: .relaxed)
    counters.writeBytes = writeBytes.load(ordering: .relaxed)
    counters.flushes = flushes.load(ordering: .relaxed)
    return counters
  }
}
