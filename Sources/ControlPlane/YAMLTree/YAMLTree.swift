package import Diagnostics

/// A parsed YAML document, or the merged documents of several files. Immutable; nodes live in flat arrays, so a document of millions of nodes costs 24 bytes a
/// node plus its text, and no allocation of their own.
package final class YAMLTree: Sendable {
  package enum Kind: UInt8, Sendable {
    case scalar
    case sequence
    case mapping
  }

  /// How a scalar was written. Only a plain one may mean null, a boolean or a number.
  package enum Style: UInt8, Sendable {
    case plain
    case singleQuoted
    case doubleQuoted
    case literal
    case folded
  }

  struct Record {
    var kind: Kind
    var style: Style
    /// Whether the text is quoted or tagged as a string: never null, boolean or number.
    var isText: Bool
    /// Index in `files`.
    var file: UInt8
    /// Counted from 1.
    var line: UInt32
    /// Counted from 1, in Unicode scalars.
    var column: UInt32
    /// First byte in `text`, or first index in `children`.
    var start: UInt32
    /// Bytes of text, elements, or keys and values of a mapping together.
    var count: UInt32
    /// Index in `names` of a key's text; `Record.unnamed` for what is no key.
    var name: UInt32
    static let unnamed = UInt32.max
  }

  /// As they were named, in the order in which they were given.
  package let files: [String]
  let records: [Record]
  let children: [UInt32]
  let text: [UInt8]
  /// Every distinct key, once.
  let names: [String]
  let rootIndex: UInt32

  init(files: [String], records: [Record], children: [UInt32], text: [UInt8], names: [String], rootIndex: UInt32) {
    self.files = files
    self.records = records
    self.children = children
    self.text = text
    self.names = names
    self.rootIndex = rootIndex
  }

  package var root: YAMLNode { YAMLNode(tree: self, index: rootIndex) }
  /// Nodes as written; what aliases repeat is counted once.
  package var nodeCount: Int { records.count }
}

/// One node of a tree: a handle that is cheap to copy. What an alias names appears at the place of the anchor.
package struct YAMLNode: Sendable {
  let tree: YAMLTree
  let index: UInt32

  private var record: YAMLTree.Record { tree.records[Int(index)] }

  package var kind: YAMLTree.Kind { record.kind }
  package var style: YAMLTree.Style { record.style }
  package var line: Int { Int(record.line) }
  package var column: Int { Int(record.column) }
  package var position: SourcePosition {
    SourcePosition(file: tree.files[Int(record.file)], line: line, column: column)
  }
  package var isScalar: Bool { record.kind == .scalar }
  package var isMapping: Bool { record.kind == .mapping }
  package var isSequence: Bool { record.kind == .sequence }
  /// Whether the scalar was written as text: in quotes, as a block, or with the tag `!!str`.
  package var isExplicitText: Bool { record.isText }

  /// A scalar's text, with no meaning taken from it: `no` is "no", `012` is "012". Empty for collections.
  package var text: String {
    let record = record
    guard record.kind == .scalar else { return "" }
    if record.name != YAMLTree.Record.unnamed { return tree.names[Int(record.name)] }
    let start = Int(record.start)
    return String(decoding: tree.text[start..<(start + Int(record.count))], as: UTF8.self)
  }

  /// Null as in the core schema of YAML 1.2: nothing, `~` or `null`, not in quotes.
  package var isNull: Bool {
    let record = record
    guard record.kind == .scalar, !record.isText else { return false }
    if record.count == 0 { return true }
    guard record.count == 1 || record.count == 4 else { return false }
    switch text {
    case "~", "null", "Null", "NULL": return true
    default: return false
    }
  }

  /// Whether a scalar's text holds this ASCII byte; much cheaper than making the text.
  package func contains(byte: UInt8) -> Bool {
    let record = record
    guard record.kind == .scalar else { return false }
    let start = Int(record.start)
    return tree.text[start..<(start + Int(record.count))].contains(byte)
  }

  /// Elements of a sequence, entries of a mapping, zero for a scalar.
  package var count: Int {
    switch record.kind {
    case .scalar: 0
    case .sequence: Int(record.count)
    case .mapping: Int(record.count) / 2
    }
  }

  /// The elements of a sequence; empty for other nodes.
  package var elements: Elements { Elements(node: self, count: isSequence ? count : 0) }
  /// The entries of a mapping in the order of the document, merged ones last; empty for other nodes.
  package var entries: Entries { Entries(node: self, count: isMapping ? count : 0) }

  /// The value of a key, nil where there is none. Linear: for a few look-ups in small mappings.
  package subscript(_ key: String) -> YAMLNode? { entries.first { $0.key.text == key }?.value }

  fileprivate func child(_ offset: Int) -> YAMLNode {
    YAMLNode(tree: tree, index: tree.children[Int(record.start) + offset])
  }

  package struct Elements: RandomAccessCollection, Sendable {
    let node: YAMLNode
    package let count: Int
    package var startIndex: Int { 0 }
    package var endIndex: Int { count }
    package subscript(_ position: Int) -> YAMLNode {
      precondition(position >= 0 && position < count)
      return node.child(position)
    }
  }

  package struct Entries: RandomAccessCollection, Sendable {
    let node: YAMLNode
    package let count: Int
    package var startIndex: Int { 0 }
    package var endIndex: Int { count }
    package subscript(_ position: Int) -> (key: YAMLNode, value: YAMLNode) {
      precondition(position >= 0 && position < count)
      return (node.child(2 * position), node.child(2 * position + 1))
    }
  }
}
