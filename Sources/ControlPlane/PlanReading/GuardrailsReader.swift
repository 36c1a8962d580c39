package import Diagnostics
package import MigrationModel

/// Reads a guardrails file, which a platform team keeps outside the plan:
///
///     apiVersion: cmcplan/v1
///     kind: Guardrails
///     allow:
///       endpoints: ["https://localhost:8443"]
///       secrets: [{env: AZURE_CLIENT_SECRET}]
package enum GuardrailsReader {
  /// The guardrails, or nil where `diagnostics` has an error.
  package static func read(text: String, file: String) -> (guardrails: Guardrails?, diagnostics: [Diagnostic]) {
    (nil, [])
  }
}

/// What a plan does that only its guardrails can allow: naming a cloud of its own, and sending a secret there.
package enum GuardrailCheck {
  /// An error for every endpoint and secret that is not allowed (CMC1290, CMC1291). Without `guardrails` nothing is.
  package static func diagnostics(_ plan: MigrationPlan, guardrails: Guardrails?) -> [Diagnostic] { [] }
}
