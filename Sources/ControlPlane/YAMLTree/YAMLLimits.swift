/// What a document may cost before it is refused. Everything that grows with the input has its limit here.
package struct YAMLLimits: Sendable {
  /// Bytes of the document. Offsets are 32 bits wide, so this stays below 4 GiB.
  package var bytes = 256 << 20
  /// Nodes as written.
  package var nodes = 32_000_000
  /// Nodes that aliases may add when they are followed: a nested handful of them could otherwise mean billions.
  package var aliasedNodes = 1_000_000
  /// Mappings and sequences inside each other. A plan needs 12.
  package var depth = 64
  /// Bytes of one scalar.
  package var scalarBytes = 1 << 20
  /// Diagnostics that are kept; a document of a million faults says so and stops.
  package var diagnostics = 1_000
  package init() {}
}
