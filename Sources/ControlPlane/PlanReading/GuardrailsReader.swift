package import Diagnostics
package import MigrationModel
internal import YAMLTree

/// Reads a guardrails file, which a platform team keeps outside the plan:
///
///     apiVersion: cmcplan/v1
///     kind: Guardrails
///     allow:
///       endpoints: ["https://localhost:8443"]
///       secrets: [{env: AZURE_CLIENT_SECRET}]
///       webhooks: ["https://hooks.example.com/erp", {env: ONCALL_WEBHOOK}]
///     limits: what a plan's own `guardrails:` may say too
package enum GuardrailsReader {
  /// The guardrails, or nil where `diagnostics` has an error. Pure, as `PlanReader.read`.
  package static func read(text: String, file: String) -> (guardrails: Guardrails?, diagnostics: [Diagnostic]) {
    let (tree, faults) = YAMLTree.parse(bytes: Array(text.utf8), file: file)
    guard let tree else { return (nil, faults) }
    let reading = Reading()
    let guardrails = guardrails(tree.root, reading)
    let diagnostics = (faults + reading.finish()).sortedByPosition()
    return (diagnostics.hasErrors ? nil : guardrails, diagnostics)
  }

  private static func guardrails(_ root: YAMLNode, _ reading: Reading) -> Guardrails? {
    let shape = GuardrailsShape.the
    guard let object = ObjectReading(root, shape.shape, reading) else { return nil }
    _ = object.value(shape.apiVersion)
    _ = object.value(shape.kind)
    guard let node = object.node(shape.allow), let allow = ObjectReading(node, shape.allowShape, reading) else {
      return nil
    }
    let endpoints = allow.value(shape.endpoints) ?? []
    let secrets = allow.node(shape.secrets).flatMap { reading.elements(of: $0, expected: "a list of secrets") } ?? []
    let webhooks =
      allow.node(shape.webhooks).flatMap { reading.elements(of: $0, expected: "a list of webhooks") } ?? []
    let limits = object.node(shape.limits).flatMap { GuardrailLimitsReading(builder: PlanBuilder(reading)).read($0) }
    return Guardrails(
      allowedEndpoints: endpoints, allowedSecrets: secrets.compactMap { SecretReader.read($0, reading) },
      allowedWebhooks: webhooks.compactMap { WebhookReader.read($0, reading) },
      limits: limits ?? GuardrailLimits())
  }
}

struct GuardrailsShape: Sendable {
  static let the = GuardrailsShape()
  let apiVersion: Field<String>
  let kind: Field<String>
  let allow: Field<YAMLNode>
  let endpoints: Field<[String]>
  let secrets: Field<YAMLNode>
  let webhooks: Field<YAMLNode>
  let limits: Field<YAMLNode>
  let allowShape: Shape
  let shape: Shape

  private init() {
    var inner = FieldTable("allow", "What a plan may do that nothing in the plan can allow.")
    endpoints = inner.add(
      "endpoints", .list(of: .url, minimum: 0), examples: ["[\"https://localhost:8443\"]"],
      "Base URLs that a custom cloud may name.")
    secrets = inner.add(
      "secrets", .list(of: SecretShape.the.shape), examples: ["[{env: AZURE_CLIENT_SECRET}]"],
      "Secrets that may be sent to a custom cloud.")
    webhooks = inner.add(
      "webhooks", .node(.list(WebhookReader.type.schema, minimum: 0)),
      examples: ["[\"https://hooks.example.com/erp\", {env: ONCALL_WEBHOOK}]"],
      "Whom notifications may reach: a URL and all below it, or a secret that holds one.")
    allowShape = Shape(inner)
    var table = FieldTable(
      "guardrailsFile", noun: "the guardrails file", "What a platform team allows, outside of the plan.")
    apiVersion = table.add("apiVersion", .constant("cmcplan/v1"), required: true, examples: ["cmcplan/v1"], "Version.")
    kind = table.add("kind", .constant("Guardrails"), required: true, examples: ["Guardrails"], "Kind of document.")
    allow = table.add("allow", .shape(allowShape), required: true, "What is allowed.")
    limits = table.add(
      "limits", .shape(GuardrailLimitsShape.the.shape),
      examples: ["{locations: {only: [westeurope]}, moves: {atMost: 5}}"], "What every plan may want.")
    shape = Shape(table)
  }
}

