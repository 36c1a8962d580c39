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
  /// groups, and those of the waves before theirs.
  package func observe(
    only: Set<MigrationName>? = nil, includingFinished: Bool = false
  ) async -> Observation {
    let pool = AgentPool(plan: plan, hosts: gateways.hosts, time: services.time)
    let observation = await observe(
      with: pool, only: plan.withRelatives(only), includingFinished: includingFinished)
    await pool.closeAll()
    return observation
  }

  func observe(
    with pool: AgentPool, only: Set<MigrationName>? = nil, includingFinished: Bool = false
  ) async -> Observation {
    let migrations = plan.sortedMigrations.filter { only?.contains($0.name) ?? true }
    var observation = Observation(
      plan: plan.metadata.id, observedAt: services.time.wallNow(), shippedAgentDigest: nil, clouds: [:], hosts: [:])
    // No digest to compare with is no fault: an agent that runs is then taken as it is.
    do throws(GatewayError) {
      observation.shippedAgentDigest = try await gateways.hosts.shippedAgentDigest()
    } catch {
      observation.shippedAgentDigest = nil
    }
    observation.clouds = await observeClouds(migrations)
    let unfinished = migrations.filter { migration in
      guard !includingFinished, let phase = MigrationFacts(migration, in: plan, observation).taggedPhase else {
        return true
      }
      return phase < max(migration.cutover.phase.value, .finalized)
    }
    observation.hosts = await observeHosts(unfinished, observation.clouds, pool)
    return observation
  }

  // MARK: Clouds

  private func observeClouds(_ migrations: [Migration]) async -> [String: CloudObservation] {
    var wanted: [String: [Migration]] = [:]
    for migration in migrations where !migration.diskVolumes.isEmpty {
      guard let integration = migration.integration(in: plan) else { continue }
      wanted[integration.name, default: []].append(migration)
    }
    return await withTaskGroup(of: (String, CloudObservation).self) { group in
      for (name, users) in wanted {
        group.addTask { (name, await observeCloud(name, users)) }
      }
      var found: [String: CloudObservation] = [:]
      for await (name, cloud) in group { found[name] = cloud }
      return found
    }
  }

  private func observeCloud(_ name: String, _ migrations: [Migration]) async -> CloudObservation {
    var cloud = CloudObservation()
    guard let gateway = gateways.clouds[name] else {
      cloud.faults.append(
        ObservationFault(
          part: "integration \(name)", code: ApplyCode.notInPlan, message: "no way to it was set up",
          advice: "check the integration's credential"))
      return cloud
    }
    do throws(GatewayError) {
      cloud.disks = try await gateway.disks(of: plan.metadata.id).sorted { $0.name < $1.name }
    } catch {
      cloud.faults.append(fault("disks", error))
    }
    var answers = CloudObservation.Answers()
    var users: [String: [MigrationName]] = [:]
    for migration in migrations {
      guard let reference = plan.hosts[migration.destination]?.azureVirtualMachine else { continue }
      users[reference, default: []].append(migration.name)
    }
    for (reference, users) in users.sorted(by: { $0.key < $1.key }) {
      do throws(GatewayError) {
        let reading = try await gateway.machineReading(reference)
        cloud.machines[reference] = reading.value
        answers.machines[reference] = reading.answer
      } catch {
        cloud.faults.append(fault("virtual machine \(reference)", error, of: users))
      }
    }
    // Only what the tags didn't find: named disks, and names that somebody else may have taken.
    var known: Set<VolumeKey> = []
    for disk in cloud.disks {
      if let key = disk.volume(in: plan) { known.insert(key) }
    }
    var makesDisks = false
    for migration in migrations {
      for volume in migration.diskVolumes {
        guard let id = expectedDiskID(for: volume, in: migration, of: plan),
          !known.contains(VolumeKey(migration.name, volume.name)) || volume.namesAnother(id, than: cloud.disks)
        else { continue }
        do throws(GatewayError) {
          let reading = try await gateway.diskReading(id)
          cloud.namedDisks[id] = reading.value
          answers.disks[id] = reading.answer
        } catch {
          cloud.faults.append(
            fault("disk of \(migration.name)/\(volume.name)", error, of: [migration.name], volume.name))
        }
        if cloud.namedDisks[id]?.isOrphaned ?? true { makesDisks = true }
      }
    }
    cloud.answers = answers
    if makesDisks {
      do throws(GatewayError) {
        cloud.limits = try await gateway.limits()
      } catch {
        cloud.limitsFault = fault("what new disks may be", error)
      }
    }
    return cloud
  }

  /// `migrations`: those whom alone it concerns.
  private func fault(
    _ part: String, _ error: GatewayError, of migrations: [MigrationName]? = nil, _ volume: VolumeName? = nil
  ) -> ObservationFault {
    ObservationFault(
      part: part, code: error.code, message: error.message, advice: error.advice, migrations: migrations,
      volume: volume, field: error.field)
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
    for migration in migrations {
      let facts = MigrationFacts(migration, in: plan, seen)
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
    _ migrations: [Migration], _ clouds: [String: CloudObservation], _ pool: AgentPool
  ) async -> [HostName: HostObservation] {
    let wanted = questions(migrations, clouds).sorted { $0.key < $1.key }
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
      seen.faults.append(fault("host", error))
      return seen
    }
    guard seen.state?.agentRunning == true else { return seen }
    do throws(GatewayError) {
      let agent = try await pool.observation(of: name)
      seen.state = seen.state.map { SessionNames(plan).named($0, beside: agent) }
      seen.agent = agent
    } catch {
      seen.faults.append(fault("agent", error))
      return seen
    }
    for lun in questions.luns.sorted() {
      do throws(GatewayError) {
        seen.devicePaths[lun] = try await gateways.hosts.devicePath(ofLUN: lun, on: host)
      } catch {
        seen.faults.append(fault("device of LUN \(lun)", error))
      }
    }
    for wanted in questions.names.sorted() {
      do throws(GatewayError) {
        seen.resolved[wanted] = try await gateways.hosts.resolve(wanted, on: host)
      } catch {
        seen.faults.append(fault("address of \(wanted)", error))
      }
    }
    let paths = questions.devices.union(seen.devicePaths.values).sorted()
    guard !paths.isEmpty else { return seen }
    do throws(GatewayError) {
      seen.devices = try await pool.call(InspectDevicesCall(paths: paths), on: name)
    } catch {
      seen.faults.append(fault("devices", error))
    }
    return seen
  }
}

extension Volume {
  /// Whether the plan takes an existing disk for it, and none of `disks` is that one.
  fileprivate func namesAnother(_ id: String, than disks: [CloudDisk]) -> Bool {
    guard case .disk(let wanted) = destination, wanted.existingID != nil else { return false }
    return !disks.contains { $0.resourceID.lowercased() == id.lowercased() }
  }
}
