package import Diagnostics

/// Diagnostics as people read them: what is wrong, the line of the document with a caret below, what to do.
package enum DiagnosticText {
  /// - Parameters:
  ///   - diagnostics: in the order in which they are to be shown.
  ///   - sourceText: the document that they are about; without it, positions are shown without the line.
  package static func render(_ diagnostics: [Diagnostic], sourceText: String? = nil) -> String { "" }
}
