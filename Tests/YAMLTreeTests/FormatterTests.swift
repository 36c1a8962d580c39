import Testing
import YAMLTree

@Suite struct FormatterTests {
  static let cases: [(name: String, text: String, expected: String)] = [
    ("indentation", "a:\n    b:\n        c: 1\n    d: 2\n", "a:\n  b:\n    c: 1\n  d: 2\n"),
    ("lists below their key", "a:\n- b\n- c: 1\n  d: 2\ne: 3\n", "a:\n  - b\n  - c: 1\n    d: 2\ne: 3\n"),
    (
      "lists that are indented more", "a:\n      -   b\n      -   c:   1\n          d: 2\n",
      "a:\n  - b\n  - c: 1\n    d: 2\n"
    ),
    ("lists of lists", "- - a\n  - b\n-\n  - c\n", "- - a\n  - b\n-\n  - c\n"),
    ("spaces", "a :   1   \nb: { c:1,d :   [ x ,y ] }\n", "a: 1\nb: {c:1, d: [x, y]}\n"),
    ("JSON", "{\"a\":1,\"b\":[1,2]}", "{\"a\": 1, \"b\": [1, 2]}\n"),
    (
      "comments keep their place",
      "# top\na: 1 # x\n\n\n\n  # of b\nb:  # y\n    # of c\n    c: 1\n    # end of b\n# last\n",
      "# top\na: 1 # x\n\n# of b\nb:  # y\n  # of c\n  c: 1\n  # end of b\n# last\n"
    ),
    ("aligned comments", "a: 1      # x\nbb: 22    # y\n", "a: 1      # x\nbb: 22    # y\n"),
    (
      "quotes and anchors", "a: &x   'it''s'\nb: *x\nc: &y\n   d: \"#no\"\ne: {<<: *y}\n",
      "a: &x 'it''s'\nb: *x\nc: &y\n  d: \"#no\"\ne: {<<: *y}\n"
    ),
    (
      "texts of several lines", "a:\n    b: first\n       second\n    c: \"x\n      y\"  # z\n",
      "a:\n  b: first\n     second\n  c: \"x\n    y\"  # z\n"
    ),
    (
      "block texts", "a:\n    run: |\n        one\n          two\n\n        three\n    next: 1\n",
      "a:\n  run: |\n    one\n      two\n\n    three\n  next: 1\n"
    ),
    (
      "block texts with their indentation", "a:\n    - run: |3-  # why\n           one\n      b: 1\n",
      "a:\n  - run: |2-  # why\n        one\n    b: 1\n"
    ),
    (
      "flow over lines", "a:\n    b: {\n      c: 1,   # x\n      d: [1,\n          2]\n      }\n",
      "a:\n  b: {\n    c: 1,   # x\n    d: [1,\n        2]\n    }\n"
    ),
    (
      "texts of several lines in a row", "a:\n  b: {c: one\ntwo, d: three\n      four, e: 5}\n",
      "a:\n  b: {c: one\n    two, d: three\n          four, e: 5}\n"
    ),
    ("values on their own line", "a:\n      long text\nb:\n        {c: 1}\n", "a:\n  long text\nb:\n  {c: 1}\n"),
    ("line ends of three systems in a row", "a: 1\r\r\r\nb: 2\r", "a: 1\n\nb: 2\n"),
    ("a text that goes on behind them", "a b\r\r\r\r\nc", "a b\n\n\n\nc\n"),
    ("Windows", "\u{feff}a: 1\r\nb:\r\n    c: 2\r\n", "a: 1\nb:\n  c: 2\n"),
    ("markers", "---\na: 1\n...\n", "---\na: 1\n...\n"),
    ("only a value", "x", "x\n"),
  ]

  @Test(arguments: cases.indices) func layout(_ index: Int) throws {
    let (name, text, expected) = Self.cases[index]
    let once = try YAMLFormatter.format(text)
    #expect(once == expected, "\(name)")
    #expect(try YAMLFormatter.format(once) == once, "\(name): twice")
  }

  @Test func whatIsNoYAMLIsLeft() {
    #expect(throws: YAMLFormatter.Failure.notYAML) { try YAMLFormatter.format("a: [") }
    #expect(throws: YAMLFormatter.Failure.unsupported) { try YAMLFormatter.format("a: \"x\u{2028}y\"\n") }
    // The empty lines at the end belong to the text.
    #expect(throws: YAMLFormatter.Failure.unsupported) { try YAMLFormatter.format("a: |+\n  x\n\n\n") }
  }
}
