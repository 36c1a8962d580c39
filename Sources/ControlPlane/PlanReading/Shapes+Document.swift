internal import MigrationModel
internal import YAMLTree

struct MetadataShape: Sendable {
  static let the = MetadataShape()
  let id: Field<String>
  let name: Field<String>
  let type: Field<String>
  let description: Field<String>
  let owner: Field<String>
  let shape: Shape

  private init() {
    var table = FieldTable("metadata", "What the plan is.")
    id = table.add(
      "id", .uuid, required: true, examples: ["6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11"],
      adviceIfMissing: "add 'id:' with a UUID of this plan's own ('uuidgen' makes one)",
      "Owns tags, disk names and sessions, so that two plans never prune each other. Written by `cmcplan init`; never change it."
    )
    name = table.add("name", .name, required: true, examples: ["erp-to-azure"], "Name of the plan.")
    type = table.add("type", .text(length: 0...256), examples: ["data-center-exit"], "Kind of project.")
    description = table.add("description", .text(), "For people.")
    owner = table.add("owner", .text(length: 0...256), examples: ["storage@example.com"], "Whom to ask.")
    shape = Shape(table)
  }
}

struct AttestationsShape: Sendable {
  static let the = AttestationsShape()
  let operatingSystemLicensed: Field<Bool>
  let applicationLicensed: Field<Bool>
  let shape: Shape

  private init() {
    var table = FieldTable("attestations", "What no API can tell.")
    operatingSystemLicensed = table.add(
      "operatingSystemLicensed", .boolean, examples: ["true"], "The operating system may run in Azure.")
    applicationLicensed = table.add(
      "applicationLicensed", .boolean, examples: ["true"], "The application's licence allows Azure.")
    shape = Shape(table)
  }
}

struct DefaultsShape: Sendable {
  static let the = DefaultsShape()
  let integration: Field<String>
  let connection: Field<YAMLNode>
  let tracking: Field<Tracking>
  let disk: Field<YAMLNode>
  let iqos: Field<YAMLNode>
  let linkLossTimeout: Field<Double>
  let resync: Field<YAMLNode>
  let cutover: Field<YAMLNode>
  let shape: Shape

  private init() {
    var table = FieldTable(
      "defaults",
      """
      What every migration has that doesn't say otherwise. Merged key by key, also inside `iqos`, `cutover` and the \
      like; tags by name; lists are replaced whole.
      """)
    integration = table.add("integration", .name, "Where disks come from.")
    connection = table.add("connection", .shape(ConnectionShape.the.defaults), "The link of the two agents.")
    tracking = table.add("tracking", .choice, "How changes are seen.")
    disk = table.add("disk", .shape(DiskShape.the.defaults), "The managed disks.")
    iqos = table.add(
      "iqos", .node(IQoSShape.the.schema), examples: ["moderate"], "How much bandwidth migration may take.")
    linkLossTimeout = table.add(
      "linkLossTimeout", .duration(1...300, "1s to 5m"), "How long writes wait for a lost peer in cMotion.")
    resync = table.add(
      "resync", .shape(MigrationShape.the.resyncShape), examples: ["{interval: 15m}"], "When changes are copied.")
    cutover = table.add("cutover", .shape(CutoverShape.the.defaults), "Conditions of cutovers.")
    shape = Shape(table)
  }
}

struct VariableShape: Sendable {
  static let the = VariableShape()
  let defaultValue: Field<String>
  let type: Field<VariableType>
  let description: Field<String>
  let shape: Shape

  private init() {
    var table = FieldTable(
      "variable", "A value that may differ from run to run. Used as \"{var:NAME}\" in any value, never in a key.")
    defaultValue = table.add("default", .text(), "Without it, the variable must be given.")
    type = table.add(
      "type", .choice, default: "text", "What its value must look like; the field where it is used has its own say.")
    description = table.add("description", .text(), "For people.")
    shape = Shape(table)
  }
}

struct DocumentShape: Sendable {
  static let the = DocumentShape()
  let apiVersion: Field<String>
  let kind: Field<String>
  let metadata: Field<YAMLNode>
  let variables: Field<YAMLNode>
  let integrations: Field<YAMLNode>
  let attestations: Field<YAMLNode>
  let hosts: Field<YAMLNode>
  let defaults: Field<YAMLNode>
  let migrations: Field<YAMLNode>
  let coordination: CoordinationFields
  let shape: Shape

  private init() {
    var table = FieldTable("plan", noun: "the plan", "A migration plan: where each migration should be.")
    apiVersion = table.add(
      "apiVersion", .constant("cmcplan/v1"), required: true, examples: ["cmcplan/v1"], "Version of the language.")
    kind = table.add(
      "kind", .constant("MigrationPlan"), required: true, examples: ["MigrationPlan"], "Kind of document.")
    metadata = table.add("metadata", .shape(MetadataShape.the.shape), required: true, "What the plan is.")
    variables = table.add(
      "variables",
      .node(.map(keyPattern: "^[A-Za-z_][A-Za-z0-9_]*$", .either([.text, .null, .shape(VariableShape.the.shape)]))),
      examples: ["{phase: synchronized}"], "Values that may differ from run to run, and their defaults.")
    integrations = table.add(
      "integrations", .named(IntegrationShape.the.shape),
      "Where disks are allocated; the only one is everyone's default.")
    attestations = table.add("attestations", .shape(AttestationsShape.the.shape), "What no API can tell.")
    hosts = table.add("hosts", .named(HostShape.the.shape), required: true, "The machines that take part.")
    defaults = table.add("defaults", .shape(DefaultsShape.the.shape), "What every migration has.")
    migrations = table.add(
      "migrations", .named(MigrationShape.the.shape), required: true, "What moves, by name. May be empty: `{}`.")
    coordination = CoordinationFields(&table)
    shape = Shape(table)
  }
}

extension ValueType where Value == String {
  static func constant(_ word: String) -> ValueType {
    ValueType(schema: .choice([word]), noun: "'\(word)'") { text throws(ValueFault) in
      guard text == word else {
        throw ValueFault("CMC1113", "'\(text.shortened())' is not '\(word)'", "write '\(word)'")
      }
      return text
    }
  }
}
