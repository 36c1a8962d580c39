import Foundation
import Synchronization

/// The emulated cloud without server, files and devices, on the caller's clock: for simulations. Calls never block.
package final class EmulatorInMemory: Sendable {
  package struct Answer: Sendable {
    package var status: Int
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]
    /// The answer takes this much longer.
    package var delaySeconds: Double
    /// The connection breaks, and nothing of this arrives.
    package var isDropped: Bool
  }

  private let cloud: Mutex<EmulatedCloud>

  /// `makeUUID`: where ids come from; `now`: seconds since 1970.
  package init(_ configuration: EmulatorConfiguration, now: Double, makeUUID: @escaping @Sendable () -> String) {
    var cloud = EmulatedCloud(configuration, state: CloudState(), makeUUID: makeUUID)
    cloud.enterMachines(now: now)
    self.cloud = Mutex(cloud)
  }

  package func answer(
    _ method: String, _ url: String, headers: [(String, String)], body: [UInt8], now: Double
  ) -> Answer {
    let request = EmulatorRequest(method: method, url: url, headers: headers, body: body)
    return cloud.withLock { cloud in
      for operation in cloud.due(now: now) { cloud.end(operation.id, failure: nil) }
      let reply = cloud.reply(to: request, now: now)
      return Answer(
        status: reply.response.status, headers: reply.response.headers, body: reply.response.bytes,
        delaySeconds: reply.delaySeconds, isDropped: reply.dropsConnection)
    }
  }

  /// Asks for faults, as `POST /cmc-emulator/faults` does. False where the text isn't understood.
  package func fault(_ json: String) -> Bool {
    guard let fault = Fault.read(json: json) else { return false }
    return cloud.withLock { $0.faults.add(fault) }
  }

  package func clearFaults() { cloud.withLock { $0.faults.removeAll() } }

  /// A token that is good for as long as the emulator's own are, for the resource manager or for storage.
  package func token(forStorage: Bool = false, now: Double) -> (value: String, lifetimeSeconds: Double) {
    cloud.withLock { cloud in
      let value = "token-\(cloud.makeUUID())"
      cloud.tokens[value] = IssuedToken(
        endsAt: now + EmulatedCloud.tokenSeconds, isForStorage: forStorage)
      return (value, EmulatedCloud.tokenSeconds)
    }
  }

  /// Names of all disks, sorted.
  package var disks: [String] { cloud.withLock { $0.state.disks.values.map(\.name).sorted() } }

  /// LUN and name of what is attached to a machine, lowest LUN first.
  package func attached(to machine: String) -> [(lun: Int, disk: String)] {
    cloud.withLock { cloud in
      (cloud.state.machines[machine.lowercased()]?.dataDisks ?? []).sorted { $0.lun < $1.lun }.compactMap { data in
        cloud.state.disks[data.disk].map { (data.lun, $0.name) }
      }
    }
  }

  /// How often requests were answered so: "POST 200" of those whose path holds `part`.
  package func requests(_ part: String) -> [String] { cloud.withLock { $0.answered(part) } }
}
