/// The JSON Schema of a migration plan, made of the same field table that the reader uses.
package enum PlanSchema {
  /// The schema (draft 2020-12) as pretty-printed JSON with a newline at the end; the same text every time.
  package static func json() -> String { "" }
}
