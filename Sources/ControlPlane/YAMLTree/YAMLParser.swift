internal import CYAML
package import Diagnostics

extension YAMLTree {
  /// Parses one YAML document. The tree is nil where the text is no YAML, or breaks a limit; faults that leave a tree
  /// (a duplicate key, say) come beside it, so that the reader can go on and find the rest.
  ///
  /// Accepts UTF-8 and, with a byte order mark, UTF-16. Takes time and memory in proportion to the document.
  package static func parse(
    bytes: [UInt8], file: String, limits: YAMLLimits = YAMLLimits()
  ) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) {
    guard bytes.count <= limits.bytes else {
      let problem = Diagnostic(
        code: "CMC1004", at: SourcePosition(file: file, line: 1, column: 1),
        "the document has \(bytes.count) bytes, more than \(limits.bytes)", advice: "split the plan in several")
      return (nil, [problem])
    }
    var builder = TreeBuilder(file: file, limits: limits)
    builder.reserve(forBytes: bytes.count)
    let isComplete = builder.run(bytes)
    let diagnostics = builder.diagnostics.sortedByPosition()
    return (isComplete ? builder.tree() : nil, diagnostics)
  }
}

/// Makes a tree of libyaml's events.
struct TreeBuilder {
  struct Frame {
    var node: UInt32
    /// Where its children begin in `pending`.
    var firstPending: Int
    /// `writtenAndAliased` when it began: the difference at its end is what an alias to it repeats.
    var sizeBefore: Int
    var anchor: String?
  }

  struct Anchor {
    var node: UInt32
    var size: Int
  }

  /// The file that is parsed.
  var file: String
  var files: [String]
  let limits: YAMLLimits
  var diagnostics: [Diagnostic] = []
  var records: [YAMLTree.Record] = []
  var children: [UInt32] = []
  var text: [UInt8] = []
  var names = NameTable()
  var frames: [Frame] = []
  /// Children of open collections, not yet known to be complete.
  var pending: [UInt32] = []
  var anchors: [String: Anchor] = [:]
  var openAnchors: Set<String> = []
  var aliasedNodes = 0
  var root: UInt32?
  var documents = 0

  init(file: String, limits: YAMLLimits) {
    self.file = file
    self.files = [file]
    self.limits = limits
  }

  var fileIndex: UInt8 { UInt8(truncatingIfNeeded: files.count - 1) }

  var writtenAndAliased: Int { records.count + aliasedNodes }

  mutating func reserve(forBytes count: Int) {
    // Typical plans have a node per 12 bytes; growing by doubling would cost twice the peak.
    records.reserveCapacity(count / 12)
    children.reserveCapacity(count / 12)
    text.reserveCapacity(count / 2)
  }

  func tree() -> YAMLTree? {
    guard let root else { return nil }
    return YAMLTree(
      files: files, records: records, children: children, text: text, names: names.names, rootIndex: root)
  }

  mutating func report(_ code: String, _ line: Int, _ column: Int, _ message: String, _ advice: String) {
    guard diagnostics.count < limits.diagnostics else { return }
    let position = SourcePosition(file: file, line: line, column: column)
    diagnostics.append(Diagnostic(code: code, at: position, message, advice: advice))
  }

  mutating func report(_ code: String, at mark: yaml_mark_t, _ message: String, _ advice: String) {
    report(code, mark.line + 1, mark.column + 1, message, advice)
  }

  /// Whether the whole document was understood.
  mutating func run(_ bytes: [UInt8]) -> Bool {
    var parser = yaml_parser_t()
    guard yaml_parser_initialize(&parser) == 1 else {
      report("CMC1004", 1, 1, "memory ran out", "close other programs, or split the plan in several")
      return false
    }
    defer { yaml_parser_delete(&parser) }
    return bytes.withUnsafeBufferPointer { buffer in
      yaml_parser_set_input_string(&parser, buffer.baseAddress, buffer.count)
      return drain(&parser, bytes: buffer)
    }
  }

  private mutating func drain(_ parser: inout yaml_parser_t, bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    while true {
      var event = yaml_event_t()
      guard yaml_parser_parse(&parser, &event) == 1 else {
        diagnostics.append(SyntaxProblem(parser: parser, bytes: bytes).diagnostic(file: file))
        return false
      }
      defer { yaml_event_delete(&event) }
      if event.type == YAML_STREAM_END_EVENT { break }
      guard take(event) else { return false }
    }
    if root == nil {
      report(
        "CMC1007", 1, 1, "the document is empty",
        "start with 'apiVersion: cmcplan/v1', or let 'cmcplan init' write a plan")
    }
    return root != nil
  }

  /// Whether to go on.
  private mutating func take(_ event: yaml_event_t) -> Bool {
    switch event.type {
    case YAML_DOCUMENT_START_EVENT:
      documents += 1
      guard documents > 1 else { return true }
      report(
        "CMC1006", at: event.start_mark, "a second YAML document begins here; a plan is exactly one",
        "remove this '---' and what follows, or put each document in a file of its own")
      return false
    case YAML_SCALAR_EVENT:
      return takeScalar(event)
    case YAML_SEQUENCE_START_EVENT:
      let data = event.data.sequence_start
      checkTag(data.tag, allowed: "tag:yaml.org,2002:seq", at: event.start_mark)
      return open(.sequence, anchor: data.anchor, at: event.start_mark)
    case YAML_MAPPING_START_EVENT:
      let data = event.data.mapping_start
      checkTag(data.tag, allowed: "tag:yaml.org,2002:map", at: event.start_mark)
      return open(.mapping, anchor: data.anchor, at: event.start_mark)
    case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
      close()
      return true
    case YAML_ALIAS_EVENT:
      return takeAlias(event)
    default:
      return true
    }
  }

