package import BlockModel
package import Diagnostics

/// A migration plan as the user wrote it, typed, with defaults merged in. `PlanReading` makes it from YAML.
package struct MigrationPlan: Sendable, Equatable {
  package var metadata: Metadata
  package var integrations: [String: AzureIntegration]
  package var attestations: Attestations
  package var hosts: [HostName: Host]
  package var migrations: [MigrationName: Migration]
  /// The first one first.
  package var waves: [Wave]
  /// In the order of their names.
  package var groups: [SwingGroup]
  package var moved: [Move] { didSet { renames = Renames(moved) } }
  /// `moved`, followed to its end.
  package private(set) var renames: Renames
  /// In the order of their names.
  package var notifications: [NotificationTarget]
  package var archive: Archive?
  package var guardrails: GuardrailLimits?
  package init(
    metadata: Metadata, integrations: [String: AzureIntegration], attestations: Attestations,
    hosts: [HostName: Host], migrations: [MigrationName: Migration], waves: [Wave] = [], groups: [SwingGroup] = [],
    moved: [Move] = [], notifications: [NotificationTarget] = [], archive: Archive? = nil,
    guardrails: GuardrailLimits? = nil
  ) {
    self.metadata = metadata
    self.integrations = integrations
    self.attestations = attestations
    self.hosts = hosts
    self.migrations = migrations
    self.waves = waves
    self.groups = groups
    self.moved = moved
    renames = Renames(moved)
    self.notifications = notifications
    self.archive = archive
    self.guardrails = guardrails
  }

  /// In the order of their names: everything that is printed or done goes by this.
  package var sortedMigrations: [Migration] { migrations.values.sorted { $0.name < $1.name } }
}

package struct Metadata: Sendable, Equatable {
  package var id: PlanID
  package var name: String
  package var type: String?
  package var description: String?
  package var owner: String?
  package init(id: PlanID, name: String, type: String? = nil, description: String? = nil, owner: String? = nil) {
    self.id = id
    self.name = name
    self.type = type
    self.description = description
    self.owner = owner
  }
}

package struct Attestations: Sendable, Equatable {
  package var operatingSystemLicensed: Bool?
  package var applicationLicensed: Bool?
  package init(operatingSystemLicensed: Bool? = nil, applicationLicensed: Bool? = nil) {
    self.operatingSystemLicensed = operatingSystemLicensed
    self.applicationLicensed = applicationLicensed
  }
}

/// Where a secret's value is found when it is needed. The value itself is never part of the model.
package enum SecretReference: Sendable, Hashable {
  case environment(String)
  case file(String)
}

package struct AzureIntegration: Sendable, Equatable {
  package enum Cloud: Sendable, Hashable {
    case `public`
    case usGovernment
    case china
    /// Base URLs without a slash at the end: an emulator or a private cloud. Must be allowed by guardrails.
    case custom(authority: String, resourceManager: String, certificateAuthorityFile: String?)
  }
  package enum Credential: Sendable, Hashable {
    /// Environment, workload identity, managed identity, az CLI, in that order.
    case ambient
    case clientSecret(clientID: String, secret: SecretReference)
    case clientCertificate(clientID: String, certificateFile: String, password: SecretReference?)
  }
  package var name: String
  package var cloud: Cloud
  package var tenantID: String
  package var subscriptionID: String
  package var resourceGroup: String
  package var location: String
  package var credential: Credential
  package var tags: [String: String]
  package var position: SourcePosition?
  /// Of tenant, subscription, resource group, location and credential.
  package var places: PlanPlaces = [:]
  package init(
    name: String, cloud: Cloud, tenantID: String, subscriptionID: String, resourceGroup: String, location: String,
    credential: Credential, tags: [String: String], position: SourcePosition?
  ) {
    self.name = name
    self.cloud = cloud
    self.tenantID = tenantID
    self.subscriptionID = subscriptionID
    self.resourceGroup = resourceGroup
    self.location = location
    self.credential = credential
    self.tags = tags
    self.position = position
  }
}

package struct Host: Sendable, Equatable {
  package enum Reach: Sendable, Equatable {
    case ssh(SSHAccess)
    /// An agent as a child process in a directory of its own; `root` as written, relative to the plan's directory.
    case local(root: String)
  }
  package var name: HostName
  package var address: String?
  package var reach: Reach
  /// The VM's name in the integration's resource group, or a full resource id.
  package var azureVirtualMachine: String?
  package var position: SourcePosition?
  /// Where `azureVirtualMachine` is said.
  package var machinePosition: SourcePosition?
  package init(
    name: HostName, address: String?, reach: Reach, azureVirtualMachine: String?, position: SourcePosition?
  ) {
    self.name = name
    self.address = address
    self.reach = reach
    self.azureVirtualMachine = azureVirtualMachine
    self.position = position
  }
}

package struct SSHAccess: Sendable, Equatable {
  package var user: String?
  package var port: Int?
  package var identityFile: String?
  package var jump: String?
  package var sudo: Bool
  package init(user: String?, port: Int?, identityFile: String?, jump: String?, sudo: Bool) {
    self.user = user
    self.port = port
    self.identityFile = identityFile
    self.jump = jump
    self.sudo = sudo
  }
}

