/// Everything that survives a restart.
struct CloudState: Codable, Sendable {
  static let version = 2
  var version = CloudState.version
  /// By resource group and name, both in lower case, with a slash between.
  var disks: [String: StoredDisk] = [:]
  /// By name in lower case.
  var machines: [String: StoredMachine] = [:]
  var operations: [String: StoredOperation] = [:]
  /// Blobs by container and name. Nil in states of before there were any.
  var containers: [String: [String: StoredBlob]]?
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
  /// The request left the size to where the bytes come from: it shows once they are there.
  var isSizeImplied = false
  /// When bursting was turned on.
  var burstingSince: String?
  /// `extendedLocation` of the request.
  var extendedLocation: JSONValue?
  /// When its IOPS or MB/s were set in the last 24 hours, where they can be.
  var performanceSetAt: [Double]?

  /// File of the content, in the state directory.
  var contentFile: String { "disks/\(name)-\(uniqueID.prefix(8)).img" }

  var createOption: String { creationData["createOption"]?.text ?? "" }

  /// Waits for bytes that this emulator doesn't take: its size isn't shown until they are there.
  var awaitsUpload: Bool { createOption == "Upload" || createOption == "UploadPreparedSecure" }
}

struct StoredMachine: Codable, Sendable {
  struct DataDisk: Codable, Sendable {
    var lun: Int
    /// Key of `CloudState.disks`.
    var disk: String
    var createOption = "Attach"
    var caching: String
    var deleteOption: String
    /// Nil where the request didn't say: then the answer doesn't either.
    var writeAccelerator: Bool?
    var toBeDetached: Bool
    var detachOption: String?
  }
  var name: String
  var location: String
  var size: String
  var zones: [String]?
  var root: String?
  /// What an attached disk becomes below `root`.
  var device = MachineDevice.file
  /// Socket of the QEMU monitor of the machine, where it has one.
  var monitorSocket: String?
  var identifier: String
  var timeCreated: String
  var dataDisks: [DataDisk] = []
  var tags: [String: String] = [:]
  /// Members of `properties` as the client sent them, but for the size and the data disks.
  var profile = JSONValue.object(JSONObject())
  /// Members beside `properties`: identity, plan, extendedLocation.
  var extras = JSONValue.object(JSONObject())
  var isUpdating = false
  var isNew = false
  var hasFailed = false
  var isRunning = true
  var etag = 1

  var zone: String? { zones?.first }
  var isUltraEnabled: Bool { profile["additionalCapabilities"]?["ultraSSDEnabled"]?.flag ?? false }
}

/// How the host of a machine gets a disk.
package enum MachineDevice: String, Codable, Sendable, CaseIterable {
  /// A link to the disk's file.
  case file
  /// A link to a loop device over it; needs root.
  case loop
}

struct StoredOperation: Codable, Sendable {
  enum Work: Codable, Sendable {
    case makeDisk(disk: String)
    case deleteDisk(disk: String)
    case changeMachine(machine: String, attach: [String], detach: [String])
    case deleteMachine(machine: String)
    case power(machine: String, isRunning: Bool)
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
  var location: String
  var startedAt: Double
  var endsAt: Double
  var state: State
  /// What a fault decided that it shall end with.
  var fated: Failure?
  /// How many of its attachments are made all the same where it is fated to fail.
  var fatedKeeps = 0
  var failure: Failure?

  /// Name of the machine that it changes.
  var machine: String? {
    switch work {
    case .makeDisk, .deleteDisk: nil
    case .changeMachine(let name, _, _), .deleteMachine(let name), .power(let name, _): name
    }
  }
}

/// How far a change to the outside has come.
enum DeviceProgress: Sendable, Equatable {
  case done
  /// Somebody else was asked and hasn't done it yet; asking again does no harm.
  case pending(String)
}

/// Changes to the outside that an operation makes when it ends.
enum DeviceEffect: Sendable, Equatable {
  case makeContent(file: String, sizeBytes: UInt64)
  /// The bytes of another disk.
  case copyContent(from: String, to: String)
  case removeContent(file: String)
  case link(root: String, lun: Int, file: String, device: MachineDevice)
  case unlink(root: String, lun: Int)
  /// Into and out of a running QEMU machine, by its monitor.
  case plug(socket: String, lun: Int, file: String)
  case unplug(socket: String, lun: Int)
  /// The file behind what is attached there grew.
  case growLink(root: String, lun: Int)
  case growPlugged(socket: String, lun: Int, sizeBytes: UInt64)

  /// The LUN that it takes away from a machine.
  var leavingLUN: Int? {
    switch self {
    case .unlink(_, let lun), .unplug(_, let lun): lun
    default: nil
    }
  }
}
