package import BlockModel
package import Planning

/// One line a check, and the answer last.
package func renderReadiness(_ checks: [ReadinessCheck], of migration: MigrationName, style: TextStyle) -> String {
  var text = ""
  for check in checks {
    let word = check.isReady ? "ready" : "not ready"
    text += style.folded(
      style.paint(word, check.isReady ? .good : .bad) + "  ", leadWidth: word.count + 2,
      safe("\(check.name): \(check.finding)"), indent: 4)
    if !check.advice.isEmpty { text += style.folded("    = ", leadWidth: 6, safe(check.advice), indent: 6) }
  }
  let missing = checks.count { !$0.isReady }
  let last =
    missing == 0
    ? "\(migration) is ready." : "\(migration) is not ready: \(Quantity.count(missing, "thing")) to do first."
  return text + "\n" + style.folded("", leadWidth: 0, last, indent: 0, ink: missing == 0 ? .good : .bad)
}

package func renderReadinessJSON(_ checks: [ReadinessCheck], of migration: MigrationName) -> String {
  struct Document: Encodable {
    var kind = "Readiness"
    var formatVersion = 1
    var migration: String
    var ready: Bool
    var checks: [ReadinessCheck]
  }
  return encoded(Document(migration: migration.text, ready: checks.allSatisfy(\.isReady), checks: checks)) + "\n"
}
