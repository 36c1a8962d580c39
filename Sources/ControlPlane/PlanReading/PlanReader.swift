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
    let (tree, faults) = YAMLTree.parse(bytes: bytes, file: file)
    guard let tree else { return (nil, faults) }
    let reading = Reading()
    let plan = PlanBuilder(reading).plan(tree.root, variables: variables)
    let diagnostics = (faults + reading.finish()).sortedByPosition()
    return (diagnostics.hasErrors ? nil : plan, diagnostics)
  }
}
