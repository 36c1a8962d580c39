internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

struct SecretShape: Sendable {
  static let the = SecretShape()
  let environment: Field<String>
  let file: Field<String>
  let shape: Shape

  private init() {
    var table = FieldTable(
      "secret", noun: "secret", "Where a secret is found when it is needed. Never the secret itself.")
    environment = table.add(
      "env",
      .formed(
        "the name of an environment variable", pattern: ValueType<String>.environmentName,
        advice: "use letters, digits and '_'", isValid: Names.isEnvironmentName),
      examples: ["AZURE_CLIENT_SECRET"], "Name of the environment variable that holds it.")
    file = table.add(
      "file", .path, examples: ["/run/secrets/azure"],
      "Path of the file that holds it; a line break at its end is cut off.")
    table.exactlyOneOf = [["env", "file"]]
    shape = Shape(table)
  }
}

struct CredentialShape: Sendable {
  static let the = CredentialShape()
  let clientID: Field<String>
  let clientSecret: Field<YAMLNode>
  let clientCertificate: Field<YAMLNode>
  let certificateFile: Field<String>
  let certificatePassword: Field<YAMLNode>
  let certificate: Shape
  let shape: Shape

  private init() {
    var inner = FieldTable("certificate", "A certificate that proves who the service principal is.")
    certificateFile = inner.add(
      "file", .path, required: true, examples: ["/etc/cmcplan/azure.pem"],
      "File with certificate and private key: PEM or PFX.")
    certificatePassword = inner.add("password", .shape(SecretShape.the.shape), "Password of the private key.")
    certificate = Shape(inner)
    var table = FieldTable(
      "credential",
      "A service principal. Without `credential`: environment, workload identity, managed identity, az CLI, in that order."
    )
    clientID = table.add(
      "clientId", .clientID, required: true, examples: ["33333333-3333-3333-3333-333333333333"],
      "Application (client) id of the service principal.")
    clientSecret = table.add(
      "clientSecret", .shape(SecretShape.the.shape), examples: ["{env: AZURE_CLIENT_SECRET}"],
      "Where the client secret is found: `{env: NAME}` or `{file: PATH}`.")
    clientCertificate = table.add(
      "clientCertificate", .shape(certificate), examples: ["{file: azure.pem}"], "A certificate in place of a secret.")
    table.exactlyOneOf = [["clientSecret", "clientCertificate"]]
    shape = Shape(table)
  }
}

struct CloudShape: Sendable {
  static let the = CloudShape()
  static let names = ["public", "usGovernment", "china"]
  let authority: Field<String>
  let resourceManager: Field<String>
  let certificateAuthority: Field<String>
  let shape: Shape

  private init() {
    var table = FieldTable(
      "cloud", "An emulator or a private cloud. Guardrails must allow its endpoints (`--guardrails FILE`).")
    authority = table.add(
      "authority", .url, required: true, examples: ["https://localhost:8443"], "Base URL that gives out tokens.")
    resourceManager = table.add(
      "resourceManager", .url, required: true, examples: ["https://localhost:8443"],
      "Base URL of Azure Resource Manager.")
    certificateAuthority = table.add(
      "certificateAuthority", .path, examples: ["emulator/ca.pem"], "PEM file of the CA that signed its certificate.")
    shape = Shape(table)
  }
}

struct AzureShape: Sendable {
  static let the = AzureShape()
  let cloud: Field<YAMLNode>
  let tenantID: Field<String>
  let subscriptionID: Field<String>
  let resourceGroup: Field<String>
  let location: Field<String>
  let credential: Field<YAMLNode>
  let tags: Field<[String: String]>
  let shape: Shape

  private init() {
    var table = FieldTable("azure", "One Azure subscription, resource group and location.")
    cloud = table.add(
      "cloud", .node(.either([.choice(CloudShape.names), .shape(CloudShape.the.shape)])), default: "public",
      "Which Azure: `public`, `usGovernment`, `china`, or the endpoints of another.")
    tenantID = table.add(
      "tenantId", .tenant, required: true, examples: ["11111111-1111-1111-1111-111111111111"],
      "The directory (tenant) that the credential belongs to.")
    subscriptionID = table.add(
      "subscriptionId", .uuid, required: true, examples: ["22222222-2222-2222-2222-222222222222"],
      "The subscription that is billed for the disks.")
    resourceGroup = table.add(
      "resourceGroup", .resourceGroup, required: true, examples: ["erp"],
      "Where disks are created and virtual machines are looked up.")
    location = table.add(
      "location", .location, required: true, examples: ["westeurope"], "Region of the disks and virtual machines.")
    credential = table.add(
      "credential", .shape(CredentialShape.the.shape),
      "Who asks. Omitted: environment, workload identity, managed identity, az CLI, in that order.")
    tags = table.add("tags", .tags, examples: ["{costCenter: \"4711\"}"], "Tags of every disk that is created.")
    shape = Shape(table)
  }
}

struct IntegrationShape: Sendable {
  static let the = IntegrationShape()
  let azure: Field<YAMLNode>
  let shape: Shape

  private init() {
    var table = FieldTable("integration", "Where destination disks are allocated.")
    azure = table.add("azure", .shape(AzureShape.the.shape), required: true, "An Azure subscription.")
    shape = Shape(table)
  }
}

