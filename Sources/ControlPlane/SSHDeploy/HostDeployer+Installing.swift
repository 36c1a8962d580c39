import BlockModel
package import MigrationModel
package import Reconciling
import Seams

/// How the agent of a host is started, and whether its unit is as it should be.
struct Service: Sendable {
  enum Kind: Sendable {
    case process
    case supervised
    case systemd
  }
  var kind: Kind
  var isCurrent = true
}

// MARK: Installing and upgrading

extension HostDeployer {
  @discardableResult
  package func deploy(to host: Host) async throws(GatewayError) -> Bool {
    let transport = try await transport(to: host)
    let digest = try await shipped.digest()
    let found = try await probe(transport, host)
    let service = service(on: transport, found)
    if found.running?.digest == digest, found.isServed, found.installedDigest == digest, service.isCurrent,
      await answers(transport, host)
    {
      guard found.keepsFormer(of: digest) else { return false }
      try await prune(allBut: digest, transport, host)
      return true
    }
    var isUnlabelled = false
    if found.installedDigest != digest {
      if found.kept.contains(digest) {
        try await run(HostScripts.select, [digest], on: transport, host, what: "select the agent")
      } else {
        isUnlabelled = try await install(found, on: transport, host)
      }
    }
    guard !Task.isCancelled else { throw Self.stopping(host) }
    do throws(GatewayError) {
      // Another version runs, or this one does not answer: the new one takes over its sessions from its state.
      if service.kind == .systemd, !service.isCurrent {
        try await run(
          HostScripts.writeUnit, [], on: transport, host,
          input: Array(HostScripts.unit(isEarly: found.isOnRootFileSystem).utf8),
          what: "write the agent's unit", limitSeconds: Self.serviceLimitSeconds)
      }
      try await restart(found.running, transport, host, service)
      try await awaitAnswer(transport, host)
    } catch {
      let error = isUnlabelled ? Self.unlabelled(error) : error
      guard let former = former(found, digest, service) else { throw error }
      guard DeployCode.isVerdict(error), !Task.isCancelled else { throw Self.unknownEnd(of: digest, error, host) }
      throw await rollBack(to: former, because: error, transport, host, service)
    }
    try await prune(allBut: digest, transport, host)
    return true
  }

  /// What is put back where the new agent doesn't run: the agent before it, or the same with the unit before this one.
  private func former(_ found: HostProbe, _ digest: String, _ service: Service) -> String? {
    let another = ([found.running?.digest, found.installedDigest] + found.kept).compactMap { $0 }
      .first { $0 != digest && found.kept.contains($0) }
    let changesUnit = found.keepsFormerUnit || found.unit != nil && !service.isCurrent
    return another ?? (changesUnit && found.kept.contains(digest) ? digest : nil)
  }

  private func prune(allBut digest: String, _ transport: any HostTransport, _ host: Host) async throws(GatewayError) {
    try await run(HostScripts.prune, [digest], on: transport, host, what: "remove the agent's former version")
  }

  func service(on transport: any HostTransport, _ found: HostProbe) -> Service {
    switch transport.supervision {
    case .none: Service(kind: .process)
    case .supervisor: Service(kind: .supervised)
    case .serviceOrSupervisor:
      found.hasSystemd
        ? Service(kind: .systemd, isCurrent: found.unit == HostScripts.unit(isEarly: found.isOnRootFileSystem))
        : Service(kind: .supervised)
    }
  }

  /// Copies the agent, going on where an earlier copy was cut off. Whether SELinux is enforcing and its file could not
  /// be labelled.
  private func install(
    _ found: HostProbe, on transport: any HostTransport, _ host: Host
  ) async throws(GatewayError) -> Bool {
    if let machine = found.machine, let ours = try await shipped.machine(), machine != ours {
      throw GatewayError(
        code: "CMC3208", message: "host \(host.name) is \(machine), and the agent to install is for \(ours)",
        advice: "name an agent built for \(machine) in CMCPLAN_AGENT", disposition: .needsOperator)
    }
    let digest = try await shipped.digest()
    let parcel = try await shipped.parcel(compressed: found.hasGzip && transport.supervision != .none)
    var offset = found.parts[parcel.digest] ?? 0
    for attempt in 1...Self.copyAttempts {
      if offset > parcel.bytes.count { offset = 0 }
      do throws(GatewayError) {
        let said = try await run(
          HostScripts.install,
          [digest, parcel.encoding, parcel.digest, String(offset), String(parcel.bytes.count)], on: transport, host,
          input: Array(parcel.bytes[offset...]), what: "install the agent", limitSeconds: Self.copyLimitSeconds)
        return said.trimmed == "unlabelled"
      } catch {
        guard attempt < Self.copyAttempts, case .retry = error.disposition, !Task.isCancelled else { throw error }
        offset = try await probe(transport, host).parts[parcel.digest] ?? 0
      }
    }
    return false
  }

