extension Int {
  /// The whole part of a number that a host, an agent or a service told: what lies beyond an integer becomes the
  /// nearest one, and what is no number at all 0. `Int(_:)` would end the program.
  package init(saturating value: Double) {
    guard !value.isNaN else {
      self = 0
      return
    }
    self = Int(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max)
  }
}
