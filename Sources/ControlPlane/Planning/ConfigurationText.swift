package import BlockModel
package import MigrationModel

/// Digest of everything about a migration that an approval is bound to: all but its phase and description.
package func configurationDigest(
  of migration: Migration, in plan: MigrationPlan, digest: DigestFunction
) -> String {
  digest(configurationText(of: migration, in: plan))
}

/// The same text for the same configuration, whatever the order in the document: one `path=value` a line, sorted.
/// Values are quoted, so that none can look like another line.
package func configurationText(of migration: Migration, in plan: MigrationPlan) -> String {
  var lines: [String] = []
  func add(_ path: String, _ value: (some CustomStringConvertible)?) {
    guard let value else { return }
    lines.append("\(path)=\(quoted(value.description))")
  }
  add("plan", plan.metadata.id)
  add("migration", migration.name)
  add("source", migration.source)
  add("destination", migration.destination)
  add("destination.virtualMachine", plan.hosts[migration.destination]?.azureVirtualMachine)
  if let integration = migration.integration(in: plan) {
    add("integration.subscription", integration.subscriptionID)
    add("integration.resourceGroup", integration.resourceGroup)
    add("integration.location", integration.location)
  }
  add("connection.listener", migration.connection.listener.rawValue)
  add("connection.port", migration.connection.port)
  add("connection.lanes", migration.connection.lanes)
  add("connection.address", migration.connection.address)
  for volume in migration.volumes { addVolume(volume, to: &lines) }
  add("iqos.level", migration.iqos.level.rawValue)
  add("iqos.networkLimit", migration.iqos.networkLimitBytesPerSecond)
  add("iqos.latencyBound", migration.iqos.latencyBound)
  for (index, item) in migration.iqos.schedule.enumerated() {
    add("iqos.schedule.\(index)", "\(item.level.rawValue) \(text(of: item.window))")
  }
  add("linkLossTimeout", migration.linkLossTimeoutSeconds)
  add("resync.interval", migration.resyncIntervalSeconds)
  add("cutover.approval", migration.cutover.approval.rawValue)
  add("cutover.confirmWithin", migration.cutover.confirmWithinSeconds)
  add("cutover.verify", migration.cutover.verify.rawValue)
  for (index, window) in migration.cutover.windows.enumerated() { add("cutover.windows.\(index)", text(of: window)) }
  for (point, hook) in migration.cutover.hooks {
    add("cutover.hooks.\(point.rawValue).run", hook.run)
    add("cutover.hooks.\(point.rawValue).host", hook.host)
    add("cutover.hooks.\(point.rawValue).timeout", hook.timeoutSeconds)
  }
  return lines.sorted().joined(separator: "\n") + "\n"
}

/// What these migrations rest on beside their own configuration, by what it is ("host db"): a digest of all that the
/// document says of it. `plan` is as it was written, its paths not yet made absolute, or another directory would be an
/// edit.
package func surroundings(
  of names: [MigrationName], in plan: MigrationPlan, guardrails: Guardrails? = nil, digest: DigestFunction
) -> [String: String] {
  var parts: [String: String] = [:]
  // Also where nothing is crossed: what was reviewed was reviewed under these.
  if let limits = plan.guardrails { parts[PlanSurrounding.guardrailsOfPlan] = digest(text(of: limits)) }
  if let guardrails { parts[PlanSurrounding.guardrailsFile] = digest(text(of: guardrails)) }
  for migration in names.compactMap({ plan.migrations[$0] }) {
    for host in [migration.source, migration.destination].compactMap({ plan.hosts[$0] }) {
      parts["host \(host.name)"] = digest(text(of: host))
    }
    if let integration = migration.integration(in: plan) {
      parts["integration \(integration.name)"] = digest(text(of: integration))
    }
  }
  return parts
}

/// Parts of surroundings that are no host and no integration.
enum PlanSurrounding {
  static let guardrailsOfPlan = "guardrails of the plan"
  static let guardrailsFile = "guardrails file"

  /// What to say of a part that isn't what it was; nil as a digest: it isn't there.
  static func change(of part: String, from old: String?, to new: String?) -> String {
    if part == guardrailsOfPlan { return "the guardrails of the plan were edited" }
    guard part == guardrailsFile else { return "\(part) was edited in the plan" }
    if old == nil { return "it was planned without a guardrails file, and now there is one" }
    return new == nil
      ? "it was planned with a guardrails file, and now there is none: name it with --guardrails"
      : "the guardrails file was edited"
  }
}

private func text(of guardrails: Guardrails) -> String {
  var lines = guardrails.allowedEndpoints.map { "endpoint=\(quoted($0))" }
  lines += guardrails.allowedSecrets.map { "secret=\(place($0))" }
  lines += guardrails.allowedWebhooks.map { webhook in
    switch webhook {
    case .url(let url): "webhook=\(quoted(url))"
    case .secret(let secret): "webhook=\(place(secret))"
    }
  }
  return (lines.sorted() + [text(of: guardrails.limits)]).joined(separator: "\n")
}

