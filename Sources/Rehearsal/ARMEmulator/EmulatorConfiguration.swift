import Foundation

/// Everything that an emulator is told when it starts.
package struct EmulatorConfiguration: Sendable, Equatable {
  /// A virtual machine that exists from the start; others come by the API.
  package struct Machine: Sendable, Equatable {
    package var name: String
    package var size: String
    package var zone: String?
    /// Where the machine's host keeps its devices: attaching at LUN 3 makes ROOT/dev/disk/azure/scsi1/lun3.
    package var root: String?
    package var device = MachineDevice.file
    /// Unix socket of a QEMU monitor (QMP): attaching plugs the disk into that machine.
    package var monitorSocket: String?
    package init(name: String, size: String = "Standard_D4s_v5", zone: String? = nil, root: String? = nil) {
      self.name = name
      self.size = size
      self.zone = zone
      self.root = root
    }
  }

  package var host: String
  /// 0: the system picks one.
  package var port: Int
  package var https: Bool
  package var stateDirectory: String
  package var machines: [Machine]
  /// Operations and token buckets run this many times faster than Azure's.
  package var timeScale: Double
  package var clientID: String
  package var clientSecret: String
  package var tenant: String
  package var subscription: String
  package var resourceGroup: String
  package var location: String
  package var throttling: Bool
  /// Names of the disk encryption sets that exist.
  package var encryptionSets: Set<String> = []
  /// SKUs that the subscription may not have here, without regard to case.
  package var restrictedSKUs: Set<String> = []
  /// Actions of roles that the client doesn't have ("Microsoft.Compute/disks/write").
  package var deniedActions: Set<String> = []
  /// Limits of usages that differ from the usual, by name.
  package var quotas: [String: Int] = [:]
  /// The account that serves blobs, at `/ACCOUNT/…` of the same address.
  package var storageAccount = "rehearsal"
  /// The account's containers.
  package var containers: Set<String> = []
  /// Faults from the start, as JSON of the control endpoint has them.
  package var faults: [String] = []
  /// Certificates that the client may sign in with, beside its secret.
  package var certificates: [RegisteredCertificate] = []
  /// Workloads elsewhere that may sign in as the client, by a token of their own issuer.
  package var federatedCredentials: [FederatedCredential] = []
  /// How long the guest of a machine may take to let go of a disk, whatever the time scale: guests live in real time.
  package var guestSeconds = 15.0

  package init(
    host: String = "127.0.0.1", port: Int = 0, https: Bool = false, stateDirectory: String, machines: [Machine],
    timeScale: Double = 1, clientID: String = EmulatorConfiguration.defaultClientID, clientSecret: String,
    tenant: String = EmulatorConfiguration.defaultTenant,
    subscription: String = EmulatorConfiguration.defaultSubscription, resourceGroup: String = "rehearsal",
    location: String = "westeurope", throttling: Bool = true
  ) {
    self.host = host
    self.port = port
    self.https = https
    self.stateDirectory = stateDirectory
    self.machines = machines
    self.timeScale = timeScale
    self.clientID = clientID
    self.clientSecret = clientSecret
    self.tenant = tenant
    self.subscription = subscription
    self.resourceGroup = resourceGroup
    self.location = location
    self.throttling = throttling
  }

  package static let defaultTenant = "11111111-1111-1111-1111-111111111111"
  package static let defaultSubscription = "00000000-0000-0000-0000-000000000001"
  package static let defaultClientID = "22222222-2222-2222-2222-222222222222"
}

/// Why an emulator can't start, or had to stop.
package struct EmulatorError: Error, Sendable, Equatable, CustomStringConvertible {
  package let message: String
  package init(_ message: String) { self.message = message }
  package var description: String { message }
}

extension EmulatorConfiguration.Machine {
  /// Reads `NAME[,size=SIZE][,zone=ZONE][,root=DIR][,device=file|loop][,qmp=SOCKET]`.
  package init(argument: String) throws(EmulatorError) {
    var parts = argument.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let name = parts.removeFirst()
    guard AzureName.isMachine(name) else {
      throw EmulatorError("'\(name)' is no name for a virtual machine: 1 to 64 letters, digits, '-', '_' and '.'")
    }
    self.init(name: name)
    for part in parts {
      guard let equals = part.firstIndex(of: "=") else {
        throw EmulatorError("'\(part)' of machine '\(name)' is not size=…, zone=…, root=…, device=… or qmp=…")
      }
      let value = String(part[part.index(after: equals)...])
      switch part[..<equals] {
      case "size": size = value
      case "zone": zone = value
      case "root": root = value
      case "qmp": monitorSocket = value
      case "device":
        guard let device = MachineDevice(rawValue: value) else {
          throw EmulatorError("device '\(value)' of machine '\(name)' is neither file nor loop")
        }
        self.device = device
      default:
        throw EmulatorError(
          "'\(part[..<equals])' of machine '\(name)' is not one of size, zone, root, device and qmp")
      }
    }
    guard MachineSizes.all[size] != nil else {
      throw EmulatorError(
        "machine size '\(size)' is unknown here; one of \(MachineSizes.all.keys.sorted().joined(separator: ", "))")
    }
  }
}
