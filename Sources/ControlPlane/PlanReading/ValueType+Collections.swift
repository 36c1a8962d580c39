internal import Diagnostics
internal import YAMLTree

extension ValueType where Value == YAMLNode {
  /// A collection that its own reading function goes on with.
  static func node(_ schema: SchemaType) -> ValueType { ValueType(schema: schema) { node, _ in node } }
  static func shape(_ shape: Shape) -> ValueType { node(.shape(shape)) }
  static func list(of shape: Shape, minimum: Int = 0) -> ValueType { node(.list(.shape(shape), minimum: minimum)) }
  /// A mapping from names that the user chooses.
  static func named(_ shape: Shape) -> ValueType {
    node(.map(keyPattern: ValueType<String>.namePattern, .shape(shape)))
  }
}

extension ValueType {
  /// A list of scalars; every wrong one is reported.
  static func list<Element: Sendable>(of element: ValueType<Element>, minimum: Int = 1) -> ValueType
  where Value == [Element] {
    ValueType(schema: .list(element.schema, minimum: minimum)) { node, reading in
      guard let elements = reading.elements(of: node, expected: element.schema.noun) else { return nil }
      if elements.count < minimum {
        reading.report("CMC1107", at: node.position, "the list is empty", "write at least one item in it")
        return nil
      }
      let values = elements.compactMap { element.read($0, reading) }
      return values.count == elements.count ? values : nil
    }
  }
}

extension Reading {
  /// A list's elements; nil, and reported, where the node is no list.
  func elements(of node: YAMLNode, expected: String) -> [YAMLNode]? {
    guard node.isSequence else {
      let found = node.isMapping ? "a mapping" : node.isNull ? "nothing" : "one value"
      report(
        "CMC1103", at: node.position, "a list belongs here, not \(found)",
        node.isScalar && !node.isNull
          ? "write it in brackets: [\(node.text.shortened())]" : "write each item after '- '")
      return nil
    }
    return Array(node.elements)
  }

  /// The entries of a mapping whose keys the user chooses, with keys that are valid names; the others are reported.
  func namedEntries(of node: YAMLNode, what: String, maximum: Int) -> [(name: String, key: YAMLNode, value: YAMLNode)] {
    guard node.isMapping else {
      let advice =
        node.isSequence
        ? "write 'NAME:' with what belongs to it below, not '- name: NAME'"
        : "write 'NAME:' with what belongs to it below"
      report("CMC1103", at: node.position, "a mapping from names to \(what) belongs here", advice)
      return []
    }
    if node.count > maximum {
      report("CMC1107", at: node.position, "there are \(node.count) \(what)", "\(maximum) are possible")
      return []
    }
    var result: [(String, YAMLNode, YAMLNode)] = []
    result.reserveCapacity(node.count)
    for (key, value) in node.entries where key.isScalar {
      let name = key.text
      if !Names.isValid(name) {
        let better = Names.repaired(name).map { "write '\($0)'" }
        report(
          "CMC1108", at: key.position, "'\(name.shortened())' is not a name",
          better ?? "use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
      }
      result.append((name, key, value))
    }
    return result
  }
}