private func text(of limits: GuardrailLimits) -> String {
  var lines: [String] = []
  func add<Value>(_ key: String, _ rule: GuardrailRule<Value>?, _ text: (Value) -> String) {
    guard let rule else { return }
    lines.append("\(key)=\(rule.effect.rawValue) \(text(rule.value))")
  }
  add("locations", limits.locations) { $0.sorted().map(quoted).joined(separator: ",") }
  add("skus", limits.skus) { $0.map(\.rawValue).sorted().joined(separator: ",") }
  add("diskSize", limits.diskSizeBytes) { "\($0)" }
  add("moves", limits.moves) { "\($0)" }
  add("bytes", limits.bytes) { "\($0)" }
  for rule in limits.iqos { add("iqos", rule) { "\($0.atMost.rawValue) \(text(of: $0.window))" } }
  add("owner", limits.owner) { "\($0)" }
  add("oneWayFromSavedOnly", limits.oneWayFromSavedOnly) { "\($0)" }
  return lines.joined(separator: "\n")
}

private func text(of host: Host) -> String {
  var lines = ["address=\(quoted(host.address ?? ""))", "virtualMachine=\(quoted(host.azureVirtualMachine ?? ""))"]
  switch host.reach {
  case .local(let root): lines.append("root=\(quoted(root))")
  case .ssh(let access):
    lines += [
      "user=\(quoted(access.user ?? ""))", "port=\(access.port ?? 0)",
      "identityFile=\(quoted(access.identityFile ?? ""))", "jump=\(quoted(access.jump ?? ""))", "sudo=\(access.sudo)",
    ]
  }
  return lines.joined(separator: "\n")
}

/// Where a secret is found, never its value.
private func place(_ secret: SecretReference?) -> String {
  switch secret {
  case .environment(let name)?: "environment \(quoted(name))"
  case .file(let path)?: "file \(quoted(path))"
  case nil: ""
  }
}

private func text(of integration: AzureIntegration) -> String {
  var lines = [
    "tenant=\(quoted(integration.tenantID))", "subscription=\(quoted(integration.subscriptionID))",
    "resourceGroup=\(quoted(integration.resourceGroup))", "location=\(quoted(integration.location))",
  ]
  switch integration.cloud {
  case .public, .usGovernment, .china: lines.append("cloud=\(integration.cloud)")
  case .custom(let authority, let resourceManager, let file):
    lines.append("cloud=\(quoted(authority)) \(quoted(resourceManager)) \(quoted(file ?? ""))")
  }
  switch integration.credential {
  case .ambient: lines.append("credential=ambient")
  case .clientSecret(let clientID, let secret): lines.append("credential=\(quoted(clientID)) \(place(secret))")
  case .clientCertificate(let clientID, let file, let password):
    lines.append("credential=\(quoted(clientID)) certificate \(quoted(file)) \(place(password))")
  }
  lines += integration.tags.sorted { $0.key < $1.key }.map { "tags.\(quoted($0.key))=\(quoted($0.value))" }
  return lines.joined(separator: "\n")
}

private func addVolume(_ volume: Volume, to lines: inout [String]) {
  let path = "volume.\(quoted(volume.name.text))."
  func add(_ key: String, _ value: (some CustomStringConvertible)?) {
    guard let value else { return }
    lines.append(path + key + "=" + quoted(value.description))
  }
  add("device", volume.device)
  add("tracking", volume.tracking.rawValue)
  switch volume.destination {
  case .device(let device): add("destination.device", device)
  case .disk(let disk):
    add("disk.sku", disk.sku.rawValue)
    if case .bytes(let bytes) = disk.size { add("disk.size", bytes) }
    add("disk.zone", disk.zone)
    add("disk.iops", disk.iops)
    add("disk.throughput", disk.throughputBytesPerSecond)
    add("disk.caching", disk.caching.rawValue)
    add("disk.name", disk.name)
    add("disk.id", disk.existingID)
    add("disk.resourceGroup", disk.resourceGroup)
    add("disk.encryptionSet", disk.encryptionSet)
    add("disk.networkAccess", disk.networkAccess)
    for (name, value) in disk.tags { add("disk.tags.\(quoted(name))", value) }
  }
}

private func text(of window: WeeklyWindow) -> String {
  let days = Weekday.allCases.filter { window.days.contains($0) }.map(\.rawValue).joined(separator: ",")
  return "\(days) \(window.fromMinute)-\(window.toMinute) \(window.timeZone)"
}

private func quoted(_ text: String) -> String {
  let special = "\"\\\n\r".utf8
  if !text.utf8.contains(where: special.contains) { return "\"" + text + "\"" }
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
