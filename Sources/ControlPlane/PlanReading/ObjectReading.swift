internal import Diagnostics
internal import YAMLTree

/// One mapping of the document against its shape: unknown and missing keys are reported when this is made, values
/// when they are asked for.
struct ObjectReading {
  let reading: Reading
  let shape: Shape
  let node: YAMLNode
  /// The key that it stands under, where the user chose that key: "data" of a volume.
  let label: String?
  private var values: [YAMLNode?]

  /// Nil, and reported, where the node is no mapping.
  init?(_ node: YAMLNode, _ shape: Shape, _ reading: Reading, label: String? = nil) {
    self.reading = reading
    self.shape = shape
    self.node = node
    self.label = label
    values = Array(repeating: nil, count: shape.fields.count)
    guard node.isMapping else {
      let keys = shape.fields.prefix(4).map(\.name).joined(separator: ", ")
      let found = node.isSequence ? "a list" : node.isNull ? "nothing" : "one value"
      let advice =
        Self.spaced(node, shape).map { "put a space after the ':', as in '\($0)'" }
        ?? "write keys such as \(keys), indented, each on a line of its own"
      reading.report(
        "CMC1103", at: node.position, "\(Self.title(shape, label)) is a mapping, and \(found) is written here", advice)
      return nil
    }
    takeEntries()
    checkRequired()
  }

  /// "phase: synchronized" for the text "phase:synchronized", which YAML takes for one value. A value that may be a
  /// secret is not repeated.
  private static func spaced(_ node: YAMLNode, _ shape: Shape) -> String? {
    guard node.isScalar, !node.isExplicitText, node.contains(byte: UInt8(ascii: ":")) else { return nil }
    let key = String(node.text.prefix { $0 != ":" })
    return shape.indexes[key] == nil ? nil : "\(key): …"
  }

  private static func title(_ shape: Shape, _ label: String?) -> String {
    if let label { return "\(shape.noun) '\(label)'" }
    return shape.noun.hasPrefix("the ") ? shape.noun : "'\(shape.noun)'"
  }

  /// "volume 'data'", for messages.
  var title: String { Self.title(shape, label) }

  private mutating func takeEntries() {
    var unknown: [(key: YAMLNode, value: YAMLNode)] = []
    for (key, value) in node.entries where key.isScalar {
      let name = key.text
      guard let index = shape.indexes[name] else {
        unknown.append((key, value))
        continue
      }
      values[index] = value
    }
    for (key, value) in unknown { takeUnknown(key, value) }
  }

  /// Reports the key and, where it is clear which one was meant, goes on as if that had been written: its value may
  /// have faults too, and "lacks 'device'" below "did you mean 'device'?" would say the same twice.
  private mutating func takeUnknown(_ key: YAMLNode, _ value: YAMLNode) {
    let name = key.text
    let message = "\(title) has no key '\(name.shortened())'"
    if let meant = meant(by: name) {
      reading.report("CMC1101", at: key.position, message, "did you mean '\(meant)'?")
      if let index = shape.indexes[meant], values[index] == nil { values[index] = value }
      return
    }
    let known = shape.fields.map(\.name).sorted().joined(separator: ", ")
    let parent = shape.fields.first { shape.child($0)?.indexes[name] != nil }
    let advice =
      parent.map { "'\(name)' belongs below '\($0.name)'" }
      ?? (known.utf8.count <= 200 ? "the keys are \(known)" : "is it indented under the right key?")
    reading.report("CMC1101", at: key.position, message, advice)
  }

  private func meant(by name: String) -> String? {
    if let synonym = Self.synonyms[name.lowercased()], shape.indexes[synonym] != nil { return synonym }
    let near = Suggestion.nearest(to: name, among: shape.fields.map(\.name))
    if let near, Suggestion.distance(Array(name.utf8), Array(near.utf8)) == 1 { return near }
    if shape.fields.contains(where: { shape.child($0)?.indexes[name] != nil }) { return nil }
    return near
  }

  /// Words of other tools for the same thing.
  private static let synonyms = [
    "src": "source", "dst": "destination", "dest": "destination", "target": "destination", "from": "source",
    "to": "destination", "host": "address", "hostname": "address", "ip": "address", "username": "user",
    "key": "identityFile", "keyfile": "identityFile", "privatekey": "identityFile", "bastion": "jump",
    "proxyjump": "jump", "vm": "azureVirtualMachine", "virtualmachine": "azureVirtualMachine", "path": "device",
    "type": "sku", "capacity": "size", "diskiops": "iops", "mbps": "throughput", "bandwidth": "networkLimit",
    "limit": "networkLimit", "qos": "iqos", "state": "phase", "command": "run", "cmd": "run", "exec": "run",
    "disks": "volumes", "region": "location", "subscription": "subscriptionId", "tenant": "tenantId",
    "rg": "resourceGroup", "timezone": "timeZone", "tz": "timeZone", "start": "from", "end": "to", "weekdays": "days",
    "appid": "clientId", "password": "clientSecret", "secret": "clientSecret", "labels": "tags",
    "uuid": "id", "desc": "description",
  ]

  private func checkRequired() {
    for index in shape.required where values[index] == nil {
      let field = shape.fields[index]
      let example = field.examples.first.map { "add it, as in '\(field.name): \($0)'" }
      let advice = field.adviceIfMissing ?? example ?? "add '\(field.name):'"
      reading.report("CMC1102", at: node.position, "\(title) lacks '\(field.name)'", advice)
    }
    for group in shape.exactlyOneOf where countPresent(group) == 0 {
      reading.report("CMC1110", at: node.position, "\(title) needs one of \(alternatives(group))", "add one of them")
    }
    for groups in [shape.exactlyOneOf, shape.atMostOneOf] {
      for group in groups where countPresent(group) > 1 { reportAlternatives(present(group)) }
    }
  }

  private func reportAlternatives(_ present: [(name: String, value: YAMLNode)]) {
    if let second = present.last {
      let both = alternatives(present.map(\.name)).replacing(" or ", with: " and ")
      reading.report("CMC1110", at: second.value.position, "\(title) has both \(both)", "keep one of them")
    }
  }

  private func countPresent(_ group: [String]) -> Int {
    group.count { name in shape.indexes[name].map { values[$0] != nil } ?? false }
  }

  private func present(_ group: [String]) -> [(name: String, value: YAMLNode)] {
    group.compactMap { name in
      shape.indexes[name].flatMap { values[$0] }.map { (name, $0) }
    }
  }

  /// What is written for the field, unread. By name, so that `defaults` can be read with the same fields.
  func node<Value>(_ field: Field<Value>) -> YAMLNode? { shape.index(of: field).flatMap { values[$0] } }

  func has<Value>(_ field: Field<Value>) -> Bool { node(field) != nil }

  /// Where the field's value is, or the mapping itself.
  func position<Value>(_ field: Field<Value>) -> SourcePosition { (node(field) ?? node).position }

  /// What is written; if nothing is, what is inherited; if nothing is, the table's default. Nil, and reported, where
  /// what is written is no value of the field's type.
  func value<Value>(_ field: Field<Value>, inherited: Value? = nil) -> Value? {
    guard let node = node(field) else { return inherited ?? field.defaultValue }
    return field.type.read(node, reading)
  }

  /// What is written and nothing else.
  func written<Value>(_ field: Field<Value>) -> Value? {
    node(field).flatMap { field.type.read($0, reading) }
  }
}
