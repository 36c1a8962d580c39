import Rendering
import Testing

@Suite struct ReportTests {
  private let blocks: [ReportBlock] = [
    .heading(level: 1, "Plan <script>alert(1)</script>"), .paragraph("a \"b\" & 'c' \u{1b}[2J"),
    .list(["one | two", "# no heading"]), .table([["migration", "is"], ["erp|db", "<img src=x>"]]),
  ]

  @Test func theHTMLIsOneFileThatNeedsNothingAndObeysNobody() {
    let html = renderHTML(blocks)
    #expect(html.hasPrefix("<!DOCTYPE html>\n"))
    #expect(html.contains("<title>Plan &lt;script&gt;alert(1)&lt;/script&gt;</title>"))
    #expect(html.contains("<p>a &quot;b&quot; &amp; &#39;c&#39; \\u{1b}[2J</p>"))
    #expect(html.contains("<tr><th>migration</th><th>is</th></tr>\n<tr><td>erp|db</td><td>&lt;img src=x&gt;</td></tr>"))
    for foreign in ["<script", "<img", "http:", "https:", "src=x>", "@import", "url("] {
      #expect(!html.contains(foreign), "\(foreign)")
    }
  }

  @Test func theMarkdownKeepsItsTablesAndItsLines() {
    #expect(
      renderMarkdown(blocks) == """
        # Plan &lt;script&gt;alert(1)&lt;/script&gt;

        a "b" &amp; 'c' \\\\u{1b}\\[2J

        - one \\| two
        - \\# no heading

        | migration | is |
        |---|---|
        | erp\\|db | &lt;img src=x&gt; |

        """)
  }
}
