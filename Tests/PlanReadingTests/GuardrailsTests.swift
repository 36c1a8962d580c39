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

  private static let notifying =
    minimalPlan + """
      notifications:
        audit: {webhook: "https://hooks.example.com/T0/B1?token=hunter2"}
        oncall: {webhook: {env: ONCALL_WEBHOOK}}

      """

  @Test func aPlanCannotAllowItselfAWebhook() throws {
    let plan = try #require(read(Self.notifying).plan)
    let diagnostics = GuardrailCheck.diagnostics(plan, guardrails: nil)
    #expect(diagnostics.map(\.code) == ["CMC1292", "CMC1292"])
    #expect(diagnostics[0].advice.contains("allow: {webhooks: [\"https://hooks.example.com\"]}"))
    #expect(diagnostics[1].advice.contains("allow: {webhooks: [{env: ONCALL_WEBHOOK}]}"))
    #expect(!"\(diagnostics)".contains("hunter2"))
  }

  @Test(arguments: [
    ("{webhooks: [\"https://hooks.example.com\", {env: ONCALL_WEBHOOK}]}", 0),
    ("{webhooks: [\"https://hooks.example.com/T0/\", {env: ONCALL_WEBHOOK}]}", 0),
    ("{webhooks: [\"https://hooks.example.com/T1\", {env: ONCALL_WEBHOOK}]}", 1),
    ("{webhooks: [\"https://hooks.example.com.evil.org\", {file: ONCALL_WEBHOOK}]}", 2),
    // What may be sent to a cloud of one's own is not thereby somebody to call.
    ("{secrets: [{env: ONCALL_WEBHOOK}], endpoints: [\"https://hooks.example.com\"]}", 2),
  ])
  func webhooksThatAreAllowedPass(_ allow: String, _ faults: Int) throws {
    let plan = try #require(read(Self.notifying).plan)
    let guardrails = try #require(Self.guardrails(allow).guardrails)
    #expect(
      GuardrailCheck.diagnostics(plan, guardrails: guardrails).map(\.code) == Array(repeating: "CMC1292", count: faults)
    )
  }

  @Test func microsoftsOwnCloudsNeedNothing() throws {
    let plan = try #require(read(minimalPlan).plan)
    #expect(GuardrailCheck.diagnostics(plan, guardrails: nil).isEmpty)
  }

  @Test func faultsOfTheFileAreFound() {
    #expect(
      Self.guardrails("{endpoints: [ftp://x], secrets: [hunter2], regions: []}").diagnostics.map(\.code)
        == ["CMC1108", "CMC1120", "CMC1101"])
    #expect(Self.guardrails("{webhooks: [hunter2]}").diagnostics.map(\.code) == ["CMC1120"])
    let (guardrails, diagnostics) = GuardrailsReader.read(text: minimalPlan, file: "plan.yaml")
    #expect(guardrails == nil)
    #expect(diagnostics.contains { $0.code == "CMC1113" })
  }
}
