import BlockModel
import MigrationModel
import Reconciling

/// Does one thing on many hosts, `parallelism` at once. One that fails, or hangs until its limit, holds up no other.
/// `report` is called as each ends, in whatever order that is. Answers the names of those that failed, sorted.
func onEach<Answer: Sendable>(
  _ hosts: [Host], parallelism: Int, _ body: @escaping @Sendable (Host) async -> Result<Answer, GatewayError>,
  report: (Host, Result<Answer, GatewayError>) -> Void
) async -> [HostName] {
  var failed: [HostName] = []
  await fanOut(hosts, parallelism: parallelism, body) { host, result in
    if case .failure = result { failed.append(host.name) }
    report(host, result)
  }
  return failed.sorted()
}

/// What `body` throws as a result: closures with typed throws don't go into arrays and task groups well.
func outcome<Answer: Sendable>(
  _ body: () async throws(GatewayError) -> Answer
) async -> Result<Answer, GatewayError> {
  do throws(GatewayError) {
    return .success(try await body())
  } catch {
    return .failure(error)
  }
}

extension PlanDocument {
  /// The hosts of these names, or all, in the order of their names.
  func hosts(_ names: [String]) throws -> [Host] {
    let all = plan.hosts.values.sorted { $0.name < $1.name }
    guard !names.isEmpty else { return all }
    return try names.map { name in
      guard let host = plan.hosts[HostName(name)] else {
        throw CommandFailure(
          "the plan has no host \(name)", advice: "it has: \(all.prefix(20).map(\.name.text).joined(separator: ", "))")
      }
      return host
    }
  }
}
