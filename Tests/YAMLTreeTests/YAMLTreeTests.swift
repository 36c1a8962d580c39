import Diagnostics
import Testing
import YAMLTree

private func parse(_ text: String, limits: YAMLLimits = YAMLLimits()) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) {
  YAMLTree.parse(bytes: Array(text.utf8), file: "plan.yaml", limits: limits)
}

/// The tree as text that shows what was understood: `{a: [1, "x"]}`.
func shown(_ node: YAMLNode) -> String {
  switch node.kind {
  case .scalar: node.isExplicitText ? "\"\(node.text)\"" : node.text
  case .sequence: "[" + node.elements.map(shown).joined(separator: ", ") + "]"
  case .mapping: "{" + node.entries.map { "\(shown($0.key)): \(shown($0.value))" }.joined(separator: ", ") + "}"
  }
}

func shown(_ text: String) -> String { parse(text).tree.map { shown($0.root) } ?? "no tree" }

private func codes(_ text: String, limits: YAMLLimits = YAMLLimits()) -> [String] {
  parse(text, limits: limits).diagnostics.map { "\($0.position?.line ?? 0):\($0.position?.column ?? 0) \($0.code)" }
}

@Suite struct YAMLTreeTests {
  @Test func everyNodeKnowsItsPlace() throws {
    let root = try #require(parse("a:\n  - x\n  - {ü: y, b: z}\n").tree?.root)
    let list = try #require(root["a"])
    #expect(list.position == SourcePosition(file: "plan.yaml", line: 2, column: 3))
    #expect(list.elements[0].position.column == 5)
    let entry = list.elements[1].entries[0]
    #expect(entry.key.position == SourcePosition(file: "plan.yaml", line: 3, column: 6))
    // Columns count characters, not bytes.
    #expect(entry.value.position.column == 9)
    #expect(list.elements[1].entries[1].key.position.column == 12)
  }

  @Test(arguments: ["no", "on", "012", "0o17", "1_000", "12:30:00", "2026-01-01", "1.10", "0x1F", "NO", "y", ".5"])
  func plainScalarsKeepTheirText(_ text: String) throws {
    let node = try #require(parse("a: \(text)").tree?.root["a"])
    #expect(node.text == text)
    #expect(!node.isExplicitText)
    #expect(!node.isNull)
  }

  @Test func nullIsOnlyWhatTheCoreSchemaCallsNull() throws {
    let root = try #require(parse("[~, null, Null, NULL, nUll, '', \"null\", !!str null]").tree?.root)
    #expect(root.elements.map(\.isNull) == [true, true, true, true, false, false, false, false])
    #expect(parse("a:\n").tree?.root["a"]?.isNull == true)
  }

