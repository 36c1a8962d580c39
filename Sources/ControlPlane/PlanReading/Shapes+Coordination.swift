internal import BlockModel
internal import MigrationModel
internal import YAMLTree

/// Fields of the document that are about more than one migration.
struct CoordinationFields: Sendable {
  let guardrails: Field<YAMLNode>
  let waves: Field<YAMLNode>
  let groups: Field<YAMLNode>
  let moved: Field<YAMLNode>
  let notifications: Field<YAMLNode>
  let archive: Field<YAMLNode>

  init(_ table: inout FieldTable) {
    guardrails = table.add(
      "guardrails", .shape(GuardrailLimitsShape.the.shape),
      examples: ["{locations: {only: [westeurope]}, moves: {atMost: 5}}"], "What the plan may want.")
    waves = table.add(
      "waves", .list(of: WaveShape.the.shape),
      examples: ["[{name: pilot, migrations: [erp-db], bake: 2d}, {name: rest, migrations: [crm-db]}]"],
      "Order between migrations: those of a wave swing when all of the waves before are in their phase and have baked. "
        + "They are prepared and synchronized at any time.")
    groups = table.add(
      "groups",
      .node(.map(keyPattern: ValueType<String>.namePattern, .list(ValueType<String>.name.schema, minimum: 2))),
      examples: ["{erp: [erp-db, erp-app]}"], "Migrations that swing together, or none of them.")
    moved = table.add(
      "moved", .list(of: MoveShape.the.shape),
      examples: ["[{from: old-db, to: erp-db}, {from: erp-db/data, to: erp-db/tables}]"],
      "Renames of migrations and volumes: tags and catalogues change, no data moves. An entry whose rename is done is "
        + "harmless; keep it until everybody's apply has seen it.")
    notifications = table.add(
      "notifications", .named(NotificationShape.the.shape),
      examples: ["{oncall: {webhook: {env: ONCALL_WEBHOOK}, events: [approvalNeeded, held, failed]}}"],
      "Whom to tell when a human is needed. Guardrails must allow each webhook.")
    archive = table.add(
      "archive", .shape(ArchiveShape.the.shape),
      examples: ["{directory: ./archive}"], "Where journals, approvals and receipts go for good.")
  }
}

struct WaveShape: Sendable {
  static let the = WaveShape()
  let name: Field<String>
  let migrations: Field<YAMLNode>
  let bake: Field<Double>
  let healthCheck: Field<YAMLNode>
  let checkHost: Field<String>
  let checkRun: Field<String>
  let checkTimeout: Field<Double>
  let check: Shape
  let shape: Shape

  private init() {
    var inner = FieldTable("waveHealthCheck", noun: "healthCheck", "A command that says whether the wave went well.")
    checkHost = inner.add("host", .name, required: true, examples: ["erp-db-azure"], "A host of the plan.")
    checkRun = inner.add(
      "run", .text("a command", length: 1...16_384), required: true, examples: ["/usr/local/bin/smoke-test"],
      "For /bin/sh -c. It has no placeholders.")
    checkTimeout = inner.add(
      "timeout", .duration(1...86_400, "1s to 24h"), default: "5m", examples: ["60s"], "After which it has failed.")
    check = Shape(inner)
    var table = FieldTable("wave", "Migrations that go before those of the next wave.")
    name = table.add("name", .name, required: true, examples: ["pilot"], "Name of the wave.")
    migrations = table.add(
      "migrations", .node(.list(ValueType<String>.name.schema, minimum: 1)), required: true,
      examples: ["[erp-db, erp-app]"], "Migrations of this plan; each is in at most one wave.")
    bake = table.add(
      "bake", .duration(1...2_592_000, "1s to 30d"), examples: ["2d"],
      "How long all of it must have been in its phase before the next wave starts.")
    healthCheck = table.add(
      "healthCheck", .shape(check), "Asked after the bake time; the next wave starts only if it succeeds.")
    shape = Shape(table)
  }
}

struct MoveShape: Sendable {
  static let the = MoveShape()
  let from: Field<Move.Name>
  let to: Field<Move.Name>
  let shape: Shape

  private init() {
    var table = FieldTable("move", "A rename.")
    from = table.add(
      "from", .moved, required: true, examples: ["old-db", "erp-db/data"],
      "The name that it had, of a migration or MIGRATION/VOLUME. A volume that names another migration takes all of "
        + "that migration along.")
    to = table.add(
      "to", .moved, required: true, examples: ["erp-db", "erp-db/tables"],
      "Its name in this plan, or 'from' of another entry.")
    shape = Shape(table)
  }
}

struct NotificationShape: Sendable {
  static let the = NotificationShape()
  let webhook: Field<YAMLNode>
  let events: Field<[NotificationTarget.Event]>
  let format: Field<NotificationTarget.Format>
  let shape: Shape

  private init() {
    var table = FieldTable("notification", "Somebody to tell.")
    webhook = table.add(
      "webhook", WebhookReader.type, required: true, examples: ["{env: ONCALL_WEBHOOK}"],
      "An https URL, or where it is found if it is a secret in itself: `{env: NAME}` or `{file: PATH}`.")
    events = table.add(
      "events", .list(of: .choice), examples: ["[approvalNeeded, held, failed]"],
      "Of what; all, if omitted. `reached`: the phase that the plan names; `windowMissed`: what is left doesn't fit.")
    format = table.add(
      "format", .choice, default: "json", "What the webhook understands: `json` is schemas/notification.schema.json.")
    shape = Shape(table)
  }
}

struct ArchiveShape: Sendable {
  static let the = ArchiveShape()
  let directory: Field<String>
  let blob: Field<String>
  let integration: Field<String>
  let sas: Field<YAMLNode>
  let shape: Shape

