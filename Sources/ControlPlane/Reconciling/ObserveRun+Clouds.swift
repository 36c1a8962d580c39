import BlockModel
import Diagnostics
import MigrationModel
import Planning

// MARK: Clouds

extension ObserveRun {
  func observeClouds(_ migrations: [Migration], _ known: KnownDisks?) async -> [String: CloudObservation] {
    var wanted: [String: [Migration]] = [:]
    for migration in migrations where !migration.diskVolumes.isEmpty {
      guard let integration = migration.integration(in: plan) else { continue }
      wanted[integration.name, default: []].append(migration)
    }
    return await withTaskGroup(of: (String, CloudObservation).self) { group in
      for (name, users) in wanted {
        group.addTask { (name, await observeCloud(name, users, known)) }
      }
      var found: [String: CloudObservation] = [:]
      for await (name, cloud) in group { found[name] = cloud }
      return found
    }
  }

  private func observeCloud(_ name: String, _ migrations: [Migration], _ known: KnownDisks?) async -> CloudObservation {
    var cloud = CloudObservation()
    guard let gateway = gateways.clouds[name] else {
      cloud.faults.append(
        ObservationFault(
          part: "integration \(name)", code: ApplyCode.notInPlan, message: "no way to it was set up",
          advice: "check the integration's credential"))
      return cloud
    }
    do throws(GatewayError) {
      cloud.disks = try await disks(of: migrations, gateway, known).sorted { $0.name < $1.name }
    } catch {
      cloud.faults.append(ObservationFault("disks", error))
    }
    cloud.answers = CloudObservation.Answers()
    await observeMachines(&cloud, migrations, gateway)
    let makesDisks = await observeNamedDisks(&cloud, migrations, gateway)
    if makesDisks {
      do throws(GatewayError) {
        cloud.limits = try await gateway.limits()
      } catch {
        cloud.limitsFault = ObservationFault("what new disks may be", error)
      }
    }
    return cloud
  }

  /// All of the plan; or, of what this run knows, those of these migrations as they are now. Where one of them is gone or
  /// somebody else's by now, the world isn't what the run knows, and all are looked through.
  private func disks(
    of migrations: [Migration], _ gateway: any CloudGateway, _ known: KnownDisks?
  ) async throws(GatewayError) -> [CloudDisk] {
    guard let known else { return try await gateway.disks(of: plan.metadata.id) }
    var found: [CloudDisk] = []
    for migration in migrations {
      for volume in migration.diskVolumes {
        let key = VolumeKey(migration.name, volume.name)
        guard let id = await known.resourceID(of: key) else { continue }
        guard let disk = try await gateway.disk(id), disk.volume(in: plan) == key else {
          return try await gateway.disks(of: plan.metadata.id)
        }
        found.append(disk)
      }
    }
    return found
  }

  private func observeMachines(
    _ cloud: inout CloudObservation, _ migrations: [Migration], _ gateway: any CloudGateway
  ) async {
    var users: [String: [MigrationName]] = [:]
    for migration in migrations {
      guard let reference = plan.hosts[migration.destination]?.azureVirtualMachine else { continue }
      users[reference, default: []].append(migration.name)
    }
    let wanted = users.keys.sorted()
    for (reference, reading) in await readings(of: wanted, { await Self.machine($0, gateway) }) {
      switch reading {
      case .success(let reading):
        cloud.machines[reference] = reading.value
        cloud.answers?.machines[reference] = reading.answer
      case .failure(let error):
        cloud.faults.append(ObservationFault("virtual machine \(reference)", error, of: users[reference]))
      }
    }
  }

  private struct NamedDisk: Sendable {
    var id: String
    var key: VolumeKey
  }

  /// Only what the tags didn't find: named disks, and names that somebody else may have taken. Answers whether there is
  /// one to make.
  private func observeNamedDisks(
    _ cloud: inout CloudObservation, _ migrations: [Migration], _ gateway: any CloudGateway
  ) async -> Bool {
    var known: Set<VolumeKey> = []
    for disk in cloud.disks {
      if let key = disk.volume(in: plan) { known.insert(key) }
    }
    let listed = Set(cloud.disks.map { $0.resourceID.lowercased() })
    var wanted: [NamedDisk] = []
    for migration in migrations {
      for volume in migration.diskVolumes {
        let key = VolumeKey(migration.name, volume.name)
        guard let id = expectedDiskID(for: volume, in: migration, of: plan),
          !known.contains(key) || volume.namesAnother(id, than: listed)
        else { continue }
        wanted.append(NamedDisk(id: id, key: key))
      }
    }
    var makesDisks = false
    for (named, reading) in await readings(of: wanted, { await Self.disk($0.id, gateway) }) {
      switch reading {
      case .success(let reading):
        cloud.namedDisks[named.id] = reading.value
        cloud.answers?.disks[named.id] = reading.answer
      case .failure(let error):
        cloud.faults.append(
          ObservationFault("disk of \(named.key)", error, of: [named.key.migration], named.key.volume))
      }
      if cloud.namedDisks[named.id]?.isOrphaned ?? true { makesDisks = true }
    }
    return makesDisks
  }

  /// Several at once, in the order of what was asked for.
  private func readings<Item: Sendable, Value: Sendable>(
    of items: [Item], _ read: @escaping @Sendable (Item) async -> Result<Value, GatewayError>
  ) async -> [(Item, Result<Value, GatewayError>)] {
    var found: [Int: Result<Value, GatewayError>] = [:]
    await fanOut(Array(items.indices), parallelism: limits.cloudParallelism) {
      await read(items[$0])
    } report: {
      found[$0] = $1
    }
    return items.indices.compactMap { index in found[index].map { (items[index], $0) } }
  }

  private static func machine(
    _ reference: String, _ gateway: any CloudGateway
  ) async -> Result<CloudReading<CloudMachine>, GatewayError> {
    do throws(GatewayError) {
      return .success(try await gateway.machineReading(reference))
    } catch {
      return .failure(error)
    }
  }

  private static func disk(
    _ id: String, _ gateway: any CloudGateway
  ) async -> Result<CloudReading<CloudDisk>, GatewayError> {
    do throws(GatewayError) {
      return .success(try await gateway.diskReading(id))
    } catch {
      return .failure(error)
    }
  }
}

extension ObservationFault {
  /// `migrations`: those whom alone it concerns.
  init(
    _ part: String, _ error: GatewayError, of migrations: [MigrationName]? = nil, _ volume: VolumeName? = nil
  ) {
    self.init(
      part: part, code: error.code, message: error.message, advice: error.advice, migrations: migrations,
      volume: volume, field: error.field)
  }
}

extension Volume {
  /// Whether the plan takes an existing disk for it, and none of `disks` (ids in small letters) is that one.
  fileprivate func namesAnother(_ id: String, than disks: Set<String>) -> Bool {
    guard case .disk(let wanted) = destination, wanted.existingID != nil else { return false }
    return !disks.contains(id.lowercased())
  }
}
