import Diagnostics
import MigrationModel
import PlanReading
import Testing

@Suite struct GuardrailsTests {
  static let custom = minimal(
    replacing: "      location: westeurope",
    by: """
            location: westeurope
            cloud: {authority: "http://127.0.0.1:18443", resourceManager: "http://127.0.0.1:18444/"}
            credential: {clientId: 33333333-3333-3333-3333-333333333333, clientSecret: {env: AZURE_CLIENT_SECRET}}
      """)

  static func guardrails(_ allow: String) -> (guardrails: Guardrails?, diagnostics: [Diagnostic]) {
    GuardrailsReader.read(text: "apiVersion: cmcplan/v1\nkind: Guardrails\nallow: \(allow)\n", file: "guardrails.yaml")
  }

  @Test func aPlanCannotAllowItselfAnEndpoint() throws {
    let plan = try #require(read(Self.custom).plan)
    let diagnostics = GuardrailCheck.diagnostics(plan, guardrails: nil)
    #expect(diagnostics.map(\.code) == ["CMC1290", "CMC1290", "CMC1291"])
    #expect(diagnostics[0].advice.contains("allow: {endpoints: [\"http://127.0.0.1:18443\"]}"))
    #expect(diagnostics[2].advice.contains("allow: {secrets: [{env: AZURE_CLIENT_SECRET}]}"))
    #expect(diagnostics.allSatisfy { $0.position?.line == 7 })
  }

  @Test func whatIsAllowedPasses() throws {
    let plan = try #require(read(Self.custom).plan)
    let all = try #require(
      Self.guardrails(
        "{endpoints: [\"http://127.0.0.1:18443/\", \"http://127.0.0.1:18444\"], secrets: [{env: AZURE_CLIENT_SECRET}]}"
      ).guardrails)
    #expect(GuardrailCheck.diagnostics(plan, guardrails: all).isEmpty)
    let other = try #require(
      Self.guardrails("{endpoints: [\"http://127.0.0.1:18443\"], secrets: [{file: AZURE_CLIENT_SECRET}]}").guardrails)
    #expect(GuardrailCheck.diagnostics(plan, guardrails: other).map(\.code) == ["CMC1290", "CMC1291"])
  }

  @Test func microsoftsOwnCloudsNeedNothing() throws {
    let plan = try #require(read(minimalPlan).plan)
    #expect(GuardrailCheck.diagnostics(plan, guardrails: nil).isEmpty)
  }

  @Test func faultsOfTheFileAreFound() {
    #expect(
      Self.guardrails("{endpoints: [ftp://x], secrets: [hunter2], regions: []}").diagnostics.map(\.code)
        == ["CMC1108", "CMC1120", "CMC1101"])
    let (guardrails, diagnostics) = GuardrailsReader.read(text: minimalPlan, file: "plan.yaml")
    #expect(guardrails == nil)
    #expect(diagnostics.contains { $0.code == "CMC1113" })
  }
}
