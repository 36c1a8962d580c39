import Diagnostics
import Testing
import YAMLTree

/// Corners of YAML that documents get into, small: what is understood of each, or the code of what is wrong. The kinds of
/// cases are those of the official test suite.
@Suite struct CorpusTests {
  static let understood: [(text: String, tree: String)] = [
    ("- a\n- b\n- c\n", "[a, b, c]"),
    ("a: b\nc:\n  - d\n  - e: f\n", "{a: b, c: [d, {e: f}]}"),
    ("-\n  a: b\n-\n  - c\n", "[{a: b}, [c]]"),
    ("a:\n- b\n-  - c\n   - d\n", "{a: [b, [c, d]]}"),
    ("? a\n? b\n: c\n", "{a: , b: c}"),
    ("a: {b: c, d, 'e': [f, {g: h}]}\n", "{a: {b: c, d: , \"e\": [f, {g: h}]}}"),
    ("{a: [b, c], d: e,\n f: g}\n", "{a: [b, c], d: e, f: g}"),
    ("[a, [b, c], {d: e}, f: g]\n", "[a, [b, c], {d: e}, {f: g}]"),
    ("a: b # comment\n# another\nc: d#no\n", "{a: b, c: d#no}"),
    ("a: |\n  one\n   two\n\n  three\nb: c\n", "{a: \"one\n two\n\nthree\n\", b: c}"),
    ("a: >\n  one\n  two\n\n  three\n", "{a: \"one two\nthree\n\"}"),
    ("a: |-\n  one\nb: |+\n  two\n\nc: x\n", "{a: \"one\", b: \"two\n\n\", c: x}"),
    ("a: \"x\\n\\x41\\u00fc\\\"\\\\\"\n", "{a: \"x\nAü\"\\\"}"),
    ("a: \"one\n  two\n\n  three\"\n", "{a: \"one two\nthree\"}"),
    ("a: 'it''s # no comment'\n", "{a: \"it's # no comment\"}"),
    ("a: one\n  two\n  three\n", "{a: one two three}"),
    ("a: &x b\nc: *x\n", "{a: b, c: b}"),
    ("a: &x\n  b: c\nd:\n  <<: *x\n  e: f\n", "{a: {b: c}, d: {e: f, b: c}}"),
    ("a: !!str 12\nb: !!int 12\n", "{a: \"12\", b: 12}"),
    ("%YAML 1.2\n---\na: b\n", "{a: b}"),
    ("---\na: b\n...\n", "{a: b}"),
    ("\n\n  \na: b\n\n", "{a: b}"),
    ("a: http://example.com:80/x?y=z#f\nb: 12:30:00\n", "{a: http://example.com:80/x?y=z#f, b: 12:30:00}"),
    ("a: -1\nb: +1\nc: .inf\nd: 0x1f\ne: ~\nf:\n", "{a: -1, b: +1, c: .inf, d: 0x1f, e: ~, f: }"),
    ("\"a b\": c\n'd': e\n", "{\"a b\": c, \"d\": e}"),
    ("a:   \n  b:    c   \n", "{a: {b: c}}"),
    ("[a, b, ]\n", "[a, b]"),
    ("- - - a\n", "[[[a]]]"),
    ("a: \"- b\"\n", "{a: \"- b\"}"),
    ("{\"a\":1,\"b\":[true,null]}", "{\"a\": 1, \"b\": [true, null]}"),
    ("ключ: значение\n鍵: 値\n", "{ключ: значение, 鍵: 値}"),
    ("a: \u{1F600}\n", "{a: \u{1F600}}"),
  ]

  @Test(arguments: understood.indices) func isUnderstood(_ index: Int) {
    let (text, tree) = Self.understood[index]
    #expect(shown(text) == tree)
  }

  static let refused: [(text: String, code: String)] = [
    ("a: - b\n", "CMC1003"), ("a: b: c\n", "CMC1003"), ("a: [b\nc: d\n", "CMC1003"), ("a: {b: c\n", "CMC1003"),
    ("a: \"b\n", "CMC1003"), ("a: 'b\n", "CMC1003"), ("a: b\n c: d\n", "CMC1003"), ("a:\n  b: c\n d: e\n", "CMC1003"),
    ("- a\nb: c\n", "CMC1003"), ("a: b\n- c\n", "CMC1003"), ("a: @b\n", "CMC1003"), ("a: `b\n", "CMC1003"),
    ("a: %b\n", "CMC1003"), ("a: \"\\q\"\n", "CMC1003"), ("a: \"b\" c\n", "CMC1003"), ("a\n\tb\n:c: d\n", "CMC1003"),
    ("\ta: b\n", "CMC1002"), ("a:\n\t- b\n", "CMC1002"), ("a: *b\n", "CMC1010"), ("a: &a\nb: &b [*b]\n", "CMC1010"),
    ("a: !local b\n", "CMC1013"), ("--- a\n--- b\n", "CMC1006"), ("a: b\n...\n---\nc: d\n", "CMC1006"),
    ("a: 1\na: 2\n", "CMC1009"), ("{a: 1, a: 2}\n", "CMC1009"), ("[a, b]: c\n", "CMC1008"),
    ("? {a: b}\n: c\n", "CMC1008"),
    ("a: b\nc\n", "CMC1003"), ("<<: a\n", "CMC1012"),
  ]

  @Test(arguments: refused.indices) func isRefused(_ index: Int) {
    let (text, code) = Self.refused[index]
    #expect(YAMLTree.parse(bytes: Array(text.utf8), file: "f").diagnostics.map(\.code) == [code], "\(text)")
  }

  /// Nothing between two markers is a document all the same: null.
  @Test func anEmptyDocumentIsNull() {
    #expect(YAMLTree.parse(bytes: Array("---\n...\n".utf8), file: "f").tree?.root.isNull == true)
  }
}