  @Test func stylesAndFoldingAreYAMLs() {
    #expect(
      shown("a: 'it''s'\nb: \"x\\ty\"\nc: |\n  l1\n  l2\nd: >-\n  f1\n  f2\n")
        == "{a: \"it's\", b: \"x\ty\", c: \"l1\nl2\n\", d: \"f1 f2\"}")
    #expect(shown("\u{feff}a: 1\r\nb: 2\r\n") == "{a: 1, b: 2}")
    #expect(shown("a: [x, y,]\n? b\n: c\n") == "{a: [x, y], b: c}")
  }

  @Test func sequencesAndAliasesRepeatTheAnchor() {
    #expect(
      shown("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]\n")
        == "{a: {k: [1, 2]}, b: {k: [1, 2]}, c: [{k: [1, 2]}, {k: [1, 2]}]}")
    #expect(shown("a: &key name\nb: {*key : v}\n") == "{a: name, b: {name: v}}")
  }

  @Test func mergedEntriesNeverWinOverWrittenOnes() {
    #expect(shown("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\n") == "{a: {k: 1, l: 2}, b: {k: 3, l: 2}}")
    #expect(
      shown("a: &x {k: 1}\nb: &y {k: 2, m: 3}\nc: {<<: [*x, *y]}\n") == "{a: {k: 1}, b: {k: 2, m: 3}, c: {k: 1, m: 3}}")
    #expect(shown("a: {\"<<\": 1}\n") == "{a: {\"<<\": 1}}")
    #expect(codes("a: {<<: 1}\n") == ["1:9 CMC1012"])
  }

  @Test func duplicateKeysAreReportedAndTheTreeIsThere() {
    #expect(codes("a: 1\nb: 2\na: 3\n\"b\": 4\n") == ["3:1 CMC1009", "4:1 CMC1009"])
    #expect(parse("a: 1\na: 2\n").tree != nil)
    let many = (0..<100).map { "k\($0): v\n" }.joined()
    #expect(codes(many + "k42: again\n") == ["101:1 CMC1009"])
  }

  @Test(arguments: [
    ("a: [1\n", "1:4 CMC1003"), ("a: 'x\n", "1:4 CMC1003"), ("a:\n\t- b\n", "2:1 CMC1002"), ("", "1:1 CMC1007"),
    ("# only\n", "1:1 CMC1007"), ("a: 1\n---\nb: 2\n", "2:1 CMC1006"), ("a: *b\n", "1:4 CMC1010"),
    ("a: &b [*b]\n", "1:8 CMC1010"), ("a: !Ref b\n", "1:4 CMC1013"), ("a: !!binary YQ==\n", "1:4 CMC1013"),
    ("{{ x }}: 1\n", "1:1 CMC1008"), ("[a]: 1\n", "1:1 CMC1008"), ("\"\": 1\n", "1:1 CMC1008"),
  ])
  func faultsHaveAPlaceAndACode(_ text: String, _ expected: String) {
    #expect(codes(text).first == expected)
  }

  @Test func badBytesAreFound() {
    let latin = YAMLTree.parse(bytes: Array("a: b\nc: M".utf8) + [0xfc, 0x6c], file: "f")
    #expect(latin.tree == nil)
    #expect(latin.diagnostics.map(\.code) == ["CMC1001"])
    #expect(latin.diagnostics.first?.position == SourcePosition(file: "f", line: 2, column: 5))
    #expect(codes("a: \u{7}b\n") == ["1:4 CMC1001"])
    #expect(codes("a: b\u{0}\n").first?.hasSuffix("CMC1001") == true)
  }

  @Test func utf16WithAMarkIsRead() {
    let bytes: [UInt8] = [0xff, 0xfe] + "a: ü".utf16.flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] }
    #expect(YAMLTree.parse(bytes: bytes, file: "f").tree?.root["a"]?.text == "ü")
  }

  @Test func aliasBombsAreRefusedWithoutBeingFollowed() {
    var bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1...30 {
      bomb += "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ") + "]\n"
    }
    let (tree, diagnostics) = parse(bomb)
    #expect(tree == nil)
    #expect(diagnostics.map(\.code) == ["CMC1011"])
    var merges = "m0: &m0 {a: 1, b: 2, c: 3, d: 4}\n"
    for level in 1...40 { merges += "m\(level): &m\(level) {<<: [*m\(level - 1), *m\(level - 1)], k\(level): 1}\n" }
    #expect(parse(merges).diagnostics.map(\.code) == ["CMC1011"])
  }

  @Test func limitsHold() {
    var limits = YAMLLimits()
    limits.depth = 4
    #expect(codes("[[[[1]]]]", limits: limits).isEmpty)
    #expect(codes("[[[[[1]]]]]", limits: limits) == ["1:5 CMC1005"])
    limits.nodes = 4
    #expect(codes("[1, 2, 3]", limits: limits).isEmpty)
    #expect(codes("[1, 2, 3, 4]", limits: limits) == ["1:11 CMC1004"])
    limits.scalarBytes = 3
    #expect(codes("[abcd]", limits: limits) == ["1:2 CMC1004"])
    limits.bytes = 3
    #expect(codes("abcd", limits: limits) == ["1:1 CMC1004"])
    limits = YAMLLimits()
    limits.diagnostics = 5
    #expect(codes(String(repeating: "a: 1\n", count: 100), limits: limits).count == 5)
    #expect(codes(String(repeating: "[", count: 100_000)) == ["1:65 CMC1005"])
  }
}
