import Diagnostics
import Testing
import YAMLTree

/// A document that is split over files.
@Suite struct MergingTests {
  private static func parse(_ files: [String]) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) {
    YAMLTree.parse(
      parts: files.enumerated().map { YAMLTree.Part(bytes: Array($1.utf8), file: "\($0).yaml") })
  }

  @Test func namesAreUnitedAndListsJoined() throws {
    let (tree, diagnostics) = Self.parse([
      "kind: Plan\nhosts: {a: 1}\nmoved: [x]\nmigrations:\n",
      "kind: Plan\nhosts: {b: 2}\nmoved: [y]\nmigrations: {m: 1}\n",
    ])
    #expect(diagnostics.isEmpty)
    let root = try #require(tree?.root)
    #expect(root.entries.map { $0.key.text } == ["kind", "hosts", "moved", "migrations"])
    #expect(root["hosts"]?.entries.map { "\($0.key.position)" } == ["0.yaml:2:9", "1.yaml:2:9"])
    #expect(root["moved"]?.elements.map(\.text) == ["x", "y"])
    #expect(root["migrations"]?["m"]?.text == "1")
  }

  @Test func conflictsNameBothPlaces() {
    let (tree, diagnostics) = Self.parse(["a: 1\nhosts: {h: 1}\n", "a: 2\n\nhosts:\n  h: 1\n", "- no\n"])
    #expect(tree != nil)
    #expect(
      diagnostics.map { "\($0.position?.description ?? "") \($0.code)" }
        == ["1.yaml:1:1 CMC1014", "1.yaml:4:3 CMC1014", "2.yaml:1:1 CMC1014"])
    #expect(diagnostics.dropFirst().first?.message == "'hosts: h' is also at 0.yaml:2:9")
  }

  @Test func faultsOfAllFilesAreFoundAndAnchorsStayInTheirs() {
    let (tree, diagnostics) = Self.parse(["a: [\n", "b: &x 1\n", "c: *x\n", "d: 1\nd: 2\n"])
    #expect(tree == nil)
    #expect(
      diagnostics.map { "\($0.position?.file ?? "") \($0.code)" }
        == ["0.yaml CMC1003", "2.yaml CMC1010", "3.yaml CMC1009"])
  }
}
