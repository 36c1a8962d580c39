internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

extension PlanBuilder {
  func readIntegrations(_ node: YAMLNode) {
    let entries = reading.namedEntries(of: node, what: "integrations", maximum: Self.maximumEntries)
    for (name, key, value) in entries {
      integrationNames.append(name)
      let shape = IntegrationShape.the
      guard let object = ObjectReading(value, shape.shape, reading, label: name), let azure = object.node(shape.azure)
      else { continue }
      integrations[name] = readAzure(azure, name: name, position: key.position)
    }
  }

  private func readAzure(_ node: YAMLNode, name: String, position: SourcePosition) -> AzureIntegration? {
    let shape = AzureShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    let cloud = object.node(shape.cloud).map { readCloud($0) } ?? .some(.public)
    let tenant = object.value(shape.tenantID)
    let subscription = object.value(shape.subscriptionID)
    let group = object.value(shape.resourceGroup)
    let location = object.value(shape.location)
    let credential = object.node(shape.credential).map { readCredential($0) } ?? .some(.ambient)
    let tags = object.value(shape.tags) ?? [:]
    guard let cloud, let tenant, let subscription, let group, let location, let credential else { return nil }
    var integration = AzureIntegration(
      name: name, cloud: cloud, tenantID: tenant, subscriptionID: subscription.lowercased(), resourceGroup: group,
      location: location, credential: credential, tags: tags, position: position)
    integration.places = [
      .tenant: object.position(shape.tenantID), .subscription: object.position(shape.subscriptionID),
      .resourceGroup: object.position(shape.resourceGroup), .location: object.position(shape.location),
    ]
    if object.has(shape.credential) { integration.places[.credential] = object.position(shape.credential) }
    return integration
  }

  private func readCloud(_ node: YAMLNode) -> AzureIntegration.Cloud? {
    let shape = CloudShape.the
    guard node.isMapping else {
      guard let word = reading.text(node, expected: "the name of a cloud") else { return nil }
      switch word {
      case "public": return .public
      case "usGovernment": return .usGovernment
      case "china": return .china
      default:
        let advice = orDefault(
          Suggestion.phrase(for: word, among: CloudShape.names), "write \(alternatives(CloudShape.names))")
        reading.report("CMC1104", at: node.position, "there is no cloud '\(word.shortened())'", advice)
        return nil
      }
    }
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    let authority = object.value(shape.authority)
    let resourceManager = object.value(shape.resourceManager)
    let certificateAuthority = object.value(shape.certificateAuthority)
    guard let authority, let resourceManager else { return nil }
    return .custom(
      authority: Self.withoutSlash(authority), resourceManager: Self.withoutSlash(resourceManager),
      certificateAuthorityFile: certificateAuthority)
  }

  private static func withoutSlash(_ url: String) -> String {
    var url = url
    while url.hasSuffix("/") { url.removeLast() }
    return url
  }

  private func readCredential(_ node: YAMLNode) -> AzureIntegration.Credential? {
    let shape = CredentialShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    let clientID = object.value(shape.clientID)
    if let node = object.node(shape.clientCertificate) {
      guard let certificate = ObjectReading(node, shape.certificate, reading) else { return nil }
      let file = certificate.value(shape.certificateFile)
      let password = certificate.node(shape.certificatePassword).map { SecretReader.read($0, reading) }
      guard let clientID, let file else { return nil }
      if let password, password == nil { return nil }
      return .clientCertificate(clientID: clientID.lowercased(), certificateFile: file, password: password ?? nil)
    }
    guard let secret = object.node(shape.clientSecret).flatMap({ SecretReader.read($0, reading) }), let clientID else {
      return nil
    }
    return .clientSecret(clientID: clientID.lowercased(), secret: secret)
  }
}

/// Reads where a secret is. Nothing that is written here is ever repeated in a message: it may be the secret.
enum SecretReader {
  static func read(_ node: YAMLNode, _ reading: Reading) -> SecretReference? {
    guard node.isMapping else {
      reading.report(
        "CMC1120", at: node.position,
        node.isNull ? "there is no secret's source after the ':'" : "a secret is never written in a document",
        "write {env: NAME} or {file: PATH}" + (node.isNull ? "" : "; and replace the secret, for this text may be seen")
      )
      return nil
    }
    if let entry = node.entries.first, !["env", "file"].contains(entry.key.text), node.count == 1,
      !entry.value.isNull, let near = Suggestion.nearest(to: entry.key.text, among: ["env", "file"])
    {
      reading.report(
        "CMC1120", at: entry.key.position, "a secret's source is 'env' or 'file'", "did you mean '\(near)'?")
      return nil
    }
    guard node.count == 1, let entry = node.entries.first, ["env", "file"].contains(entry.key.text) else {
      reading.report(
        "CMC1120", at: node.position, "a secret's source is exactly one of 'env' and 'file'",
        "write {env: NAME} or {file: PATH}")
      return nil
    }
    let isFile = entry.key.text == "file"
    guard entry.value.isScalar, !entry.value.isNull, let text = reading.text(entry.value, expected: "a name"),
      isFile ? isPath(text) : Names.isEnvironmentName(text)
    else {
      reading.report(
        "CMC1120", at: entry.value.position,
        isFile ? "this is no path" : "this is no name of an environment variable",
        isFile ? "write {file: PATH}" : "write {env: NAME}, the name of the variable and not its value")
      return nil
    }
    return isFile ? .file(text) : .environment(text)
  }

  private static func isPath(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 4_095 && !text.unicodeScalars.contains { $0.value < 32 }
  }
}