/// What a plan does that only its guardrails can allow: naming a cloud of its own, and sending a secret there.
package enum GuardrailCheck {
  /// An error for every endpoint and secret that is not allowed (CMC1290, CMC1291): of a cloud, and of an archive. Without `guardrails` nothing is:
  /// loopback endpoints need it too, for whoever owns a port there would get the secret.
  package static func diagnostics(_ plan: MigrationPlan, guardrails: Guardrails?) -> [Diagnostic] {
    var diagnostics: [Diagnostic] = []
    let allowed = Set((guardrails?.allowedEndpoints ?? []).map(normalized))
    let file = guardrails == nil ? "a guardrails file (--guardrails FILE)" : "the guardrails file"
    for (_, integration) in plan.integrations.sorted(by: { $0.key < $1.key }) {
      guard case .custom(let authority, let resourceManager, _) = integration.cloud else { continue }
      var seen: Set<String> = []
      for endpoint in [authority, resourceManager] where seen.insert(normalized(endpoint)).inserted {
        guard !allowed.contains(normalized(endpoint)) else { continue }
        diagnostics.append(
          Diagnostic(
            code: "CMC1290", at: integration.position,
            "integration '\(integration.name)' talks to \(endpoint), which is not allowed",
            advice: "if it is yours, \(file) needs: allow: {endpoints: [\"\(endpoint)\"]}"))
      }
      for secret in secrets(of: integration.credential)
      where !(guardrails?.allowedSecrets.contains(secret) ?? false) {
        diagnostics.append(
          Diagnostic(
            code: "CMC1291", at: integration.position,
            "integration '\(integration.name)' would send the secret \(text(secret)) to \(authority), which is not allowed",
            advice: "if that is meant, \(file) needs: allow: {secrets: [\(text(secret))]}"))
      }
    }
    return diagnostics + archiveDiagnostics(plan, guardrails, allowed, file)
      + webhookDiagnostics(plan, guardrails: guardrails, file)
  }

  /// An archive gets a token or a signature, and all that is known of the migrations.
  private static func archiveDiagnostics(
    _ plan: MigrationPlan, _ guardrails: Guardrails?, _ allowed: Set<String>, _ file: String
  ) -> [Diagnostic] {
    guard let archive = plan.archive, case .blob(let url, let access) = archive.place, let address = BlobAddress(url)
    else { return [] }
    switch access {
    case .integration(let name):
      if let cloud = address.cloud, cloud == plan.integrations[name]?.cloud { return [] }
    case .signature: if address.cloud != nil { return [] }
    }
    var diagnostics: [Diagnostic] = []
    if !allowed.contains(normalized(address.origin)) {
      diagnostics.append(
        Diagnostic(
          code: "CMC1290", at: archive.position, "the archive is at \(address.origin), which is not allowed",
          advice: "if it is yours, \(file) needs: allow: {endpoints: [\"\(address.origin)\"]}"))
    }
    if case .signature(let secret) = access, !(guardrails?.allowedSecrets.contains(secret) ?? false) {
      diagnostics.append(
        Diagnostic(
          code: "CMC1291", at: archive.position,
          "the archive would send the secret \(text(secret)) to \(address.origin), which is not allowed",
          advice: "if that is meant, \(file) needs: allow: {secrets: [\(text(secret))]}"))
    }
    return diagnostics
  }

  /// An error for every webhook that is not allowed (CMC1292). What a plan tells is no secret, but whom it may tell is
  /// not its own to say either; of a secret that holds the URL only its source is compared.
  private static func webhookDiagnostics(
    _ plan: MigrationPlan, guardrails: Guardrails?, _ file: String
  ) -> [Diagnostic] {
    let allowed = guardrails?.allowedWebhooks ?? []
    let bases = allowed.compactMap { if case .url(let text) = $0 { WebhookAddress(text) } else { nil } }
    return plan.notifications.compactMap { target in
      let whom: String
      let example: String
      switch target.webhook {
      case .secret(let secret):
        if allowed.contains(target.webhook) { return nil }
        whom = "whom \(text(secret)) names"
        example = text(secret)
      case .url(let url):
        guard let address = WebhookAddress(url) else { return nil }
        if bases.contains(where: address.isWithin) { return nil }
        whom = address.origin
        example = "\"\(address.origin)\""
      }
      return Diagnostic(
        code: "CMC1292", at: target.position, "notification '\(target.name)' would tell \(whom), which is not allowed",
        advice: "if that is meant, \(file) needs: allow: {webhooks: [\(example)]}")
    }
  }

  private static func secrets(of credential: AzureIntegration.Credential) -> [SecretReference] {
    switch credential {
    case .ambient: []
    case .clientSecret(_, let secret): [secret]
    case .clientCertificate(_, _, let password): password.map { [$0] } ?? []
    }
  }

  private static func text(_ secret: SecretReference) -> String {
    switch secret {
    case .environment(let name): "{env: \(name)}"
    case .file(let path): "{file: \(path)}"
    }
  }

  private static func normalized(_ url: String) -> String {
    var url = url.lowercased()
    while url.hasSuffix("/") { url.removeLast() }
    return url
  }
}