  private init() {
    var table = FieldTable(
      "archive", "Where journals, approvals and receipts go for good. No session is deleted before they are there.")
    directory = table.add(
      "directory", .directory, examples: ["./archive", "/mnt/records/cmcplan"],
      "A directory, relative to the plan's; it is made where it is missing. Runs on other machines want the same one.")
    blob = table.add(
      "blob", .blobURL, examples: ["https://erp.blob.core.windows.net/migration"],
      "A container of Azure Blob Storage that exists, or a prefix in it. Guardrails must allow one that isn't "
        + "Microsoft's.")
    integration = table.add(
      "integration", .name, examples: ["corp"],
      "Whose credential signs in to the container; the plan's only one if omitted. It needs the role Storage Blob Data "
        + "Contributor there.")
    sas = table.add(
      "sas", .shape(SecretShape.the.shape), examples: ["{env: ARCHIVE_SAS}"],
      "Where a shared access signature is found (read, create, write, list), in place of an integration's credential.")
    table.exactlyOneOf = [["directory", "blob"]]
    table.atMostOneOf = [["directory", "integration"], ["directory", "sas"], ["integration", "sas"]]
    shape = Shape(table)
  }
}

struct GuardrailLimitsShape: Sendable {
  static let the = GuardrailLimitsShape()

  /// One limit: its value, and what happens where it is crossed.
  struct Rule<Value: Sendable>: Sendable {
    let value: Field<Value>
    let effect: Field<GuardrailEffect>
    let shape: Shape

    init(_ name: String, _ key: String, _ type: ValueType<Value>, examples: [String], _ description: String) {
      var table = FieldTable("guardrail" + name.prefix(1).uppercased() + name.dropFirst(), noun: name, description)
      value = table.add(key, type, required: true, examples: examples, description)
      effect = table.add("effect", .choice, default: "deny", "`deny` stops the plan, `warn` says so.")
      shape = Shape(table)
    }
  }

  let locationsRule = Rule(
    "locations", "only", .list(of: ValueType<String>.location), examples: ["[westeurope]"], "Azure locations.")
  let skusRule = Rule(
    "skus", "only", .list(of: ValueType<ManagedDisk.SKU>.choice), examples: ["[Premium_LRS]"], "Kinds of disks.")
  let diskSizeRule = Rule("diskSize", "atMost", .size, examples: ["4 TiB"], "The largest disk.")
  let movesRule = Rule(
    "moves", "atMost", .integer(1...1_000_000), examples: ["10"], "The most migrations that a run may move a phase on.")
  let bytesRule = Rule("bytes", "atMost", .size, examples: ["20 TiB"], "The most that a run may start to move.")
  let ownerRule = Rule(
    "owner", "required", .boolean, examples: ["true"], "Whether the plan's metadata must name an owner.")
  let oneWayRule = Rule(
    "oneWay", "savedOnly", .boolean, examples: ["true"],
    "Whether one-way steps are applied only from a saved change set.")
  let locations: Field<YAMLNode>
  let skus: Field<YAMLNode>
  let diskSize: Field<YAMLNode>
  let moves: Field<YAMLNode>
  let bytes: Field<YAMLNode>
  let iqos: Field<YAMLNode>
  let owner: Field<YAMLNode>
  let oneWay: Field<YAMLNode>
  let shape: Shape

  private init() {
    var table = FieldTable("guardrails", "What the plan may want. What is not named is not limited.")
    locations = table.add("locations", .shape(locationsRule.shape), "Where disks may be made.")
    skus = table.add("skus", .shape(skusRule.shape), "Kinds of disks that may be made.")
    diskSize = table.add("diskSize", .shape(diskSizeRule.shape), "The largest disk.")
    moves = table.add("moves", .shape(movesRule.shape), "The most migrations that a run may move a phase on.")
    bytes = table.add("bytes", .shape(bytesRule.shape), "The most that a run may start to move.")
    iqos = table.add("iqos", .list(of: WindowShape.guarded.shape), "The highest iQoS level at times of the week.")
    owner = table.add("owner", .shape(ownerRule.shape), "Whether the plan must name an owner.")
    oneWay = table.add("oneWay", .shape(oneWayRule.shape), "How one-way steps are applied.")
    shape = Shape(table)
  }
}

extension ValueType where Value == String {
  static let blobURL = ValueType(
    schema: .pattern(
      "^(https://[A-Za-z0-9._-]+|http://(localhost|127(\\.[0-9]{1,3}){3}|\\[::1\\]))(:[0-9]{1,5})?(/[!$->@-\\[\\]-~]+)+/?$"
    ), noun: "a container's URL"
  ) { text throws(ValueFault) in
    guard !text.contains("?") else {
      throw ValueFault(
        "CMC1120", "a signature is never written in a document",
        "write the URL up to the '?', and sas: {env: NAME}; replace the signature, for this text may be seen")
    }
    guard BlobAddress(text) != nil else {
      throw ValueFault(
        "CMC1108", "'\(text.shortened())' is not a container's URL",
        "write https://ACCOUNT.blob.core.windows.net/CONTAINER, in lower case")
    }
    return text
  }
}

extension ValueType where Value == Move.Name {
  /// "migration" or "migration/volume".
  static let moved = ValueType(
    schema: .pattern("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"),
    noun: "a migration's name, or MIGRATION/VOLUME"
  ) { text throws(ValueFault) in
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count <= 2, parts.allSatisfy(Names.isValid), let migration = parts.first else {
      throw ValueFault(
        "CMC1108", "'\(text.shortened())' is no name of a migration or volume", "write MIGRATION, or MIGRATION/VOLUME")
    }
    return Move.Name(migration: MigrationName(migration), volume: parts.count == 2 ? VolumeName(parts[1]) : nil)
  }
}
