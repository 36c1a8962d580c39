package import MigrationModel
package import Planning
package import Reconciling
package import BlockModel

/// How text looks: colours or not, how wide, whether lines may be drawn over.
package struct TextStyle: Sendable, Equatable {
  package var colours: Bool
  /// Columns; text folds here.
  package var width: Int
  /// Whether this is a terminal on which bars may be redrawn.
  package var live: Bool
  package init(colours: Bool, width: Int, live: Bool) {
    self.colours = colours
    self.width = width
    self.live = live
  }
  package static let plain = TextStyle(colours: false, width: 80, live: false)

  /// NO_COLOR (https://no-color.org) and TERM=dumb turn colours off, as does anything that isn't a terminal.
  package static func detected(environment: [String: String], isTerminal: Bool, columns: Int?) -> TextStyle {
    let dumb = environment["TERM"] == "dumb"
    let colours = isTerminal && !dumb && (environment["NO_COLOR"] ?? "").isEmpty
    return TextStyle(colours: colours, width: min(max(columns ?? 80, 40), 200), live: isTerminal && !dumb)
  }
}

package func renderText(_ changes: ChangeSet, style: TextStyle) -> String { "" }
/// One versioned JSON object on one line.
package func renderJSON(_ changes: ChangeSet) -> String { "" }
package func renderMarkdown(_ changes: ChangeSet) -> String { "" }
package func renderStatus(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions, style: TextStyle)
  -> String
{ "" }
package func renderStatusJSON(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) -> String {
  ""
}
package func renderSummary(_ summary: ApplySummary, style: TextStyle) -> String { "" }

/// Turns progress events into what is written to the terminal, or to a log. Pure: answers the text to write.
package struct ProgressRenderer: Sendable {
  package enum Format: Sendable { case text, json }
  let format: Format
  let style: TextStyle
  package init(format: Format, style: TextStyle) {
    self.format = format
    self.style = style
  }
  package mutating func render(_ event: ProgressEvent, at now: MonotonicTime) -> String { "" }
}
