package import Diagnostics

extension YAMLTree {
  /// One file of a document that is split over several.
  package struct Part: Sendable {
    package var bytes: [UInt8]
    package var file: String
    package init(bytes: [UInt8], file: String) {
      self.bytes = bytes
      self.file = file
    }
  }

  /// Files that one document may be split over.
  package static let maximumParts = 250

  /// Parses several files as one document, merged by name: what stands below a key of the top level is the union of
  /// what the files say there. The same name in two files is a conflict (CMC1014), shown with both places; lists are
  /// joined in the order of the files; a plain value (`apiVersion`) may be repeated where it is the same.
  ///
  /// Limits hold for all files together. Anchors are known in their own file only.
  package static func parse(
    parts: [Part], limits: YAMLLimits = YAMLLimits()
  ) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) {
    guard let first = parts.first else { return (nil, []) }
    if parts.count == 1 { return parse(bytes: first.bytes, file: first.file, limits: limits) }
    let total = parts.reduce(0) { $0 + $1.bytes.count }
    guard total <= limits.bytes, parts.count <= maximumParts else {
      let problem = Diagnostic(
        code: "CMC1004", at: SourcePosition(file: first.file, line: 1, column: 1),
        "the plan has \(parts.count) files of \(total) bytes together, and at most \(maximumParts) of \(limits.bytes) are read",
        advice: "split the plan in several")
      return (nil, [problem])
    }
    var builder = TreeBuilder(file: first.file, limits: limits)
    builder.reserve(forBytes: total)
    var roots: [UInt32] = []
    var isComplete = true
    for (index, part) in parts.enumerated() {
      if index > 0 { builder.begin(part.file) }
      if builder.run(part.bytes), let root = builder.root { roots.append(root) } else { isComplete = false }
    }
    if isComplete { builder.merge(roots) }
    return (isComplete ? builder.tree() : nil, builder.diagnostics.sortedByPosition())
  }
}

extension TreeBuilder {
  /// Goes on with another file, whose anchors are its own.
  mutating func begin(_ file: String) {
    self.file = file
    files.append(file)
    frames = []
    pending = []
    anchors = [:]
    openAnchors = []
    root = nil
    documents = 0
  }

  /// Makes one root of the files' roots.
  mutating func merge(_ roots: [UInt32]) {
    let mappings = roots.filter { records[Int($0)].kind == .mapping }
    for other in roots where records[Int(other)].kind != .mapping {
      conflict(other, "this file holds no mapping, and can't be a part of a plan", "write keys such as 'migrations:'")
    }
    guard let first = mappings.first else {
      root = roots.first
      return
    }
    var result = Entries()
    for mapping in mappings {
      for (key, value) in entries(of: mapping) {
        if let index = result.index[nameOf(key)] {
          result.list[index].value = merged(result.list[index].value, value, below: key)
        } else {
          result.add(key, value, name: nameOf(key))
        }
      }
    }
    root = mapping(result, like: first)
  }

  /// Keys with their values, in order, and where each name is.
  private struct Entries {
    var list: [(key: UInt32, value: UInt32)] = []
    var index: [UInt32: Int] = [:]
    mutating func add(_ key: UInt32, _ value: UInt32, name: UInt32) {
      index[name] = list.count
      list.append((key, value))
    }
  }

  private func entries(of mapping: UInt32) -> [(key: UInt32, value: UInt32)] {
    let record = records[Int(mapping)]
    return stride(from: Int(record.start), to: Int(record.start + record.count), by: 2).map {
      (children[$0], children[$0 + 1])
    }
  }

  private mutating func merged(_ one: UInt32, _ other: UInt32, below key: UInt32) -> UInt32 {
    let (left, right) = (records[Int(one)], records[Int(other)])
    switch (left.kind, right.kind) {
    case (.mapping, .mapping):
      return union(one, other, below: key)
    case (.sequence, .sequence):
      let joined =
        Array(children[Int(left.start)..<Int(left.start + left.count)])
        + Array(children[Int(right.start)..<Int(right.start + right.count)])
      return collection(joined, like: one)
    case (.scalar, .scalar) where textOf(one) == textOf(other):
      return one
    case (.scalar, _) where isNothing(left):
      return other
    case (_, .scalar) where isNothing(right):
      return one
    default:
      conflict(
        key, "'\(textOf(key))' is also at \(place(one)), and differs there", "say it in one of the files only")
      return one
    }
  }

  private mutating func union(_ one: UInt32, _ other: UInt32, below key: UInt32) -> UInt32 {
    var result = Entries()
    for (key, value) in entries(of: one) { result.add(key, value, name: nameOf(key)) }
    for (name, value) in entries(of: other) {
      if let index = result.index[nameOf(name)] {
        conflict(
          name, "'\(textOf(key)): \(textOf(name))' is also at \(place(result.list[index].key))",
          "keep it in one of the files, or give it another name")
      } else {
        result.add(name, value, name: nameOf(name))
      }
    }
    return mapping(result, like: one)
  }

  private mutating func mapping(_ entries: Entries, like model: UInt32) -> UInt32 {
    collection(entries.list.flatMap { [$0.key, $0.value] }, like: model)
  }

  private mutating func collection(_ members: [UInt32], like model: UInt32) -> UInt32 {
    var record = records[Int(model)]
    record.start = UInt32(children.count)
    record.count = UInt32(members.count)
    children.append(contentsOf: members)
    records.append(record)
    return UInt32(records.count - 1)
  }

  private func isNothing(_ record: YAMLTree.Record) -> Bool { record.count == 0 && !record.isText }

  private func textOf(_ index: UInt32) -> String {
    let record = records[Int(index)]
    guard record.kind == .scalar else { return "" }
    return String(decoding: text[Int(record.start)..<Int(record.start + record.count)], as: UTF8.self)
  }

  private func place(_ index: UInt32) -> String {
    let record = records[Int(index)]
    return "\(files[Int(record.file)]):\(record.line):\(record.column)"
  }

  private mutating func conflict(_ index: UInt32, _ message: String, _ advice: String) {
    let record = records[Int(index)]
    guard diagnostics.count < limits.diagnostics else { return }
    let position = SourcePosition(
      file: files[Int(record.file)], line: Int(record.line), column: Int(record.column))
    diagnostics.append(Diagnostic(code: "CMC1014", at: position, message, advice: advice))
  }
}