struct DiskShape: Sendable {
  static let the = DiskShape()
  let sku: Field<ManagedDisk.SKU>
  let size: Field<ManagedDisk.Size>
  let zone: Field<String>
  let iops: Field<Int>
  let throughput: Field<UInt64>
  let caching: Field<ManagedDisk.Caching>
  let name: Field<String>
  let existingID: Field<String>
  let resourceGroup: Field<String>
  let encryptionSet: Field<String>
  let networkAccess: Field<String>
  let tags: Field<[String: String]>
  let shape: Shape
  /// What `defaults:` may say of every disk.
  let defaults: Shape

  private init() {
    var table = FieldTable("disk", "The managed disk behind a destination volume.")
    sku = table.add("sku", .choice, examples: ["Premium_LRS"], "Kind of disk. Needed here or under `defaults`.")
    size = table.add(
      "size", .diskSize, default: "auto", examples: ["256 GiB", "1.5 TiB"],
      "Whole GiB, or `auto`: the source's size, rounded up to whole GiB.")
    zone = table.add("zone", .zone, examples: ["\"1\""], "Availability zone; that of the virtual machine.")
    iops = table.add("iops", .integer(100...400_000), examples: ["8000"], "Provisioned IOPS; PremiumV2 and Ultra only.")
    throughput = table.add(
      "throughput", .rate, examples: ["400 MB/s"], "Provisioned throughput in whole MB/s; PremiumV2 and Ultra only.")
    caching = table.add("caching", .choice, default: "none", "Host caching; none on PremiumV2, Ultra and from 4 TiB.")
    name = table.add("name", .diskName, examples: ["erp-log"], "Name of the disk; derived from the plan if omitted.")
    existingID = table.add(
      "id", .resourceID("Microsoft.Compute/disks"), "An existing disk to use, instead of creating one.")
    resourceGroup = table.add("resourceGroup", .resourceGroup, "In place of the integration's.")
    encryptionSet = table.add(
      "encryptionSet", .resourceID("Microsoft.Compute/diskEncryptionSets"), "Disk encryption set.")
    networkAccess = table.add("networkAccess", .networkAccess, "Who may export the disk over the network.")
    tags = table.add("tags", .tags, examples: ["{tier: log}"], "Tags beside those of the integration.")
    shape = Shape(table)
    var inherited = FieldTable("diskDefaults", noun: "disk", "What every disk has that doesn't say otherwise.")
    let shared: Set<String> = [
      "sku", "zone", "caching", "resourceGroup", "encryptionSet", "networkAccess", "tags",
    ]
    inherited.copy(from: shape, where: shared.contains)
    defaults = Shape(inherited)
  }
}

extension ValueType where Value == ManagedDisk.Size {
  static let diskSize = ValueType(
    schema: .either([.choice(["auto"]), ValueType<UInt64>.size.schema]), noun: "'auto' or a size such as '256 GiB'"
  ) { text throws(ValueFault) in
    if text == "auto" { return .auto }
    if text.lowercased() == "auto" { throw ValueFault("CMC1104", "'\(text)' is not 'auto'", "did you mean 'auto'?") }
    return .bytes(try Quantities.size(text))
  }
}

extension ValueType where Value == String {
  static let zone = ValueType(schema: .numericChoice(["1", "2", "3"]), noun: "a zone") { text throws(ValueFault) in
    if ["1", "2", "3"].contains(text) { return text }
    throw ValueFault("CMC1104", "there is no zone '\(text.shortened())'", "write \"1\", \"2\" or \"3\"")
  }

  static let networkAccessWords = ["AllowAll", "AllowPrivate", "DenyAll"]
  static let networkAccess = ValueType(schema: .choice(networkAccessWords), noun: "a network access policy") {
    text throws(ValueFault) in
    if networkAccessWords.contains(text) { return text }
    throw ValueFault(
      "CMC1104", "'\(text.shortened())' is not one of \(networkAccessWords.joined(separator: ", "))",
      orDefault(Suggestion.phrase(for: text, among: networkAccessWords), "write \(alternatives(networkAccessWords))"))
  }
}

extension ValueType where Value == [String: String] {
  /// Azure's rules for tags: https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources
  static let tags = ValueType(schema: .map(keyPattern: "^[^<>%&\\\\?/]{1,512}$", .text)) { node, reading in
    guard node.isMapping else {
      reading.report(
        "CMC1103", at: node.position, "tags are a mapping from names to texts",
        "write them as in {costCenter: \"4711\"}")
      return nil
    }
    var tags: [String: String] = [:]
    for (key, value) in node.entries where key.isScalar {
      let name = key.text
      if name.lowercased().hasPrefix("cmcplan-") {
        reading.report(
          "CMC1240", at: key.position, "tags named 'cmcplan-…' belong to cmcplan itself", "use another name")
      } else if name.utf8.count > 512 && name.count > 512 || name.utf8.contains(where: "<>%&\\?/".utf8.contains) {
        reading.report(
          "CMC1108", at: key.position, "'\(name.shortened())' can't be a tag's name",
          "use at most 512 characters, and none of < > % & \\ ? /")
      }
      tags[name] = tagValue.read(value, reading)
    }
    // Azure allows 50; four of them are ours.
    guard tags.count <= 46 else {
      reading.report("CMC1107", at: node.position, "there are \(tags.count) tags", "46 are possible")
      return nil
    }
    return tags
  }
  private static let tagValue = ValueType<String>.text("a tag's value", length: 0...256)
}