  private mutating func isWithinLimits(at mark: yaml_mark_t) -> Bool {
    if records.count >= limits.nodes {
      report(
        "CMC1004", at: mark, "the document has more than \(limits.nodes) values", "split the plan in several")
      return false
    }
    return true
  }

  private mutating func takeScalar(_ event: yaml_event_t) -> Bool {
    let scalar = event.data.scalar
    guard isWithinLimits(at: event.start_mark) else { return false }
    guard scalar.length <= limits.scalarBytes else {
      report(
        "CMC1004", at: event.start_mark, "this text has \(scalar.length) bytes, more than \(limits.scalarBytes)",
        "shorten it; is a quote left open above?")
      return false
    }
    let isTaggedText = checkScalarTag(scalar.tag, at: event.start_mark)
    let style: YAMLTree.Style =
      switch scalar.style {
      case YAML_SINGLE_QUOTED_SCALAR_STYLE: .singleQuoted
      case YAML_DOUBLE_QUOTED_SCALAR_STYLE: .doubleQuoted
      case YAML_LITERAL_SCALAR_STYLE: .literal
      case YAML_FOLDED_SCALAR_STYLE: .folded
      default: .plain
      }
    let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
    var record = YAMLTree.Record(
      kind: .scalar, style: style, isText: style != .plain || isTaggedText, file: fileIndex,
      line: UInt32(truncatingIfNeeded: event.start_mark.line + 1),
      column: UInt32(truncatingIfNeeded: event.start_mark.column + 1), start: UInt32(text.count),
      count: UInt32(scalar.length), name: YAMLTree.Record.unnamed)
    if isKeyNext {
      record.name = names.intern(bytes, text: &text, start: &record.start)
    } else {
      text.append(contentsOf: bytes)
    }
    let index = UInt32(records.count)
    records.append(record)
    if let anchor = scalar.anchor {
      anchors[String(cString: anchor)] = Anchor(node: index, size: 1)
    }
    place(index)
    return true
  }

  /// Whether the next node is a key of the innermost mapping.
  private var isKeyNext: Bool {
    guard let frame = frames.last, records[Int(frame.node)].kind == .mapping else { return false }
    return (pending.count - frame.firstPending) % 2 == 0
  }

  private mutating func place(_ index: UInt32) {
    if frames.isEmpty {
      root = index
    } else {
      pending.append(index)
    }
  }

  private mutating func open(
    _ kind: YAMLTree.Kind, anchor: UnsafeMutablePointer<yaml_char_t>?, at mark: yaml_mark_t
  ) -> Bool {
    guard isWithinLimits(at: mark) else { return false }
    guard frames.count < limits.depth else {
      report(
        "CMC1005", at: mark, "values are nested more than \(limits.depth) deep", "no plan needs that; is it one?")
      return false
    }
    let index = UInt32(records.count)
    let name = anchor.map { String(cString: $0) }
    if let name { openAnchors.insert(name) }
    frames.append(Frame(node: index, firstPending: pending.count, sizeBefore: writtenAndAliased, anchor: name))
    records.append(
      YAMLTree.Record(
        kind: kind, style: .plain, isText: false, file: fileIndex, line: UInt32(truncatingIfNeeded: mark.line + 1),
        column: UInt32(truncatingIfNeeded: mark.column + 1), start: 0, count: 0, name: YAMLTree.Record.unnamed))
    return true
  }

  private mutating func close() {
    guard let frame = frames.popLast() else { return }
    let isMapping = records[Int(frame.node)].kind == .mapping
    if isMapping { resolveMapping(frame) }
    records[Int(frame.node)].start = UInt32(children.count)
    records[Int(frame.node)].count = UInt32(pending.count - frame.firstPending)
    children.append(contentsOf: pending[frame.firstPending...])
    pending.removeSubrange(frame.firstPending...)
    if let anchor = frame.anchor {
      openAnchors.remove(anchor)
      anchors[anchor] = Anchor(node: frame.node, size: writtenAndAliased - frame.sizeBefore)
    }
    place(frame.node)
  }

  private mutating func takeAlias(_ event: yaml_event_t) -> Bool {
    let name = event.data.alias.anchor.map { String(cString: $0) } ?? ""
    if openAnchors.contains(name) {
      report(
        "CMC1010", at: event.start_mark, "'*\(name)' is inside of '&\(name)' itself",
        "an alias can't repeat what holds it")
      return false
    }
    guard let anchor = anchors[name] else {
      report(
        "CMC1010", at: event.start_mark, "'*\(name)' refers to an anchor that isn't defined above",
        "define it with '&\(name)' before, or put quotes around text that starts with '*'")
      return false
    }
    guard aliasedNodes + anchor.size <= limits.aliasedNodes else {
      report(
        "CMC1011", at: event.start_mark,
        "aliases repeat more than \(limits.aliasedNodes) values in this document",
        "write the repeated part once, under 'defaults:'")
      return false
    }
    aliasedNodes += anchor.size
    place(anchor.node)
    return true
  }
}