  func restart(
    _ running: (processID: Int, digest: String)?, _ transport: any HostTransport, _ host: Host, _ service: Service
  ) async throws(GatewayError) {
    if let running { try await stop(transport, host, processID: running.processID) }
    switch service.kind {
    case .process: try await run(HostScripts.start, [], on: transport, host, what: "start the agent")
    case .supervised: try await run(HostScripts.startSupervised, [], on: transport, host, what: "start the agent")
    case .systemd:
      try await run(
        HostScripts.startService, [], on: transport, host, what: "start the agent's service",
        limitSeconds: Self.serviceLimitSeconds,
        advice: "systemctl status cmcagent and journalctl -u cmcagent on the host say why; then apply again")
    }
  }
}

// MARK: Waiting for an answer

extension HostDeployer {
  /// Waits for a started agent's first answer; shows the end of its log where none comes.
  ///
  /// That the agent doesn't answer is said (`DeployCode.unanswered`) only where the host does, before and after the agent was
  /// asked once more. Whatever else keeps an answer from us is thrown as it is: the agent may be well.
  private func awaitAnswer(_ transport: any HostTransport, _ host: Host) async throws(GatewayError) {
    let deadline = time.monotonicNow().adding(seconds: Self.startLimitSeconds)
    var isLast = false
    while true {
      let failure: GatewayError
      do throws(GatewayError) {
        let connection = try await hello(transport, host)
        await connection.gateway.close()
        return
      } catch {
        failure = error
      }
      if Task.isCancelled || failure.code == DeployCode.stopping { throw Self.stopping(host) }
      if isLast {
        let log = try await run(HostScripts.logTail, [], on: transport, host, what: "read agent.log")
        throw GatewayError(
          code: DeployCode.unanswered,
          message: "host \(host.name): the agent was started but does not answer: \(failure.message)",
          advice: SELinuxDenial(in: log)?.advice
            ?? (log.isEmpty ? failure.advice : "agent.log ends with: \(log.trimmed)"),
          disposition: failure.disposition)
      }
      let isFinal = failure.disposition == .needsOperator || failure.disposition == .terminal
      if isFinal || time.monotonicNow() >= deadline {
        _ = try await probe(transport, host)
        isLast = true
        continue
      }
      do {
        try await pausing.pause(seconds: 0.05)
      } catch {
        throw Self.stopping(host)
      }
    }
  }

  private static func stopping(_ host: Host) -> GatewayError {
    GatewayError(
      code: DeployCode.stopping,
      message: "host \(host.name): the agent's start was not waited for, because this run is stopping",
      advice: "apply again continues", disposition: .terminal)
  }
}

// MARK: Taking back

extension HostDeployer {
  /// Puts the agent back that ran before, and its unit; answers the error to throw, which says what runs now.
  private func rollBack(
    to former: String, because failure: GatewayError, _ transport: any HostTransport, _ host: Host, _ service: Service
  ) async -> GatewayError {
    do throws(GatewayError) {
      let failed = try await shipped.digest()
      if service.kind == .systemd {
        try await run(
          HostScripts.restoreUnit, [], on: transport, host, what: "put the former unit back",
          limitSeconds: Self.serviceLimitSeconds)
      }
      try await run(HostScripts.select, [former], on: transport, host, what: "select the former agent")
      let found = try await probe(transport, host)
      // One that was never ended serves on.
      let servesOn = found.running?.digest == former && former != failed
      if !servesOn {
        try await restart(found.running, transport, host, service)
        try await awaitAnswer(transport, host)
      }
      try await prune(allBut: former, transport, host)
      return GatewayError(
        code: DeployCode.upgradeFailed,
        message: "host \(host.name): the new agent (\(failed.prefix(12))…) does not run: \(failure.message); the former"
          + " one (\(former.prefix(12))…) runs \(servesOn ? "on" : "again")",
        advice: failure.advice, disposition: .needsOperator)
    } catch {
      let start = "host \(host.name): the new agent does not run (\(failure.message))"
      guard DeployCode.isVerdict(error), !Task.isCancelled else {
        return GatewayError(
          code: DeployCode.upgradeUnknown,
          message:
            "\(start), and whether the former one (\(former.prefix(12))…) runs again isn't known: \(error.message)",
          advice: "no agent may run there until then, and a tap in use makes its application wait. Once the host can be"
            + " reached, cmcplan agent list says what runs, and cmcplan agent upgrade \(host.name) tries again",
          disposition: .needsOperator)
      }
      return GatewayError(
        code: DeployCode.upgradeFailed, message: "\(start), nor the former one again: \(error.message)",
        advice: error.advice, disposition: .needsOperator)
    }
  }

  /// Nobody has seen the new agent fail: it is left as it is, and so is what the former one would need.
  private static func unknownEnd(of digest: String, _ error: GatewayError, _ host: Host) -> GatewayError {
    GatewayError(
      code: DeployCode.upgradeUnknown,
      message: "host \(host.name): the upgrade to \(digest.prefix(12))… was begun and its end isn't known:"
        + " \(error.message)",
      advice: "the agent there may be down until then: replication stands still, and a tap in use makes its application"
        + " wait for whichever agent comes. Nothing was taken back. Once the host can be reached, cmcplan agent list says"
        + " what runs, and cmcplan agent upgrade \(host.name), or apply, goes on",
      disposition: error.disposition)
  }

  private static func unlabelled(_ error: GatewayError) -> GatewayError {
    var error = error
    error.message += "; SELinux is enforcing there, and chcon -t bin_t of the agent's file failed"
    return error
  }
}
