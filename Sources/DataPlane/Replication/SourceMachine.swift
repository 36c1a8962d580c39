package import BlockModel
import H2HProtocol

/// The source's half of a session: decides, and does no I/O. One lock around `handle` serializes its events.
package struct SourceMachine: Sendable {
  package private(set) var configuration: SourceConfiguration
  package private(set) var stage: SourceStage = .prepared

  /// `record` and `intentPages` (by volume, then page number) are what the state store holds, nil and empty at first. A
  /// missing or damaged page costs copying again, never data.
  package init(configuration: SourceConfiguration, record: SessionRecord?, intentPages: [[Int: [UInt8]]]) {
    self.configuration = configuration
  }

  /// Appends what is to be done. `now` never goes backwards.
  package mutating func handle(_ event: SourceEvent, at now: MonotonicTime, into effects: inout [SourceEffect]) {}

  /// Changes what may change of a running session; volumes and session stay.
  package mutating func reconfigure(_ configuration: SourceConfiguration) { self.configuration = configuration }
}
