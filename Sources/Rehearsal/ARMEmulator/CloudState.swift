/// Everything that survives a restart.
struct CloudState: Codable, Sendable {
  static let version = 1
  var version = CloudState.version
  /// By resource group and name, both in lower case, with a slash between.
  var disks: [String: StoredDisk] = [:]
  /// By name in lower case.
  var machines: [String: StoredMachine] = [:]
  var operations: [String: StoredOperation] = [:]
}

struct StoredDisk: Codable, Sendable {
  enum Provisioning: String, Codable, Sendable {
    case updating = "Updating"
    case succeeded = "Succeeded"
    case failed = "Failed"
  }
  var name: String
  var resourceGroup: String
  var location: String
  var zones: [String]?
  var tags: [String: String]?
  var sku: String
  var sizeGiB: Int
  var iops: Int?
  var megabytesPerSecond: Int?
  var creationData: JSONValue
  /// What the client sent beside that, answered as it came.
  var otherProperties: JSONValue
  var provisioning: Provisioning
  var timeCreated: String
  var uniqueID: String
  /// Name of the machine in lower case.
  var machine: String?
  var ownershipSince: String?
  /// Whether its content was made.
  var isMade: Bool

  /// File of the content, in the state directory.
  var contentFile: String { "disks/\(name)-\(uniqueID.prefix(8)).img" }
}

struct StoredMachine: Codable, Sendable {
  struct DataDisk: Codable, Sendable {
    var lun: Int
    /// Key of `CloudState.disks`.
    var disk: String
    var caching: String
    var deleteOption: String
    var writeAccelerator: Bool
    var toBeDetached: Bool
    var detachOption: String?
  }
  var name: String
  var size: String
  var zone: String?
  var root: String?
  var identifier: String
  var timeCreated: String
  var dataDisks: [DataDisk] = []
  var tags: [String: String] = [:]
  var isUpdating = false
  var etag = 1
}

struct StoredOperation: Codable, Sendable {
  enum Work: Codable, Sendable {
    case makeDisk(disk: String)
    case deleteDisk(disk: String)
    case attachDetach(machine: String, attach: [String], detach: [String])
  }
  struct Failure: Codable, Sendable {
    var code: String
    var message: String
  }
  enum State: String, Codable, Sendable {
    case inProgress = "InProgress"
    case succeeded = "Succeeded"
    case failed = "Failed"
    case canceled = "Canceled"
  }
  var id: String
  var work: Work
  var startedAt: Double
  var endsAt: Double
  var state: State
  /// What a fault decided that it shall end with.
  var fated: Failure?
  var failure: Failure?
}

/// Changes to the outside that an operation makes when it ends.
enum DeviceEffect: Sendable, Equatable {
  case makeContent(file: String, sizeBytes: UInt64)
  case removeContent(file: String)
  case link(root: String, lun: Int, file: String)
  case unlink(root: String, lun: Int)
}
