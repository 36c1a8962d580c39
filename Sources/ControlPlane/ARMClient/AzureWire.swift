import Foundation
import MigrationModel
import Planning

/// The versions of the API that are spoken: those whose OpenAPI files the emulator is held to.
enum APIVersion {
  static let disks = "2024-03-02"
  static let machines = "2024-07-01"
  static let skus = "2021-07-01"
  static let permissions = "2022-04-01"
}

/// A disk as the service writes it; only what is used here.
struct WireDisk: Decodable, Sendable {
  struct SKU: Decodable, Sendable {
    var name: String
  }
  struct Properties: Decodable, Sendable {
    var diskSizeGB: Int?
    var diskSizeBytes: UInt64?
    var diskIOPSReadWrite: Int?
    var diskMBpsReadWrite: Int?
    var diskState: String?
    var provisioningState: String?
  }
  var id: String
  var name: String
  var sku: SKU?
  var zones: [String]?
  var managedBy: String?
  var tags: [String: String]?
  var properties: Properties

  var cloudDisk: CloudDisk {
    let state: CloudDisk.State =
      switch properties.diskState {
      // A disk that was just made shows no state yet.
      case "Unattached", nil: .unattached
      case "Attached": .attached
      case "Reserved": .reserved
      default: .other
      }
    return CloudDisk(
      resourceID: id, name: name, sku: sku?.name ?? "",
      sizeBytes: properties.diskSizeBytes ?? UInt64(max(0, properties.diskSizeGB ?? 0)) << 30, zone: zones?.first,
      iops: properties.diskIOPSReadWrite, megabytesPerSecond: properties.diskMBpsReadWrite, state: state,
      attachedTo: managedBy, tags: tags ?? [:], provisioningState: properties.provisioningState ?? "Succeeded")
  }

  /// Done with whatever was asked of it last, well or badly (FACTS: an absent state means Succeeded).
  var isSettled: Bool { ["Succeeded", "Failed", "Canceled", nil].contains(properties.provisioningState) }
  var isWell: Bool { ["Succeeded", nil].contains(properties.provisioningState) }
}

/// The end of an operation that made or changed a disk.
struct WireOperationStatus: Decodable {
  struct Properties: Decodable {
    var output: WireDisk?
  }
  var properties: Properties?
}

struct WireDiskPage: Decodable, Sendable {
  var value: [WireDisk]
  var nextLink: String?
}

/// What a PUT of a disk says.
struct WireDiskRequest: Encodable {
  struct SKU: Encodable {
    var name: String
  }
  struct CreationData: Encodable {
    var createOption = "Empty"
  }
  struct Encryption: Encodable {
    var type = "EncryptionAtRestWithCustomerKey"
    var diskEncryptionSetId: String
  }
  struct Properties: Encodable {
    var creationData = CreationData()
    var diskSizeGB: Int
    var diskIOPSReadWrite: Int?
    var diskMBpsReadWrite: Int?
    var encryption: Encryption?
    var networkAccessPolicy: String?
  }
  var location: String
  var zones: [String]?
  var sku: SKU
  var tags: [String: String]
  var properties: Properties

  init(_ request: DiskRequest) {
    location = request.location
    zones = request.zone.map { [$0] }
    sku = SKU(name: request.sku)
    tags = request.tags
    properties = Properties(
      diskSizeGB: request.sizeGiB, diskIOPSReadWrite: request.iops, diskMBpsReadWrite: request.megabytesPerSecond,
      encryption: request.encryptionSet.map { Encryption(diskEncryptionSetId: $0) },
      networkAccessPolicy: request.networkAccess)
  }
}

struct WireTags: Encodable {
  var tags: [String: String]
}

struct WireDataDisk: Decodable, Sendable {
  struct Managed: Decodable, Sendable {
    var id: String?
  }
  var lun: Int
  var managedDisk: Managed?
  var toBeDetached: Bool?
}

/// A machine as the service writes it; only what is used here.
struct WireMachine: Decodable, Sendable {
  struct Hardware: Decodable, Sendable {
    var vmSize: String?
  }
  struct Storage: Decodable, Sendable {
    var dataDisks: [WireDataDisk]?
  }
  struct Capabilities: Decodable, Sendable {
    var ultraSSDEnabled: Bool?
  }
  struct Properties: Decodable, Sendable {
    var hardwareProfile: Hardware?
    var additionalCapabilities: Capabilities?
    var storageProfile: Storage?
    var provisioningState: String?
  }
  var id: String
  var name: String
  var location: String
  var zones: [String]?
  var properties: Properties

  var dataDisks: [WireDataDisk] { properties.storageProfile?.dataDisks ?? [] }

  /// What is attached and stays so.
  var attachments: [CloudAttachment] {
    dataDisks.compactMap { disk in
      guard disk.toBeDetached != true, let id = disk.managedDisk?.id else { return nil }
      return CloudAttachment(lun: disk.lun, diskID: id)
    }
  }

  var cloudMachine: CloudMachine {
    CloudMachine(
      resourceID: id, name: name, location: location, size: properties.hardwareProfile?.vmSize ?? "",
      zone: zones?.first, attachments: attachments,
      ultraDisks: properties.additionalCapabilities?.ultraSSDEnabled ?? false)
  }

  var isSettled: Bool { ["Succeeded", "Failed", "Canceled", nil].contains(properties.provisioningState) }
}

/// What a PATCH of a disk changes; what is nil isn't sent.
struct WireDiskChange: Encodable {
  struct SKU: Encodable {
    var name: String
  }
  struct Properties: Encodable {
    var diskSizeGB: Int?
    var diskIOPSReadWrite: Int?
    var diskMBpsReadWrite: Int?
  }
  var sku: SKU?
  var properties = Properties()

  var isEmpty: Bool {
    sku == nil && properties.diskSizeGB == nil && properties.diskIOPSReadWrite == nil
      && properties.diskMBpsReadWrite == nil
  }
}

struct WireAttachment: Encodable {
  struct Disk: Encodable {
    var diskId: String
    var lun: Int
    var caching: String
    var deleteOption = "Detach"
    var writeAcceleratorEnabled = false
  }
  var dataDisksToAttach: [Disk]
}

struct WireDetachment: Encodable {
  struct Disk: Encodable {
    var diskId: String
  }
  var dataDisksToDetach: [Disk]
}

extension ManagedDisk.Caching {
  /// Always sent: the service's own default isn't what the plan says (FACTS).
  var wireName: String {
    switch self {
    case .none: "None"
    case .readOnly: "ReadOnly"
    case .readWrite: "ReadWrite"
    }
  }
}
