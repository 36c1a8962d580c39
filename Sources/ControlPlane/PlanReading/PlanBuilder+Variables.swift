internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

extension PlanBuilder {
  /// `given` in the order in which it wins: the last one of a name is used.
  func readVariables(_ document: ObjectReading, given: [GivenVariable]) {
    var values: [String: String?] = [:]
    var types: [String: VariableType] = [:]
    if let node = document.node(DocumentShape.the.variables) {
      guard node.isMapping else {
        reading.report(
          "CMC1103", at: node.position, "variables are a mapping from names to defaults", "write 'NAME: DEFAULT'")
        return
      }
      for (key, value) in node.entries where key.isScalar {
        let name = key.text
        if !Names.isEnvironmentName(name) {
          reading.report(
            "CMC1108", at: key.position, "'\(name.shortened())' can't be a variable's name",
            "use letters, digits and '_', not starting with a digit")
        }
        let (text, type) = readVariable(value, name: name)
        values[name] = .some(text)
        types[name] = type
      }
    }
    for variable in given {
      guard values[variable.name] != nil else {
        reportUnknown(variable, known: values.keys.sorted())
        continue
      }
      values[variable.name] = .some(variable.value)
      do throws(ValueFault) {
        try types[variable.name]?.check(variable.value)
      } catch {
        reading.report("CMC1204", at: variable.position, "\(variable.source): \(error.message)", error.advice)
      }
    }
    reading.variables = values
  }

  private func reportUnknown(_ variable: GivenVariable, known: [String]) {
    let advice = orDefault(Suggestion.phrase(for: variable.name, among: known), "declare it under 'variables:'")
    if case .environment(let name) = variable.origin {
      reading.warn(
        "CMC1112", at: nil, "\(name.shortened()) is set, and the plan has no variable '\(variable.name.shortened())'",
        advice)
    } else {
      reading.report(
        "CMC1112", at: variable.position,
        "a value was given for '\(variable.name.shortened())', and the plan has no such variable", advice)
    }
  }

  private func readVariable(_ node: YAMLNode, name: String) -> (text: String?, type: VariableType?) {
    guard node.isMapping else {
      return (node.isNull ? nil : reading.text(node, expected: "a default"), nil)
    }
    let shape = VariableShape.the
    guard let object = ObjectReading(node, shape.shape, reading, label: name) else { return (nil, nil) }
    _ = object.value(shape.description)
    let type = object.value(shape.type)
    let text = object.value(shape.defaultValue)
    if let text, let type {
      do throws(ValueFault) {
        try type.check(text)
      } catch {
        reading.report("CMC1204", at: object.position(shape.defaultValue), error.message, error.advice)
      }
    }
    return (text, type)
  }

  func warnOfUnusedVariables(_ document: ObjectReading) {
    guard let node = document.node(DocumentShape.the.variables) else { return }
    for (key, _) in node.entries where key.isScalar && !reading.usedVariables.contains(key.text) {
      reading.warn(
        "CMC1202", at: key.position, "nothing uses the variable '\(key.text.shortened())'",
        "write \"{var:\(key.text.shortened())}\" where its value belongs, or remove it")
    }
  }
}
