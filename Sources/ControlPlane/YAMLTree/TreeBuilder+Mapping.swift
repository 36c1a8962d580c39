internal import CYAML
internal import Diagnostics

extension TreeBuilder {
  private static let linearSearchLimit = 16

  /// Checks the keys of a mapping that is complete, and puts in the entries that `<<` names.
  mutating func resolveMapping(_ frame: Frame) {
    let count = pending.count - frame.firstPending
    var seen = SeenNames(expected: count / 2, linearLimit: Self.linearSearchLimit)
    var firstMerge: Int?
    var place = frame.firstPending
    while place < frame.firstPending + count {
      let key = pending[place]
      if isMergeKey(key) {
        if firstMerge == nil { firstMerge = place } else { reportDuplicate(key) }
      } else if checkKey(key), !seen.insert(nameOf(key)) {
        reportDuplicate(key)
      }
      place += 2
    }
    if firstMerge != nil { merge(frame, seen: &seen) }
  }

  private func isMergeKey(_ index: UInt32) -> Bool {
    let record = records[Int(index)]
    return record.kind == .scalar && !record.isText && record.count == 2
      && text[Int(record.start)] == UInt8(ascii: "<") && text[Int(record.start) + 1] == UInt8(ascii: "<")
  }

  /// A scalar that is an alias to a value has no name yet.
  mutating func nameOf(_ index: UInt32) -> UInt32 {
    let record = records[Int(index)]
    if record.name != YAMLTree.Record.unnamed { return record.name }
    let bytes = Array(text[Int(record.start)..<Int(record.start + record.count)])
    var start = record.start
    let name = bytes.withUnsafeBufferPointer { names.intern($0, text: &text, start: &start) }
    records[Int(index)].name = name
    return name
  }

  private mutating func checkKey(_ index: UInt32) -> Bool {
    let record = records[Int(index)]
    let (line, column) = (Int(record.line), Int(record.column))
    if record.kind != .scalar {
      let advice =
        record.kind == .mapping
        ? "put quotes around a value with braces, as in \"{device:data}\"; plans have no '{{ }}' templates"
        : "put quotes around text with brackets"
      report("CMC1008", line, column, "a key must be plain text, and this is a collection", advice)
      return false
    }
    if record.count == 0 {
      report("CMC1008", line, column, "there is no key before this ':'", "write 'key: value'")
      return false
    }
    return true
  }

  private mutating func reportDuplicate(_ index: UInt32) {
    let record = records[Int(index)]
    let key = String(decoding: text[Int(record.start)..<Int(record.start + record.count)], as: UTF8.self)
    report(
      "CMC1009", Int(record.line), Int(record.column), "the key '\(key)' stands twice in this mapping",
      "remove one, or give it another name")
  }

  /// Entries written here win over merged ones; of several merged mappings the first one wins.
  private mutating func merge(_ frame: Frame, seen: inout SeenNames) {
    let written = Array(pending[frame.firstPending...])
    pending.removeSubrange(frame.firstPending...)
    var merged: [UInt32] = []
    for place in stride(from: 0, to: written.count, by: 2) {
      guard isMergeKey(written[place]) else {
        pending.append(written[place])
        pending.append(written[place + 1])
        continue
      }
      for source in mergeSources(written[place + 1]) {
        let record = records[Int(source)]
        for offset in stride(from: Int(record.start), to: Int(record.start + record.count), by: 2) {
          let key = children[offset]
          guard records[Int(key)].kind == .scalar, seen.insert(nameOf(key)) else { continue }
          merged.append(key)
          merged.append(children[offset + 1])
        }
      }
    }
    pending.append(contentsOf: merged)
  }

  private mutating func mergeSources(_ index: UInt32) -> [UInt32] {
    let record = records[Int(index)]
    switch record.kind {
    case .mapping:
      return [index]
    case .sequence:
      let elements = children[Int(record.start)..<Int(record.start + record.count)]
      if elements.allSatisfy({ records[Int($0)].kind == .mapping }) { return Array(elements) }
    case .scalar:
      break
    }
    report(
      "CMC1012", Int(record.line), Int(record.column), "'<<' takes a mapping, or a list of mappings",
      "write '<<: *name' where '&name' marks a mapping")
    return []
  }

  /// libyaml resolves `!!map` to this long form.
  mutating func checkTag(_ tag: UnsafeMutablePointer<yaml_char_t>?, allowed: String, at mark: yaml_mark_t) {
    guard let tag else { return }
    let name = String(cString: tag)
    if name != allowed && name != "!" { reportTag(name, at: mark) }
  }

  /// Whether the tag makes the scalar a text.
  mutating func checkScalarTag(_ tag: UnsafeMutablePointer<yaml_char_t>?, at mark: yaml_mark_t) -> Bool {
    guard let tag else { return false }
    let name = String(cString: tag)
    switch name {
    case "!", "tag:yaml.org,2002:str": return true
    case "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null":
      return false
    default:
      reportTag(name, at: mark)
      return false
    }
  }

  private mutating func reportTag(_ name: String, at mark: yaml_mark_t) {
    let short = name.hasPrefix("tag:yaml.org,2002:") ? "!!" + name.dropFirst(18) : name
    report(
      "CMC1013", at: mark, "the tag '\(short)' has no meaning in a plan",
      "remove it, or put quotes around text that starts with '!'")
  }
}

/// The names of one mapping's keys: a short list, or a set once it is long.
struct SeenNames {
  private var list: [UInt32] = []
  private var set: Set<UInt32> = []
  private let linearLimit: Int

  init(expected: Int, linearLimit: Int) {
    self.linearLimit = linearLimit
    if expected > linearLimit { set.reserveCapacity(expected) }
  }

  /// Whether it was not there.
  mutating func insert(_ name: UInt32) -> Bool {
    if set.isEmpty {
      if list.contains(name) { return false }
      list.append(name)
      if list.count > linearLimit { set.formUnion(list) }
      return true
    }
    return set.insert(name).inserted
  }
}
