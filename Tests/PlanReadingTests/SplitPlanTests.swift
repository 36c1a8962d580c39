import BlockModel
import Diagnostics
import MigrationModel
import PlanReading
import Testing

/// Plans over several files, and values for their variables from outside.
@Suite struct SplitPlanTests {
  private static func sources(_ texts: [String]) -> [PlanSource] {
    texts.enumerated().map { PlanSource(bytes: Array($1.utf8), file: "\($0).yaml") }
  }

  /// The minimal plan, cut where `hosts:` begins.
  private static var halves: [String] {
    let parts = minimalPlan.split(separator: "hosts:\n", maxSplits: 1)
    return [String(parts[0]), "apiVersion: cmcplan/v1\nkind: MigrationPlan\nhosts:\n" + parts[1]]
  }

  @Test func partsMakeThePlanThatTheyWouldMakeInOneFile() throws {
    let (plan, diagnostics) = PlanReader.read(Self.sources(Self.halves), variables: [])
    #expect(diagnostics.isEmpty, "\(diagnostics)")
    let whole = try #require(read(minimalPlan).plan)
    let split = try #require(plan)
    #expect(split.metadata == whole.metadata)
    #expect(split.hosts.keys == whole.hosts.keys)
    #expect(split.migrations.keys == whole.migrations.keys)
    #expect(split.migrations[MigrationName("erp-db")]?.position?.file == "1.yaml")
  }

  @Test func conflictsAreShownWithBothPlaces() {
    let third = "migrations:\n  erp-db: {}\nattestations: {applicationLicensed: false}\n"
    let (plan, diagnostics) = PlanReader.read(Self.sources(Self.halves + [third]), variables: [])
    #expect(plan == nil)
    #expect(
      diagnostics.map { "\($0.position?.description ?? "") \($0.code)" } == [
        "2.yaml:2:3 CMC1014", "2.yaml:3:16 CMC1014",
      ])
    #expect(diagnostics.first?.message == "'migrations: erp-db' is also at 1.yaml:10:3")
  }

  static let withVariables = minimal(
    replacing: "metadata:",
    by: "variables:\n  phase: {default: prepared}\n  wait: {type: duration, default: 15m}\nmetadata:"
  )
  .replacing("phase: synchronized", with: "phase: \"{var:phase}\"\n    resync: {interval: \"{var:wait}\"}")

  private func reading(_ given: [GivenVariable]) -> (plan: MigrationPlan?, diagnostics: [Diagnostic]) {
    PlanReader.read(Self.sources([Self.withVariables]), variables: given)
  }

  @Test func theLaterValueWins() throws {
    let file = VariablesReader.read(bytes: Array("phase: cmotion\nwait: 1h\n".utf8), file: "v.yaml")
    #expect(file.diagnostics.isEmpty)
    let environment = GivenVariable.fromEnvironment([
      "CMCPLAN_VAR_phase": "finalized", "CMCPLAN_VAR_": "x", "HOME": "/",
    ])
    #expect(environment.map(\.name) == ["phase"])
    let option = GivenVariable(name: "wait", value: "2h", origin: .option)
    let migration = try #require(reading(environment + file.variables + [option]).plan?.sortedMigrations.first)
    #expect(migration.cutover.phase.value == .cmotion)
    #expect(migration.resyncIntervalSeconds == 7_200)
    #expect(reading(environment).plan?.sortedMigrations.first?.cutover.phase.value == .finalized)
  }

  @Test func aValueOfTheWrongTypeIsSaidOfItsSource() {
    let environment = reading([GivenVariable(name: "wait", value: "15", origin: .environment("CMCPLAN_VAR_wait"))])
    #expect(environment.plan == nil)
    #expect(
      environment.diagnostics.contains {
        $0.code == "CMC1204" && $0.message.hasPrefix("CMCPLAN_VAR_wait: the duration '15'")
      })
    let file = VariablesReader.read(bytes: Array("wait: soon\nphse: x\n".utf8), file: "v.yaml").variables
    let found = reading(file).diagnostics.filter { $0.position?.file == "v.yaml" }
    #expect(found.map { "\($0.position?.line ?? 0) \($0.code)" } == ["1 CMC1204", "2 CMC1112"])
    #expect(found.last?.advice == "did you mean 'phase'?")
  }

  @Test func anUnknownVariableOfTheEnvironmentIsAWarning() {
    let (plan, diagnostics) = reading([
      GivenVariable(name: "other", value: "x", origin: .environment("CMCPLAN_VAR_other"))
    ]
    )
    #expect(plan != nil)
    #expect(diagnostics.map(\.code) == ["CMC1112"])
    #expect(diagnostics.map(\.severity) == [.warning])
  }

  @Test func aFileOfVariablesIsAMapping() {
    #expect(VariablesReader.read(bytes: Array("- a\n".utf8), file: "v").diagnostics.map(\.code) == ["CMC1103"])
    #expect(VariablesReader.read(bytes: Array("a: [b]\n".utf8), file: "v").diagnostics.map(\.code) == ["CMC1103"])
    #expect(VariablesReader.read(bytes: Array("a: [".utf8), file: "v").diagnostics.map(\.code) == ["CMC1003"])
  }

  @Test func guardrailsOfADirectoryAreNoPart() {
    #expect(PlanReader.isGuardrails(Array("apiVersion: cmcplan/v1\nkind: Guardrails\n".utf8)))
    #expect(!PlanReader.isGuardrails(Array(minimalPlan.utf8)))
  }
}
