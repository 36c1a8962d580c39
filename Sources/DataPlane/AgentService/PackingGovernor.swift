package import BlockModel

/// One large piece on its way to the link: how much it was, what went out, and how long packing and sending it took.
package struct PackingSample: Sendable, Equatable {
  package var plainBytes: Int
  package var wireBytes: Int
  package var seconds: Double
  /// Packing was tried; where `wireBytes` is as much as `plainBytes`, in vain.
  package var wasTried: Bool
  package init(plainBytes: Int, wireBytes: Int, seconds: Double, wasTried: Bool) {
    self.plainBytes = plainBytes
    self.wireBytes = wireBytes
    self.seconds = seconds
    self.wasTried = wasTried
  }
}

/// Whether what is copied goes packed. Pure: the caller passes the time.
///
/// It compares: a few pieces go as they are, a few packed, and packing stays on where it took a copying thread clearly less
/// time for a byte. That is so only where the link is what holds copying up: with a disk at the other end as the narrow
/// place the thread waits as long either way, and where the processor is, packing costs more than it saves. Off, it is tried
/// again, ever more seldom; on, it is compared again now and then, since links and data change.
package struct PackingGovernor: Sendable {
  /// Pieces of each kind that a comparison takes.
  package static let samplePieces = 8
  /// Packed must take no more than this of the time for it to be worth the processor's.
  package static let worthwhile = 0.9
  package static let onSeconds = 30.0
  package static let firstOffSeconds = 2.0
  package static let longestOffSeconds = 64.0
  /// While on, so many pieces go untried after one that didn't shrink, doubling with each further one.
  package static let longestSkip = 32

  package enum Verdict: Sendable, Equatable {
    case unknown
    case on
    /// Off: what was tried hardly shrank.
    case incompressible
    /// Off: it shrinks, and packing takes longer than what it saves.
    case tooSlow
  }

  private enum Phase: Sendable {
    case plain
    case trial
    case settled(until: MonotonicTime)
  }

  private struct Tally: Sendable {
    var pieces = 0
    var plainBytes = 0.0
    var wireBytes = 0.0
    var seconds = 0.0
    mutating func add(_ sample: PackingSample) {
      pieces += 1
      plainBytes += Double(sample.plainBytes)
      wireBytes += Double(sample.wireBytes)
      seconds += sample.seconds
    }
  }

  package private(set) var verdict = Verdict.unknown
  private var phase = Phase.plain
  private var plain = Tally()
  private var tried = Tally()
  private var offSeconds = 0.0
  private var skip = 0
  private var skipLength = 0

  package init() {}

  package var isOn: Bool { verdict == .on }

  /// Whether the next large piece is to be packed.
  package mutating func choose(at now: MonotonicTime) -> Bool {
    switch phase {
    case .plain: return false
    case .trial: return true
    case .settled(let until):
      if now >= until {
        phase = .plain
        plain = Tally()
        tried = Tally()
        return false
      }
      guard isOn else { return false }
      guard skip > 0 else { return true }
      skip -= 1
      return false
    }
  }

  /// A piece is with the link.
  package mutating func sent(_ sample: PackingSample, at now: MonotonicTime) {
    switch phase {
    case .plain:
      if !sample.wasTried { plain.add(sample) }
      if plain.pieces >= Self.samplePieces { phase = .trial }
    case .trial:
      if sample.wasTried { tried.add(sample) }
      if tried.pieces >= Self.samplePieces { judge(at: now) }
    case .settled:
      guard isOn, sample.wasTried else { return }
      if sample.wireBytes < sample.plainBytes {
        skipLength = 0
      } else {
        skipLength = min(max(1, 2 * skipLength), Self.longestSkip)
        skip = skipLength
      }
    }
  }

  private mutating func judge(at now: MonotonicTime) {
    // What didn't shrink can't have been faster for it, whatever the clock says of so few pieces.
    let shrinks = tried.wireBytes <= Self.worthwhile * tried.plainBytes
    if shrinks, tried.seconds * plain.plainBytes < Self.worthwhile * plain.seconds * tried.plainBytes {
      verdict = .on
      offSeconds = 0
      phase = .settled(until: now.adding(seconds: Self.onSeconds))
    } else {
      verdict = shrinks ? .tooSlow : .incompressible
      offSeconds = min(max(Self.firstOffSeconds, 2 * offSeconds), Self.longestOffSeconds)
      phase = .settled(until: now.adding(seconds: offSeconds))
    }
    skip = 0
    skipLength = 0
  }
}
