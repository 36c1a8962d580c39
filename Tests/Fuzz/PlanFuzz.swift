import Diagnostics
import PlanReading
import YAMLTree

/// libFuzzer's entry: text to tree to plan, and to the formatter. No bytes may crash one of them, keep it busy, or make
/// it say nothing about what it refuses. Built by `Tests/Fuzz/build`, not by the package: only the rooms on that way are
/// instrumented.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzPlan(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: data, count: count))
  let variables = [GivenVariable(name: "x", value: "{var:y}", origin: .option)]
  let (plan, diagnostics) = PlanReader.read([PlanSource(bytes: bytes, file: "plan.yaml")], variables: variables)
  precondition(plan != nil || diagnostics.hasErrors, "a document is refused without a word")
  for diagnostic in diagnostics {
    precondition(RuleCatalogue.rule(diagnostic.code) != nil, "\(diagnostic.code) is not explained")
    if let position = diagnostic.position { precondition(position.line > 0 && position.column > 0) }
  }
  // The same bytes as two files of one plan: everything is said twice.
  let halves = [PlanSource(bytes: bytes, file: "a.yaml"), PlanSource(bytes: bytes, file: "b.yaml")]
  _ = PlanReader.read(halves, variables: [])
  guard let text = String(validating: bytes, as: UTF8.self), let once = try? YAMLFormatter.format(text) else {
    return 0
  }
  let twice = try? YAMLFormatter.format(once)
  precondition(twice == once, "formatting twice is not formatting once")
  return 0
}
