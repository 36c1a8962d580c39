package import Diagnostics
package import MigrationModel
internal import YAMLTree

/// Reads a migration plan: YAML text to typed values, and every fault of the document in one pass.
///
/// Pure: no file, clock, network or environment is touched. Relative paths stay as written; the caller resolves them
/// against the directory of the plan.
package enum PlanReader {
  /// The plan, or nil where `diagnostics` has an error; warnings and notes may come beside a plan.
  ///
  /// - Parameters:
  ///   - text: the document.
  ///   - file: its name, as diagnostics show it.
  ///   - variables: values for the document's `variables:`, which win over the defaults written there.
  /// - Returns: diagnostics sorted by position.
  package static func read(
    text: String, file: String, variables: [String: String] = [:]
  ) -> (plan: MigrationPlan?, diagnostics: [Diagnostic]) {
    read(bytes: Array(text.utf8), file: file, variables: variables)
  }

  /// As `read(text:file:variables:)`, of bytes that may turn out not to be UTF-8.
  package static func read(
    bytes: [UInt8], file: String, variables: [String: String] = [:]
  ) -> (plan: MigrationPlan?, diagnostics: [Diagnostic]) {
    read(
      [PlanSource(bytes: bytes, file: file)],
      variables: variables.sorted { $0.key < $1.key }.map {
        GivenVariable(name: $0.key, value: $0.value, origin: .option)
      })
  }

  /// As `read(text:file:variables:)`, of a plan that is split over files: they are merged by name, and the same name in
  /// two of them is a fault.
  ///
  /// - Parameter variables: of two values for one variable the later one wins.
  package static func read(
    _ sources: [PlanSource], variables: [GivenVariable]
  ) -> (plan: MigrationPlan?, diagnostics: [Diagnostic]) {
    let parts = sources.map { YAMLTree.Part(bytes: $0.bytes, file: $0.file) }
    let (tree, faults) = YAMLTree.parse(parts: parts)
    guard let tree else { return (nil, faults) }
    let reading = Reading()
    let plan = PlanBuilder(reading).plan(tree.root, variables: variables)
    let diagnostics = (faults + reading.finish()).sortedByPosition()
    return (diagnostics.hasErrors ? nil : plan, diagnostics)
  }

  /// Whether a file of a directory is a guardrails file, which is no part of the plan beside it.
  package static func isGuardrails(_ bytes: [UInt8]) -> Bool {
    // It is one of the first lines; plans can be large.
    String(decoding: bytes.prefix(4_096), as: UTF8.self).split(whereSeparator: \.isNewline)
      .contains { $0.hasPrefix("kind: Guardrails") }
  }
}

/// One file of a plan.
package struct PlanSource: Sendable {
  package var bytes: [UInt8]
  /// As diagnostics show it.
  package var file: String
  package init(bytes: [UInt8], file: String) {
    self.bytes = bytes
    self.file = file
  }
}
