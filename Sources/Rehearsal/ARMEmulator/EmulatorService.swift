import BlockModel
import Foundation
import LinuxPlatform
import Seams
import Synchronization

/// The emulated cloud with its clock, its files and its devices. Calls block.
final class EmulatorService: Sendable {
  private let cloud: Mutex<EmulatedCloud>
  private let store: any StateStore
  private let devices: HostDevices
  private let time: any TimeSource

  static let stateFile = "state.json"

  private init(_ cloud: EmulatedCloud, store: any StateStore, devices: HostDevices, time: any TimeSource) {
    self.cloud = Mutex(cloud)
    self.store = store
    self.devices = devices
    self.time = time
  }

  /// Reads what an earlier run left and mends the links of what is attached.
  static func open(
    _ configuration: EmulatorConfiguration, time: any TimeSource, random: any RandomSource
  ) throws(EmulatorError) -> EmulatorService {
    let store: DirectoryStateStore
    let bytes: [UInt8]?
    do {
      try Files.makeDirectories(configuration.stateDirectory, mode: 0o700)
      store = try DirectoryStateStore(path: configuration.stateDirectory)
      bytes = try store.read(stateFile)
    } catch {
      throw EmulatorError("the state directory \(configuration.stateDirectory) can't be used: \(error)")
    }
    var state = CloudState()
    if let bytes {
      guard let read = try? JSONDecoder().decode(CloudState.self, from: Data(bytes)), read.version == CloudState.version
      else {
        throw EmulatorError(
          "\(configuration.stateDirectory)/\(stateFile) isn't the state of this version's emulator: "
            + "move it away, or give --state another directory")
      }
      state = read
    }
    var cloud = EmulatedCloud(configuration, state: state) { random.uuid() }
    cloud.enterMachines(now: time.wallNow().secondsSince1970)
    let devices = HostDevices(stateDirectory: configuration.stateDirectory)
    do {
      for link in cloud.links { try devices.perform(link) }
    } catch {
      throw EmulatorError("a machine's device can't be made: \(error)")
    }
    let service = EmulatorService(cloud, store: store, devices: devices, time: time)
    try service.save(cloud.state)
    return service
  }

  private func save(_ state: CloudState) throws(EmulatorError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    do {
      try store.replace(Self.stateFile, with: Array(try encoder.encode(state)))
    } catch {
      throw EmulatorError("the state can't be saved: \(error)")
    }
  }

  /// Ends what is due, then answers. What the answer says is durable.
  func reply(to request: EmulatorRequest) -> EmulatedCloud.Reply {
    let now = time.wallNow().secondsSince1970
    return cloud.withLock { cloud in
      let ended = endDue(&cloud, now: now)
      var next = cloud
      let reply = next.reply(to: request, now: now)
      if ended || request.method != "GET" {
        do throws(EmulatorError) {
          try save(next.state)
        } catch {
          // What can't be kept must not be promised: the old state stays.
          return EmulatedCloud.Reply(response: Refusal(500, "InternalServerError", error.message).response)
        }
      }
      cloud = next
      return reply
    }
  }

  private func endDue(_ cloud: inout EmulatedCloud, now: Double) -> Bool {
    var ended = false
    for operation in cloud.due(now: now) {
      var failure: StoredOperation.Failure?
      var held: [Int: String] = [:]
      do throws(SystemError) {
        held = try perform(operation.effects)
      } catch {
        failure = StoredOperation.Failure(code: "InternalExecutionError", message: error.description)
      }
      if failure == nil, !held.isEmpty {
        guard now >= operation.endsAt + cloud.configuration.guestSeconds else { continue }
        failure = Self.heldDisks(held, cloud.configuration.guestSeconds)
      }
      cloud.end(operation.id, failure: failure, heldLUNs: Set(held.keys))
      ended = true
    }
    return ended
  }

  /// LUNs that a guest was asked to let go of and hasn't yet, with what is known of why. While there are some, nothing is
  /// put in their place.
  private func perform(_ effects: [DeviceEffect]) throws(SystemError) -> [Int: String] {
    var held: [Int: String] = [:]
    for effect in effects {
      if let lun = effect.leavingLUN {
        if held[lun] != nil { continue }
        if case .pending(let why) = try devices.perform(effect) { held[lun] = why }
      } else if held.isEmpty {
        try devices.perform(effect)
      }
    }
    return held
  }

  private static func heldDisks(_ held: [Int: String], _ seconds: Double) -> StoredOperation.Failure {
    let disks = held.sorted { $0.key < $1.key }.map { "LUN \($0.key) (\($0.value))" }.joined(separator: ", ")
    return StoredOperation.Failure(
      code: "InternalExecutionError",
      message: "An internal execution error occurred. Please retry later. The guest has not let go of the disk at "
        + "\(disks) in \(Int(seconds.rounded(.up))) seconds.")
  }
}
