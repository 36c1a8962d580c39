package import AgentProtocol
package import BlockModel
package import MigrationModel
package import Seams

/// How far the replacement of one agent's key has come, as the agent and its peers show it. Pure: whatever run was cut
/// off, the next one goes on from what is seen here.
package struct KeyHandOver: Sendable, Equatable {
  /// A session of the agent, by its half at the peer.
  package struct Peer: Sendable, Equatable {
    package var host: HostName
    package var configuration: SessionConfiguration
    package init(host: HostName, configuration: SessionConfiguration) {
      self.host = host
      self.configuration = configuration
    }
  }
  package enum Step: Sendable, Equatable {
    /// Let the agent make a key.
    case make
    /// The peer is to let the key in beside the former one.
    case announce(KeyFingerprint, Peer)
    case use(KeyFingerprint)
    /// Prove the key with the peer, which then is to let in no other.
    case settle(KeyFingerprint, Peer)
  }

  package var keys: AgentKeys
  package var peers: [Peer]
  package init(keys: AgentKeys, peers: [Peer]) {
    self.keys = keys
    self.peers = peers
  }

  /// The key that a replacement under way leads to; nil where none is.
  package var target: KeyFingerprint? {
    if let next = keys.next { return next }
    return peers.contains { $0.configuration.peerFingerprint != keys.current && knows($0, keys.current) }
      ? keys.current : nil
  }

  /// Peers that let this agent in by none of its keys: they were never paired, or are to be paired anew.
  package var strangers: [Peer] {
    peers.filter { peer in !knows(peer, keys.current) && !(keys.next.map { knows(peer, $0) } ?? false) }
  }

  /// All that is still to be done, in order. No peer is asked to forget a key before all know the new one, and the agent
  /// shows it only then.
  package var steps: [Step] {
    guard let target else { return [.make] }
    if keys.current == target {
      return peers.filter { $0.configuration.peerKeys != [target] }.map { .settle(target, $0) }
    }
    return peers.filter { !knows($0, target) }.map { .announce(target, $0) } + [.use(target)]
      + peers.map { .settle(target, $0) }
  }

  private func knows(_ peer: Peer, _ key: KeyFingerprint) -> Bool { peer.configuration.peerKeys.contains(key) }
}

