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
      reading.report(
        "CMC1103", at: node.position, "\(Self.title(shape, label)) is a mapping, and \(found) is written here",
        "write keys such as \(keys), indented, each on a line of its own")
      return nil
    }
    takeEntries()
    checkRequired()
  }

  private static func title(_ shape: Shape, _ label: String?) -> String {
    label.map { "\(shape.noun) '\($0)'" } ?? "'\(shape.noun)'"
  }

  /// "volume 'data'", for messages.
  var title: String { Self.title(shape, label) }

  private mutating func takeEntries() {
    for (key, value) in node.entries where key.isScalar {
      let name = key.text
      guard let index = shape.indexes[name] else {
        reading.report("CMC1101", at: key.position, "\(title) has no key '\(name.shortened())'", adviceForUnknown(name))
        continue
      }
      if case .later(let instead) = shape.fields[index].availability {
        reading.report("CMC1109", at: key.position, "'\(name)' is not carried out by this version yet", instead)
      }
      values[index] = value
    }
  }

  private func adviceForUnknown(_ name: String) -> String {
    let known = shape.fields.map(\.name)
    if let synonym = Self.synonyms[name.lowercased()], known.contains(synonym) { return "did you mean '\(synonym)'?" }
    for field in shape.fields {
      if let child = shape.child(field), child.indexes[name] != nil, shape.indexes[name] == nil {
        return "'\(name)' belongs below '\(field.name)'"
      }
    }
    if let nearest = Suggestion.nearest(to: name, among: known) { return "did you mean '\(nearest)'?" }
    let list = known.sorted().joined(separator: ", ")
    return list.utf8.count <= 200 ? "the keys are \(list)" : "is it indented under the right key?"
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
    for (index, field) in shape.fields.enumerated() where field.isRequired && values[index] == nil {
      let example = field.examples.first ?? field.defaultText
      let advice = example.map { "add '\(field.name): \($0)'" } ?? "add '\(field.name):'"
      reading.report("CMC1102", at: node.position, "\(title) lacks '\(field.name)'", advice)
    }
    for group in shape.exactlyOneOf {
      let present = group.filter { shape.indexes[$0].flatMap { values[$0] } != nil }
      if present.isEmpty {
        reading.report(
          "CMC1110", at: node.position, "\(title) needs one of \(alternatives(group))", "add one of them")
      } else if present.count > 1 {
        reading.report(
          "CMC1110", at: node.position, "\(title) has \(alternatives(present).replacing(" or ", with: " and "))",
          "keep one of them")
      }
    }
  }

  /// What is written for the field, unread. By name, so that `defaults` can be read with the same fields.
  func node<Value>(_ field: Field<Value>) -> YAMLNode? { shape.indexes[field.name].flatMap { values[$0] } }

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
