package import AgentProtocol
internal import BlockModel
internal import Replication
internal import Synchronization

/// What copying spent its time with: sums since the start, or the difference of two. Seconds.
package struct StageSeconds: Sendable, Equatable {
  /// By all copying threads together.
  package var reading = 0.0
  package var packing = 0.0
  package var sending = 0.0
  /// With work and no budget for it.
  package var limited = 0.0
  /// With as much under way as may be.
  package var full = 0.0
  /// Of the destination's disk, all its threads together.
  package var destination = 0.0
  package init() {}

  static func - (later: Self, earlier: Self) -> Self {
    var difference = later
    difference.reading -= earlier.reading
    difference.packing -= earlier.packing
    difference.sending -= earlier.sending
    difference.limited -= earlier.limited
    difference.full -= earlier.full
    difference.destination -= earlier.destination
    return difference
  }
}

/// Who takes part in copying, and what limits it.
package struct StageCrew: Sendable, Equatable {
  /// That read and send, at the source.
  package var copyingThreads: Int
  /// Each has a thread that writes, at the destination.
  package var lanes: Int
  /// Answers say how long the destination's disk took: not those of version 1.
  package var destinationTells: Bool
  /// What the budget comes from.
  package var limit: RateGovernor.Limit
  package init(copyingThreads: Int, lanes: Int, destinationTells: Bool, limit: RateGovernor.Limit) {
    self.copyingThreads = copyingThreads
    self.lanes = lanes
    self.destinationTells = destinationTells
    self.limit = limit
  }
}

extension HoldBack {
  /// Less of the time than this, and nothing is said.
  package static let leastPart = 0.05

  /// What kept copying from going faster in `elapsed` seconds; nil where it had little to do, or nobody can know.
  package init?(_ spent: StageSeconds, in elapsed: Double, by crew: StageCrew) {
    let threads = Double(max(1, crew.copyingThreads))
    let reading = spent.reading / threads
    let packing = spent.packing / threads
    let sending = spent.sending / threads
    // Threads with nothing to do while all that may be is under way wait for answers.
    let beyond = sending + max(0, spent.full - reading - packing - sending)
    let most = max(spent.limited, reading, packing, beyond)
    guard elapsed > 0, most >= Self.leastPart * elapsed else { return nil }
    if spent.limited == most {
      switch crew.limit {
      case .share: self = .iqos
      case .network: self = .networkLimit
      case .latency: self = .latencyBound
      }
    } else if reading == most {
      self = .sourceDisk
    } else if packing == most {
      self = .compression
    } else {
      guard crew.destinationTells else { return nil }
      let busy = spent.destination / Double(max(1, crew.lanes))
      self = busy >= (reading + packing + beyond) / 2 ? .destinationDisk : .network
    }
  }
}

/// The last few seconds of the sums.
struct StageWindow: Sendable {
  static let seconds = 4.0
  static let stepSeconds = 0.5
  private var samples: [(at: MonotonicTime, total: StageSeconds)] = []

  mutating func add(_ total: StageSeconds, at now: MonotonicTime) {
    if let last = samples.last, now.seconds(since: last.at) < Self.stepSeconds { return }
    samples.append((now, total))
    while samples.count > 2, now.seconds(since: samples[1].at) >= Self.seconds { samples.removeFirst() }
  }

  /// What was spent between the window's ends, and how long it is.
  var spent: (StageSeconds, elapsed: Double)? {
    guard let first = samples.first, let last = samples.last, last.at > first.at else { return nil }
    return (last.total - first.total, last.at.seconds(since: first.at))
  }
}

/// Adds up what copying threads spend their time with; any thread.
final class StageMeter: Sendable {
  private let reading = Atomic<UInt64>(0)
  private let packing = Atomic<UInt64>(0)
  private let sending = Atomic<UInt64>(0)

  func addReading(_ seconds: Double) { Self.add(seconds, to: reading) }
  func addPacking(_ seconds: Double) { Self.add(seconds, to: packing) }
  func addSending(_ seconds: Double) { Self.add(seconds, to: sending) }

  func total(with stages: CopyStages) -> StageSeconds {
    var total = StageSeconds()
    total.reading = Double(reading.load(ordering: .relaxed)) / 1e9
    total.packing = Double(packing.load(ordering: .relaxed)) / 1e9
    total.sending = Double(sending.load(ordering: .relaxed)) / 1e9
    total.limited = stages.limitedSeconds
    total.full = stages.fullSeconds
    total.destination = stages.destinationSeconds
    return total
  }

  private static func add(_ seconds: Double, to sum: borrowing Atomic<UInt64>) {
    sum.wrappingAdd(UInt64(max(0, seconds) * 1e9), ordering: .relaxed)
  }
}
