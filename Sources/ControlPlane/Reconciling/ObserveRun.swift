import AgentProtocol
package import BlockModel
package import MigrationModel
package import Planning
import Diagnostics
import Seams

/// Takes an observation through the gateways: everything at once, each part with its own failure.
package struct ObserveRun: Sendable {
  let plan: MigrationPlan
  let gateways: Gateways
  let services: RunServices
  let limits: ReconcileLimits

  package init(
    plan: MigrationPlan, gateways: Gateways, services: RunServices, limits: ReconcileLimits = ReconcileLimits()
  ) {
    self.plan = plan
    self.gateways = gateways
    self.services = services
    self.limits = limits
  }

  /// Never throws: what could not be seen is a fault in the observation. Hosts that only finished migrations use are
  /// left alone, unless `includingFinished`; `only`: nothing but what these migrations need, those of their
  /// groups, and those of the waves before theirs. `includingUnused`: also hosts that no migration names, where those
  /// that left the document may still have something.
  package func observe(
    only: Set<MigrationName>? = nil, includingFinished: Bool = false, includingUnused: Bool = false
  ) async -> Observation {
    let pool = AgentPool(plan: plan, hosts: gateways.hosts, time: services.time)
    let observation = await observe(
      with: pool, only: plan.withRelatives(only), includingFinished: includingFinished,
      includingUnused: includingUnused)
    await pool.closeAll()
    return observation
  }

  /// `known`: what this run knows of disks. Then only those of `only` are asked for, each by its id: a list of all of a
  /// large plan takes hundreds of pages.
  func observe(
    with pool: AgentPool, only: Set<MigrationName>? = nil, includingFinished: Bool = false,
    includingUnused: Bool = false, known: KnownDisks? = nil
  ) async -> Observation {
    let migrations = only.map { $0.sorted().compactMap { plan.migrations[$0] } } ?? plan.sortedMigrations
    var observation = Observation(
      plan: plan.metadata.id, observedAt: services.time.wallNow(), shippedAgentDigest: nil, clouds: [:], hosts: [:])
    // No digest to compare with is no fault: an agent that runs is then taken as it is.
    do throws(GatewayError) {
      observation.shippedAgentDigest = try await gateways.hosts.shippedAgentDigest()
    } catch {
      observation.shippedAgentDigest = nil
    }
    observation.clouds = await observeClouds(migrations, known)
    let own = OwnDisks(plan, observation)
    let unfinished = migrations.filter { migration in
      guard !includingFinished, let phase = MigrationFacts(migration, in: plan, observation, own).taggedPhase else {
        return true
      }
      return phase < max(migration.cutover.phase.value, .finalized)
    }
    var wanted = questions(unfinished, observation.clouds)
    if includingUnused {
      let used = Set(plan.migrations.values.flatMap { [$0.source, $0.destination] })
      for host in plan.hosts.keys where !used.contains(host) { wanted[host] = HostQuestions() }
    }
    observation.hosts = await observeHosts(wanted, pool)
    return observation
  }

  // MARK: Hosts

  /// What is asked of one host, gathered from all migrations that use it.
  private struct HostQuestions: Sendable {
    var devices: Set<String> = []
    var names: Set<String> = []
    var luns: Set<Int> = []
  }

  private func questions(
    _ migrations: [Migration], _ clouds: [String: CloudObservation]
  ) -> [HostName: HostQuestions] {
    var all: [HostName: HostQuestions] = [:]
    let seen = Observation(
      plan: plan.metadata.id, observedAt: WallTime(secondsSince1970: 0), shippedAgentDigest: nil, clouds: clouds,
      hosts: [:])
    let own = OwnDisks(plan, seen)
    for migration in migrations {
      let facts = MigrationFacts(migration, in: plan, seen, own)
      all[migration.source, default: HostQuestions()].devices.formUnion(migration.volumes.map(\.device))
      var destination = all[migration.destination] ?? HostQuestions()
      for volume in migration.volumes {
        switch volume.destination {
        case .device(let path): destination.devices.insert(path)
        case .disk:
          if let lun = facts.disks[volume.name].flatMap(facts.lun(of:)) { destination.luns.insert(lun) }
        }
      }
      all[migration.destination] = destination
      if let name = listenerName(of: migration, in: plan), !isNumericAddress(name) {
        let opener = migration.connection.listener == .source ? migration.destination : migration.source
        all[opener, default: HostQuestions()].names.insert(name)
      }
    }
    return all
  }

  private func observeHosts(
    _ questions: [HostName: HostQuestions], _ pool: AgentPool
  ) async -> [HostName: HostObservation] {
    let wanted = questions.sorted { $0.key < $1.key }
    return await withTaskGroup(of: (HostName, HostObservation).self) { group in
      var found: [HostName: HostObservation] = [:]
      var next = 0
      func start() {
        guard next < wanted.count else { return }
        let (name, questions) = wanted[next]
        next += 1
        group.addTask { (name, await observeHost(name, questions, pool)) }
      }
      for _ in 0..<limits.observeParallelism { start() }
      for await (name, host) in group {
        found[name] = host
        start()
      }
      return found
    }
  }

  private func observeHost(
    _ name: HostName, _ questions: HostQuestions, _ pool: AgentPool
  ) async -> HostObservation {
    var seen = HostObservation()
    guard let host = plan.hosts[name] else {
      seen.faults.append(
        ObservationFault(part: "host", code: ApplyCode.notInPlan, message: "the plan has no host \(name)", advice: ""))
      return seen
    }
    do throws(GatewayError) {
      seen.state = SessionNames(plan).named(try await gateways.hosts.state(of: host), beside: nil)
    } catch {
      seen.faults.append(ObservationFault("host", error))
      return seen
    }
    guard seen.state?.agentRunning == true else { return seen }
    do throws(GatewayError) {
      let agent = try await pool.observation(of: name)
      seen.state = seen.state.map { SessionNames(plan).named($0, beside: agent) }
      seen.agent = agent
    } catch {
      seen.faults.append(ObservationFault("agent", error))
      return seen
    }
    for lun in questions.luns.sorted() {
      do throws(GatewayError) {
        seen.devicePaths[lun] = try await gateways.hosts.devicePath(ofLUN: lun, on: host)
      } catch {
        seen.faults.append(ObservationFault("device of LUN \(lun)", error))
      }
    }
    for wanted in questions.names.sorted() {
      do throws(GatewayError) {
        seen.resolved[wanted] = try await gateways.hosts.resolve(wanted, on: host)
      } catch {
        seen.faults.append(ObservationFault("address of \(wanted)", error))
      }
    }
    let paths = questions.devices.union(seen.devicePaths.values).sorted()
    guard !paths.isEmpty else { return seen }
    do throws(GatewayError) {
      seen.devices = try await pool.call(InspectDevicesCall(paths: paths), on: name)
    } catch {
      seen.faults.append(ObservationFault("devices", error))
    }
    return seen
  }
}
