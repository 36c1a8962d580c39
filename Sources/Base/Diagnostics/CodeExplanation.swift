/// What a code means, for whoever asks about it. Each room keeps those of its own codes beside them.
package struct CodeExplanation: Sendable, Equatable {
  /// "CMC1203"; never reused for another rule.
  package let code: String
  /// What holds, or what happened, as a sentence without a period.
  package let rule: String
  /// Why it is so.
  package let reason: String
  /// What is right, as it would be written, or what to do.
  package let example: String
  package init(_ code: String, _ rule: String, _ reason: String, _ example: String) {
    self.code = code
    self.rule = rule
    self.reason = reason
    self.example = example
  }
}
