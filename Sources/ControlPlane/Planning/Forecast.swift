import AgentProtocol
package import BlockModel
import Diagnostics
import MigrationModel

/// Whether what is written can be copied as fast as it is: from rates that agents measured.
package struct Forecast: Sendable, Equatable {
  /// What the application writes through the tap, in bytes a second, on average since the agent started.
  package var writtenBytesPerSecond: Double
  /// Over so long.
  package var overSeconds: Double
  /// What may be copied meanwhile, in bytes a second.
  package var allowedBytesPerSecond: Double
  /// What allows no more, for people: "allowed by iQoS moderate".
  package var limit: String
  /// What differs now.
  package var remainingBytes: UInt64

  package var converges: Bool { writtenBytesPerSecond < allowedBytesPerSecond }

  /// Until nothing differs any more but what was written last; nil where that never is.
  package var secondsToConverge: Double? {
    converges ? Double(remainingBytes) / (allowedBytesPerSecond - writtenBytesPerSecond) : nil
  }

  /// Shorter than this an average says nothing, in seconds.
  static let leastSeconds = 60.0
}

extension MigrationFacts {
  /// Nil where no rate is known, or nothing is copied from the source now.
  package func forecast(at now: WallTime) -> Forecast? {
    guard let session = sourceSession, let hello = source?.agent?.hello, session.authority == .source else {
      return nil
    }
    switch session.stage {
    case .synchronizing, .tracking, .swinging: break
    case .prepared, .standIn, .tapClosed, .proving, .proven, .fenced, .released, .cancelled: return nil
    }
    // Where there is no tap nobody sees what is written.
    guard migration.volumes.allSatisfy({ tracking(of: $0) == .tap }) else { return nil }
    let seconds = now.secondsSince1970 - hello.startedAt.secondsSince1970
    guard seconds >= Forecast.leastSeconds, let measured = session.connectionProof?.bytesPerSecond, measured > 0 else {
      return nil
    }
    let written = session.volumes.reduce(0.0) { $0 + Double($1.applicationIO.writeBytes) }
    let level = migration.iqos.level(at: now)
    var allowed = measured * (level.share ?? 1)
    var limit = level.share == nil ? "is what the link was measured with" : "allowed by iQoS \(level.rawValue)"
    if let network = migration.iqos.networkLimitBytesPerSecond, Double(network) < allowed {
      allowed = Double(network)
      limit = "allowed by networkLimit"
    }
    return Forecast(
      writtenBytesPerSecond: written / seconds, overSeconds: seconds, allowedBytesPerSecond: allowed, limit: limit,
      remainingBytes: session.volumes.reduce(0) { $0 + $1.dirtyBytes })
  }
}

extension Forecast {
  /// "31 MB/s written (on average over 2 h), 25 MB/s allowed by iQoS moderate".
  package var text: String {
    "\(Self.rate(writtenBytesPerSecond)) written (on average over \(Self.duration(overSeconds))), "
      + "\(Self.rate(allowedBytesPerSecond)) \(limit)"
  }

  private static func rate(_ bytesPerSecond: Double) -> String {
    let megabytes = bytesPerSecond / 1e6
    return megabytes >= 10
      ? "\(Int(saturating: megabytes.rounded())) MB/s" : "\(Double(Int(saturating: megabytes * 10)) / 10) MB/s"
  }

  private static func duration(_ seconds: Double) -> String {
    switch seconds {
    case ..<3600: "\(Int(saturating: seconds / 60)) min"
    case ..<172_800: "\(Int(saturating: seconds / 3600)) h"
    default: "\(Int(saturating: seconds / 86_400)) d"
    }
  }
}