/// Replaces the key of one host's agent: the new one is made there, told to its peers, used, proven over a connection of
/// its own with each of them, and only then the former one is forgotten. Links that stand go on.
package struct KeyRotation: Sendable {
  /// How long a peer's session is kept from other runs while its half is changed, in seconds.
  static let leaseSeconds = 60.0

  private let plan: MigrationPlan
  private let hosts: any HostGateway
  private let who: String
  private let time: any TimeSource
  private let report: @Sendable (String) -> Void

  package init(
    plan: MigrationPlan, hosts: any HostGateway, who: String, time: any TimeSource,
    report: @escaping @Sendable (String) -> Void
  ) {
    self.plan = plan
    self.hosts = hosts
    self.who = who
    self.time = time
    self.report = report
  }

  /// Answers the agent's keys at the end: one, and it is another than before.
  package func rotate(_ host: Host) async throws(GatewayError) -> AgentKeys {
    let own = try await observation(of: host)
    let peers = try await peers(of: own, on: host)
    var handOver = KeyHandOver(keys: own.keys, peers: peers)
    if let stranger = handOver.strangers.first {
      throw Self.refusal(
        host, "\(stranger.host) knows it by another key in \(stranger.configuration.session)",
        "apply pairs them anew; then run this again")
    }
    if handOver.target == nil {
      handOver.keys = try await call(PrepareKeyCall(), on: host)
      report("\(host.name): a new key is made, \(handOver.keys.next ?? handOver.keys.current)")
    } else {
      report("\(host.name): goes on with a replacement that was not ended")
    }
    for step in handOver.steps {
      if Task.isCancelled { throw Self.refusal(host, "this run is stopping", "run it again: it goes on from here") }
      try await perform(step, handOver.keys, own, host)
    }
    return AgentKeys(current: handOver.target ?? handOver.keys.current, next: nil)
  }

  private func perform(
    _ step: KeyHandOver.Step, _ keys: AgentKeys, _ own: AgentObservation, _ host: Host
  ) async throws(GatewayError) {
    switch step {
    case .make: break
    case .announce(let key, let peer):
      try await configure(peer) { configuration in
        // A peer that lags a replacement behind knows the current key as the one to come.
        configuration.peerFingerprint = keys.current
        configuration.nextPeerFingerprint = key
      }
      report("\(peer.host): lets it in beside the former one, for \(peer.configuration.session)")
    case .use(let key):
      _ = try await call(UseKeyCall(fingerprint: key), on: host)
      report("\(host.name): shows it from now on")
    case .settle(let key, let peer):
      let proof = try await prove(key, peer, own, host)
      try await configure(peer) { configuration in
        configuration.peerFingerprint = key
        configuration.nextPeerFingerprint = nil
      }
      let milliseconds = Int((proof.seconds * 1000).rounded(.up))
      report(
        "\(peer.host): has proven it in \(milliseconds) ms and forgotten the former one, for \(peer.configuration.session)"
      )
    }
  }

  /// By whichever end opens the session's link, in its own direction.
  private func prove(
    _ key: KeyFingerprint, _ peer: KeyHandOver.Peer, _ own: AgentObservation, _ host: Host
  ) async throws(GatewayError) -> PeerProof {
    let session = peer.configuration.session
    guard peer.configuration.link.listens else {
      guard let peerHost = plan.hosts[peer.host] else {
        throw Self.refusal(host, "\(peer.host) is not in the plan", "")
      }
      return try await call(ProvePeerCall(session: session, peer: key), on: peerHost)
    }
    guard let half = own.sessions.first(where: { $0.session == session }) else {
      throw Self.refusal(host, "its session \(session) is gone", "run it again")
    }
    let proof = try await call(ProvePeerCall(session: session, peer: half.configuration.peerFingerprint), on: host)
    guard proof.own == key else {
      throw Self.refusal(host, "it shows the key \(proof.own) to \(peer.host), not \(key)", "run it again")
    }
    return proof
  }

  private func configure(
    _ peer: KeyHandOver.Peer, _ change: (inout SessionConfiguration) -> Void
  ) async throws(GatewayError) {
    guard let host = plan.hosts[peer.host] else { return }
    let agent = try await hosts.agent(on: host)
    let session = peer.configuration.session
    // As apply does: fencing numbers go by the wall clock, so that this one outranks any before it.
    let number = UInt64(max(0, time.wallNow().secondsSince1970 * 1000))
    do throws(GatewayError) {
      let lease = try await agent.call(
        AcquireLeaseCall(
          session: session, holder: "\(who) agent rotate-key", fencingNumber: number,
          timeToLiveSeconds: Self.leaseSeconds, steal: false))
      // As it is by now: another run may have changed the rest of it since the first look.
      let seen = try await agent.call(ObserveCall()).sessions.first { $0.session == session }
      if var configuration = seen?.configuration {
        change(&configuration)
        _ = try await agent.call(
          ConfigureSessionCall(fencingNumber: lease.fencingNumber, configuration: configuration))
      }
      _ = try await agent.call(ReleaseLeaseCall(session: session, fencingNumber: lease.fencingNumber))
    } catch {
      await agent.close()
      throw error
    }
    await agent.close()
  }

  // MARK: Looking

  /// Of an agent that can take part.
  private func observation(of host: Host) async throws(GatewayError) -> AgentObservation {
    let seen = try await call(ObserveCall(), on: host)
    try Self.check(seen, host)
    return seen
  }

  private static func check(_ seen: AgentObservation, _ host: Host) throws(GatewayError) {
    guard seen.hello.protocolVersion < AgentProtocolVersion.rotatesKeys else { return }
    throw refusal(
      host,
      "its agent speaks version \(seen.hello.protocolVersion) of the control protocol, which knows no change of keys",
      "cmcplan agent upgrade \(host.name), then run this again")
  }

  /// The other half of each session: on the host that has the migration with this one, or on any of the plan.
  private func peers(of own: AgentObservation, on host: Host) async throws(GatewayError) -> [KeyHandOver.Peer] {
    let partners = Set(
      plan.migrations.values.filter { $0.source == host.name || $0.destination == host.name }
        .flatMap { [$0.source, $0.destination] }
    ).subtracting([host.name])
    var search = PeerSearch(sessions: own.sessions.map(\.session))
    for name in partners.sorted() where !search.missing.isEmpty {
      guard let other = plan.hosts[name] else { continue }
      search.add(try await observation(of: other), name)
    }
    // Where the plan says who has the other half, and it hasn't, nobody knows this agent's key for it.
    search.missing.subtract(own.sessions.filter { plannedPeer(of: $0, host) != nil }.map(\.session))
    var unseen: [String] = []
    for other in plan.hosts.values.sorted(by: { $0.name < $1.name })
    where !search.missing.isEmpty && other.name != host.name && !partners.contains(other.name) {
      do throws(GatewayError) {
        let seen = try await call(ObserveCall(), on: other)
        if search.add(seen, other.name) { try Self.check(seen, other) }
      } catch {
        unseen.append(error.message)
      }
    }
    if let session = search.missing.min() {
      let why = unseen.isEmpty ? "" : " (not seen: \(unseen.joined(separator: "; ")))"
      throw Self.refusal(
        host, "no host of this plan has the other half of its session \(session)\(why)",
        "name with -f the plan that has both hosts, or cancel or retire that session first")
    }
    return search.found.sorted { $0.configuration.session < $1.configuration.session }
  }

  private func plannedPeer(of session: SessionObservation, _ host: Host) -> HostName? {
    let configuration = session.configuration
    let name = configuration.plannedAs?.migration ?? configuration.migration
    guard configuration.plan == plan.metadata.id, let migration = plan.migrations[name] else { return nil }
    return migration.source == host.name
      ? migration.destination : migration.destination == host.name ? migration.source : nil
  }

  private func call<Call: AgentCall>(_ call: Call, on host: Host) async throws(GatewayError) -> Call.Answer {
    let agent = try await hosts.agent(on: host)
    do throws(GatewayError) {
      let answer = try await agent.call(call)
      await agent.close()
      return answer
    } catch {
      await agent.close()
      throw error
    }
  }

  private static func refusal(_ host: Host, _ why: String, _ advice: String) -> GatewayError {
    GatewayError(
      code: "CMC3261", message: "host \(host.name): the key is not replaced: \(why)", advice: advice,
      disposition: .needsOperator)
  }
}

extension AgentObservation {
  var keys: AgentKeys { AgentKeys(current: hello.fingerprint, next: hello.nextFingerprint) }
}

/// Which sessions' other halves were found so far.
private struct PeerSearch {
  var missing: Set<SessionID>
  var found: [KeyHandOver.Peer] = []
  init(sessions: [SessionID]) { missing = Set(sessions) }

  /// Whether there was one.
  @discardableResult
  mutating func add(_ seen: AgentObservation, _ host: HostName) -> Bool {
    let before = found.count
    for session in seen.sessions where missing.remove(session.session) != nil {
      found.append(KeyHandOver.Peer(host: host, configuration: session.configuration))
    }
    return found.count > before
  }
}