/// One host-to-host pipeline. All of `volumes` cut over together.
package struct Migration: Sendable, Equatable {
  package var name: MigrationName
  package var description: String?
  package var source: HostName
  package var destination: HostName
  package var integration: String?
  package var connection: Connection
  package var volumes: [Volume]
  package var iqos: IQoS
  package var linkLossTimeoutSeconds: Double
  package var resyncIntervalSeconds: Double
  package var cutover: Cutover
  package var position: SourcePosition?
  /// It isn't in the document any more: it stands for what its agents still have of it, and only to end that.
  package var hasLeft = false
  package init(
    name: MigrationName, description: String?, source: HostName, destination: HostName, integration: String?,
    connection: Connection, volumes: [Volume], iqos: IQoS, linkLossTimeoutSeconds: Double,
    resyncIntervalSeconds: Double, cutover: Cutover, position: SourcePosition?
  ) {
    self.name = name
    self.description = description
    self.source = source
    self.destination = destination
    self.integration = integration
    self.connection = connection
    self.volumes = volumes
    self.iqos = iqos
    self.linkLossTimeoutSeconds = linkLossTimeoutSeconds
    self.resyncIntervalSeconds = resyncIntervalSeconds
    self.cutover = cutover
    self.position = position
  }
}

package struct Connection: Sendable, Equatable {
  package static let defaultPort = 4996
  /// Which end waits for the other to open the link.
  package var listener: Role
  package var port: Int
  /// TCP connections that carry bulk data, 1 to 16, beside the one for control and mirrored writes.
  package var lanes: Int
  /// The listener's address as the opener sees it; nil: the listener host's own `address`.
  package var address: String?
  package init(listener: Role, port: Int, lanes: Int, address: String?) {
    self.listener = listener
    self.port = port
    self.lanes = lanes
    self.address = address
  }
}

package enum Tracking: String, Sendable, Codable, CaseIterable {
  case auto
  case tap
  case checksum
}

package struct Volume: Sendable, Equatable {
  package enum Destination: Sendable, Equatable {
    /// Indirect: volumes are copied much more often than their disks are looked at.
    indirect case disk(ManagedDisk)
    case device(String)
  }
  package var name: VolumeName
  /// The source device (or file), a path on the source host; relative to the root of a local host.
  package var device: String
  package var tracking: Tracking
  package var destination: Destination
  package var position: SourcePosition?
  /// Of what is said of its disk.
  package var places: PlanPlaces = [:]
  package init(
    name: VolumeName, device: String, tracking: Tracking, destination: Destination, position: SourcePosition?
  ) {
    self.name = name
    self.device = device
    self.tracking = tracking
    self.destination = destination
    self.position = position
  }
}

package struct ManagedDisk: Sendable, Equatable {
  package enum SKU: String, Sendable, Codable, CaseIterable {
    case standardHDD = "Standard_LRS"
    case standardSSD = "StandardSSD_LRS"
    case standardSSDZoneRedundant = "StandardSSD_ZRS"
    case premium = "Premium_LRS"
    case premiumZoneRedundant = "Premium_ZRS"
    case premiumV2 = "PremiumV2_LRS"
    case ultra = "UltraSSD_LRS"

    /// Whether IOPS and MB/s are set apart from the size, and changed with the disk in use.
    package var hasOwnPerformance: Bool { self == .premiumV2 || self == .ultra }
    package var isZoneRedundant: Bool { self == .premiumZoneRedundant || self == .standardSSDZoneRedundant }
  }
  package enum Size: Sendable, Equatable {
    /// The source's size, rounded up to whole GiB.
    case auto
    case bytes(UInt64)
  }
  package enum Caching: String, Sendable, Codable, CaseIterable {
    case none
    case readOnly
    case readWrite
  }
  package var sku: SKU
  package var size: Size
  package var zone: String?
  package var iops: Int?
  package var throughputBytesPerSecond: UInt64?
  package var caching: Caching
  /// Nil: the deterministic name.
  package var name: String?
  /// An existing disk to use, a full resource id.
  package var existingID: String?
  package var resourceGroup: String?
  package var encryptionSet: String?
  package var networkAccess: String?
  package var tags: [String: String]
  package init(
    sku: SKU, size: Size, zone: String? = nil, iops: Int? = nil, throughputBytesPerSecond: UInt64? = nil,
    caching: Caching = .none, name: String? = nil, existingID: String? = nil, resourceGroup: String? = nil,
    encryptionSet: String? = nil, networkAccess: String? = nil, tags: [String: String] = [:]
  ) {
    self.sku = sku
    self.size = size
    self.zone = zone
    self.iops = iops
    self.throughputBytesPerSecond = throughputBytesPerSecond
    self.caching = caching
    self.name = name
    self.existingID = existingID
    self.resourceGroup = resourceGroup
    self.encryptionSet = encryptionSet
    self.networkAccess = networkAccess
    self.tags = tags
  }
}
