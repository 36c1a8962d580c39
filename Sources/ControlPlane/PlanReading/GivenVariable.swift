package import Diagnostics
internal import YAMLTree

/// A value for one of the plan's `variables:`, from outside of the plan.
package struct GivenVariable: Sendable, Equatable {
  package enum Origin: Sendable, Equatable {
    /// `--set name=value`.
    case option
    /// An environment variable of this name. One that the plan doesn't declare is only warned of.
    case environment(String)
    /// `--variables FILE`.
    case file(SourcePosition)
  }
  package var name: String
  package var value: String
  package var origin: Origin
  package init(name: String, value: String, origin: Origin) {
    self.name = name
    self.value = value
    self.origin = origin
  }

  /// Environment variables that begin so give a variable its value.
  package static let environmentPrefix = "CMCPLAN_VAR_"

  /// Those that `environment` gives, in the order of their names.
  package static func fromEnvironment(_ environment: [String: String]) -> [GivenVariable] {
    environment.filter { $0.key.hasPrefix(environmentPrefix) && $0.key.count > environmentPrefix.count }
      .sorted { $0.key < $1.key }
      .map {
        GivenVariable(
          name: String($0.key.dropFirst(environmentPrefix.count)), value: $0.value, origin: .environment($0.key))
      }
  }

  var position: SourcePosition? { if case .file(let position) = origin { position } else { nil } }

  /// For messages: "--set phase", "CMCPLAN_VAR_phase".
  var source: String {
    switch origin {
    case .option: "--set \(name)"
    case .environment(let variable): variable
    case .file: "the variable '\(name)'"
    }
  }
}

/// Reads a file of values for a plan's variables: a mapping from names to values, nothing else.
package enum VariablesReader {
  /// The values, and every fault of the file. Pure, as `PlanReader.read`.
  package static func read(bytes: [UInt8], file: String) -> (variables: [GivenVariable], diagnostics: [Diagnostic]) {
    let (tree, faults) = YAMLTree.parse(bytes: bytes, file: file)
    guard let tree else { return ([], faults) }
    let reading = Reading()
    var result: [GivenVariable] = []
    if tree.root.isMapping {
      for (key, value) in tree.root.entries where key.isScalar {
        guard let text = reading.text(value, expected: "a value") else { continue }
        result.append(GivenVariable(name: key.text, value: text, origin: .file(key.position)))
      }
    } else {
      reading.report(
        "CMC1103", at: tree.root.position, "a file of variables is a mapping from names to values",
        "write 'NAME: VALUE', each on a line of its own")
    }
    return (result, (faults + reading.finish()).sortedByPosition())
  }
}

/// What a variable's value must look like, whoever gives it. The field where it is used has its own say.
enum VariableType: String, Sendable, CaseIterable {
  case text
  case name
  case integer
  case boolean
  case size
  case rate
  case duration
  case percentage

  func check(_ value: String) throws(ValueFault) {
    switch self {
    case .text: return
    case .name: if let parse = ValueType<String>.name.parse { _ = try parse(value) }
    case .integer:
      if let parse = ValueType<Int>.integer(-1_000_000_000...1_000_000_000).parse { _ = try parse(value) }
    case .boolean:
      guard value == "true" || value == "false" else {
        throw ValueFault("CMC1111", "'\(value.shortened())' is neither true nor false", "write 'true' or 'false'")
      }
    case .size: _ = try Quantities.size(value)
    case .rate: _ = try Quantities.rate(value)
    case .duration: _ = try Quantities.duration(value)
    case .percentage: _ = try Quantities.percent(value)
    }
  }
}
