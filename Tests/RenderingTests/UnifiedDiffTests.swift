import Rendering
import Testing

@Suite struct UnifiedDiffTests {
  @Test func changesStandBetweenThreeLinesOfContext() {
    let before = (1...20).map { "line \($0)\n" }.joined()
    let after = before.replacing("line 2\n", with: "").replacing("line 15\n", with: "line 15a\nline 15b\n")
    #expect(
      UnifiedDiff.text(before, after, file: "plan.yaml") == """
        --- plan.yaml
        +++ plan.yaml
        @@ -1,5 +1,4 @@
         line 1
        -line 2
         line 3
         line 4
         line 5
        @@ -12,7 +11,8 @@
         line 12
         line 13
         line 14
        -line 15
        +line 15a
        +line 15b
         line 16
         line 17
         line 18

        """)
  }

  @Test func nothingChangesWithoutAWord() {
    #expect(UnifiedDiff.text("a\n", "a\n", file: "f").isEmpty)
    #expect(UnifiedDiff.text("", "a\n", file: "f") == "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n")
  }
}
