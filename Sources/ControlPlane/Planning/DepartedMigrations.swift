package import AgentProtocol
import BlockModel
import Diagnostics
package import MigrationModel

// MARK: What left the document (`--prune`)

extension MigrationPlan {
  /// With the migrations of this plan's id that left the document and that agents still have sessions of, as far as is
  /// needed to end them: no volumes, for their disks stay as they are. Pure.
  package func withDeparted(in observation: Observation) -> MigrationPlan {
    var plan = self
    for (host, half) in observation.halves(of: metadata.id) where migrations[half.migration] == nil {
      // Half a session may be left by a run that died: the host of the other one is known by its agent's key.
      let peer = observation.host(ofPeer: half, on: host) ?? host
      let (source, destination) = half.role == .source ? (host, peer) : (peer, host)
      plan.migrations[half.migration] = Migration(
        name: half.migration, description: nil, source: source, destination: destination, integration: nil,
        connection: Connection(listener: .destination, port: Connection.defaultPort, lanes: 1, address: nil),
        volumes: [], iqos: IQoS(level: .moderate), linkLossTimeoutSeconds: half.configuration.linkLossTimeoutSeconds,
        resyncIntervalSeconds: half.configuration.resyncIntervalSeconds,
        cutover: Cutover(phase: Positioned(.prepared)), position: nil)
      plan.migrations[half.migration]?.hasLeft = true
    }
    return plan
  }
}

extension Observation {
  /// Every half of a session of a plan, in the order of the hosts' names.
  fileprivate func halves(of plan: PlanID) -> [(host: HostName, half: SessionObservation)] {
    hosts.sorted { $0.key < $1.key }.flatMap { host, seen in
      (seen.agent?.sessions ?? []).filter { $0.plan == plan }.map { (host, $0) }
    }
  }

  /// Where the other half is, or was: the host whose agent has that key. Nil where no such agent was seen.
  fileprivate func host(ofPeer half: SessionObservation, on host: HostName) -> HostName? {
    if half.configuration.isWithinAgent { return host }
    let keys = [half.configuration.peerFingerprint, half.configuration.nextPeerFingerprint].compactMap { $0 }
    return hosts.filter { keys.contains($0.value.agent?.hello.fingerprint ?? KeyFingerprint("")) }.keys.min()
  }
}

/// The end of a migration that left the document: both halves of its session go, before a swing only.
func departure(_ facts: MigrationFacts, _ observation: Observation, _ options: PlanningOptions) -> MigrationChanges {
  let name = facts.migration.name
  let halves = [facts.sourceSession, facts.destinationSession].compactMap { $0 }
  var result = MigrationChanges(
    migration: name, reached: facts.reached(digest: options.digest), target: .prepared, configurationDigest: "")
  result.isPruned = true
  result.health = halves.first?.health
  func refuse(_ code: String, _ message: String, _ advice: String) {
    result.diagnostics.append(Diagnostic(code: code, "\(name) left the document: \(message)", advice: advice))
  }
  guard !halves.isEmpty else {
    for (host, fault) in facts.unseenHosts {
      let why = fault.map { ": \($0.message)" } ?? ""
      refuse(PlanningCode.hostNotObserved, "host \(host) could not be observed\(why)", fault?.advice ?? "")
    }
    return result
  }
  if let half = halves.first(where: { !$0.mayBeGivenUp }) {
    refuse(
      PlanningCode.pruneTooLate,
      "its session is \(half.stage.rawValue) on \(facts.migration.host(half.role)), and from a swing on nothing is pruned",
      "put it back; revert it (phase: synchronized), or finalize and retire it; then take it out")
    return result
  }
  for half in halves where observation.host(ofPeer: half, on: facts.migration.host(half.role)) == nil {
    refuse(
      PlanningCode.prunePeerUnseen,
      "no agent that was seen is the peer of its half on \(facts.migration.host(half.role))",
      "put the peer's host back under hosts:, with its agent running; or give this half up by hand: "
        + "cmcplan agent remove \(facts.migration.host(half.role)) --force")
  }
  guard result.diagnostics.isEmpty else { return result }
  if let hold = halves.compactMap(\.hold).first {
    result.waiting.append(
      Waiting(
        reason: .hold(hold), message: "held (\(hold.cause.rawValue)) by \(hold.who): \(hold.why)",
        advice: "put it back into the document, and cmcplan resume \(name) once the reason is gone"))
  }
  result.changes.append(
    Change(
      action: .giveUpSession(name), towards: .prepared,
      summary: "--prune: give the session up, with approvals and what it tracked",
      why: "it left the document; the destination's copy stays incomplete for good, its disks are kept",
      precondition: "no swing is under way, nobody holds it",
      price: Price(note: "putting it back synchronizes all of it anew"), reversibility: .oneWay,
      waitsFor: result.waiting.isEmpty ? nil : 0))
  return result
}

extension SessionObservation {
  /// Whether no I/O of an application lives on the destination, or is about to.
  package var mayBeGivenUp: Bool {
    switch stage {
    case .prepared, .synchronizing, .tracking, .cancelled: role == .destination || authority == .source
    case .swinging, .standIn, .tapClosed, .proving, .proven, .fenced, .released: false
    }
  }
}
