internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

/// Makes the model of a document's tree. Every part is read even where another one is wrong, so that all faults of
/// the document are found in one pass.
final class PlanBuilder {
  /// Entries of each named mapping. The estate that this is made for has 100,000 volumes.
  static let maximumEntries = 1_000_000
  /// LUNs 0 to 63 of a virtual machine.
  static let maximumVolumes = 64

  let reading: Reading
  var integrations: [String: AzureIntegration] = [:]
  /// With those that could not be read: a reference to one of them is no fault of its own.
  var integrationNames: [String] = []
  var hosts: [String: HostDraft] = [:]
  var hostNames: [String] = []
  var usedHosts: Set<String> = []
  var hasUnresolvedHost = false
  /// Has its own fault; references to hosts have none then.
  var isHostsUnreadable = false
  var defaults = Defaults()
  var uses = DeviceUses()
  var listeners: [ListenerKey: String] = [:]
  var disksPerHost: [String: Int] = [:]
  var diskNames: [String: String] = [:]
  /// Migrations of the document, also those that could not be read, with their phases where they are known.
  var phases: [String: Phase?] = [:]
  /// Whether `moved` asks for names of volumes: of a large estate they aren't kept for nothing.
  var isVolumeNameNeeded = false
  /// Whether `groups` asks for what their migrations must agree on.
  var isAgreementNeeded = false
  var agreements: [String: GroupAgreement] = [:]
  /// Names of volumes, by migration.
  var volumeNames: [String: Set<String>] = [:]

  init(_ reading: Reading) { self.reading = reading }

  /// What is known of a host, even if not all of it could be read.
  struct HostDraft {
    var host: Host?
    var isLocal: Bool
    var hasVirtualMachine: Bool
    var hasAddress: Bool
    var position: SourcePosition
  }

  struct ListenerKey: Hashable {
    var machine: String
    var port: Int
  }

  func plan(_ root: YAMLNode, variables: [GivenVariable]) -> MigrationPlan? {
    let shape = DocumentShape.the
    if let kind = root["kind"], kind.text == "Guardrails" {
      reading.report(
        "CMC1113", at: kind.position, "this is a guardrails file, and a migration plan is needed",
        "give it with --guardrails FILE, beside a plan")
      return nil
    }
    guard let document = ObjectReading(root, shape.shape, reading) else { return nil }
    let isPlan = checkKind(document)
    readVariables(document, given: variables)
    let metadata = document.node(shape.metadata).flatMap { readMetadata($0) }
    if let node = document.node(shape.integrations) { readIntegrations(node) }
    let attestations = readAttestations(document)
    if let node = document.node(shape.hosts) { readHosts(node) }
    isHostsUnreadable = document.node(shape.hosts).map { !$0.isMapping } ?? true
    if let node = document.node(shape.defaults) { defaults = readDefaults(node) }
    isVolumeNameNeeded = document.has(shape.coordination.moved)
    isAgreementNeeded = document.has(shape.coordination.groups)
    var migrations: [MigrationName: Migration] = [:]
    if let node = document.node(shape.migrations) {
      migrations = readMigrations(node)
      if !node.isMapping { hasUnresolvedHost = true }
    }
    let coordination = readCoordination(document)
    warnOfUnusedHosts()
    warnOfUnusedVariables(document)
    guard isPlan, let metadata else { return nil }
    let named = hosts.compactMap { name, draft in draft.host.map { (HostName(name), $0) } }
    return MigrationPlan(
      metadata: metadata, integrations: integrations, attestations: attestations,
      hosts: Dictionary(uniqueKeysWithValues: named), migrations: migrations, waves: coordination.waves,
      groups: coordination.groups, moved: coordination.moved, notifications: coordination.notifications,
      archive: coordination.archive, guardrails: coordination.guardrails)
  }

  private func checkKind(_ document: ObjectReading) -> Bool {
    let shape = DocumentShape.the
    let version = document.value(shape.apiVersion)
    let kind = document.value(shape.kind)
    return version != nil && kind != nil
  }

  private func readMetadata(_ node: YAMLNode) -> Metadata? {
    let shape = MetadataShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    let id = object.value(shape.id)
    let name = object.value(shape.name)
    if let id, id.allSatisfy({ $0 == "0" || $0 == "-" }) {
      reading.report(
        "CMC1201", at: object.position(shape.id), "the plan's id is all zeros",
        "write one of your own ('uuidgen' makes one)")
    }
    let type = object.value(shape.type)
    let description = object.value(shape.description)
    let owner = object.value(shape.owner)
    guard let id, let name else { return nil }
    return Metadata(id: PlanID(id.lowercased()), name: name, type: type, description: description, owner: owner)
  }

  private func readAttestations(_ document: ObjectReading) -> Attestations {
    let shape = AttestationsShape.the
    let node = document.node(DocumentShape.the.attestations)
    let object = node.flatMap { ObjectReading($0, shape.shape, reading) }
    var attestations = Attestations()
    attestations.operatingSystemLicensed = object?.value(shape.operatingSystemLicensed)
    attestations.applicationLicensed = object?.value(shape.applicationLicensed)
    let position = (node ?? document.node).position
    for (field, isWritten, value) in [
      (shape.operatingSystemLicensed, object?.has(shape.operatingSystemLicensed), attestations.operatingSystemLicensed),
      (shape.applicationLicensed, object?.has(shape.applicationLicensed), attestations.applicationLicensed),
    ] where value != true && (isWritten != true || value == false) {
      let state = value == false ? "says no" : "is not answered"
      reading.warn(
        "CMC1260", at: value == false ? object?.position(field) : position,
        "the attestation '\(field.name)' \(state); preparing a migration will stop there",
        "once you have checked it, write '\(field.name): true' under 'attestations:'")
    }
    return attestations
  }

  private func warnOfUnusedHosts() {
    // A reference that could not be resolved was meant for one of them.
    guard !hasUnresolvedHost else { return }
    for name in hostNames where !usedHosts.contains(name) {
      reading.warn(
        "CMC1222", at: hosts[name]?.position, "no migration uses the host '\(name)'",
        "name it as a source or destination, or remove it")
    }
  }
}
