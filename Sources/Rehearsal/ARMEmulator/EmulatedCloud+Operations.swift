/// How long operations take at time scale 1, in seconds (FACTS: attach about 6 s, detach about 9 s).
enum Durations {
  static let disk = 1.0
  static let attach = 6.0
  static let detach = 9.0
  /// What `Retry-After` asks for.
  static let diskPoll = 2.0
  static let machinePoll = 4.0
}

extension EmulatedCloud {
  /// Enters an operation that ends after `seconds` of the emulated service's time.
  mutating func begin(
    _ work: StoredOperation.Work, location: String, seconds: Double, _ request: EmulatorRequest, now: Double
  ) -> StoredOperation {
    state.operations = state.operations.filter {
      $0.value.state == .inProgress || now - $0.value.endsAt < Self.operationMemorySeconds
    }
    var operation = StoredOperation(
      id: makeUUID(), work: work, location: location, startedAt: now, endsAt: now + scaled(seconds), state: .inProgress)
    if case .operation(let failure, let keeps)? = faults.take(
      request, where: { if case .operation = $0 { true } else { false } })
    {
      operation.fated = failure
      operation.fatedKeeps = keeps
    }
    state.operations[operation.id] = operation
    return operation
  }

  /// 202 with both headers, as disks have it.
  func accepted(
    _ operation: StoredOperation, _ request: EmulatorRequest, folder: String, _ body: JSONValue?
  ) -> EmulatorResponse {
    EmulatorResponse(202, body, headers: retryAfter(scaled(Durations.diskPoll)))
      .with("Azure-AsyncOperation", operationURL(operation, request, folder: folder, isMonitor: false))
      .with("Location", operationURL(operation, request, folder: folder, isMonitor: true))
  }

  /// Signed and long, as the service's are: clients must take them as they come.
  func operationURL(
    _ operation: StoredOperation, _ request: EmulatorRequest, folder: String, isMonitor: Bool
  ) -> String {
    let signature = String(repeating: operation.id.filter { $0 != "-" }, count: 100)
    return "\(request.baseURL)/subscriptions/\(configuration.subscription)/providers/Microsoft.Compute/locations/"
      + "\(operation.location)/\(folder)/\(operation.id)?p=\(configuration.tenant)"
      + (isMonitor ? "&monitor=true" : "")
      + "&api-version=\(request.query["api-version"] ?? "")&t=\(Int(operation.startedAt * 1000))&c=\(signature)"
  }

  mutating func operationStatus(
    _ request: EmulatorRequest, id: String, isDisk: Bool, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    guard let operation = state.operations[id.lowercased()] else {
      throw Refusal(404, "NotFound", "The operation '\(id)' was not found.")
    }
    let rules: [Throttle.Rule]
    if let machine = operation.machine {
      rules = Throttle.Rule.machineOperation(machine)
    } else {
      rules = Throttle.Rule.diskOperation
    }
    let header = try takeCompute(rules, now: now)
    let wait = retryAfter(scaled(isDisk ? Durations.diskPoll : Durations.machinePoll))
    if request.query["monitor"] == "true" {
      switch operation.state {
      case .inProgress:
        return EmulatorResponse(202, nil, headers: [header] + wait)
          .with("Location", request.baseURL + request.rawPath)
      case .succeeded:
        let output = output(operation)
        return EmulatorResponse(output == nil ? 204 : 200, output, headers: [header])
      case .failed, .canceled:
        let failure = operation.failure
        var refusal = Refusal(409, failure?.code ?? "InternalError", failure?.message ?? "The operation failed.")
        refusal.headers = [header]
        throw refusal
      }
    }
    var body = JSONObject([("startTime", .string(Self.timestamp(operation.startedAt)))])
    if operation.state != .inProgress { body["endTime"] = .string(Self.timestamp(operation.endsAt)) }
    body["status"] = .string(operation.state.rawValue)
    if operation.state == .succeeded, let output = output(operation) { body["properties"] = ["output": output] }
    if let failure = operation.failure {
      body["error"] = ["code": .string(failure.code), "message": .string(failure.message)]
    }
    body["name"] = .string(operation.id)
    return EmulatorResponse(
      200, .object(body), headers: operation.state == .inProgress ? [header] + wait : [header])
  }

  /// The whole disk, where the operation made or changed one. Machines' operations have none.
  private func output(_ operation: StoredOperation) -> JSONValue? {
    guard case .makeDisk(let key) = operation.work else { return nil }
    return state.disks[key].map { diskBody($0) }
  }

  // MARK: Ending

  /// Operations whose time has come, oldest first, with what each does to the outside.
  func due(now: Double) -> [(id: String, endsAt: Double, effects: [DeviceEffect])] {
    state.operations.values.filter { $0.state == .inProgress && $0.endsAt <= now }
      .sorted { ($0.endsAt, $0.id) < ($1.endsAt, $1.id) }
      .map { ($0.id, $0.endsAt, effects(of: $0)) }
  }

  /// When the next operation ends.
  var nextEnd: Double? { state.operations.values.filter { $0.state == .inProgress }.map(\.endsAt).min() }

  private func effects(of operation: StoredOperation) -> [DeviceEffect] {
    switch operation.work {
    case .makeDisk(let key):
      return operation.fated == nil ? state.disks[key].map { contentEffects($0) + growing($0, key) } ?? [] : []
    case .deleteDisk(let key):
      guard operation.fated == nil else { return [] }
      return state.disks[key].map { [.removeContent(file: $0.contentFile)] } ?? []
    case .changeMachine(let name, let attach, let detach):
      guard let machine = state.machines[name] else { return [] }
      let kept = operation.fated == nil ? attach : Array(attach.prefix(operation.fatedKeeps))
      let gone = machine.dataDisks.filter { operation.fated == nil && detach.contains($0.disk) && $0.toBeDetached }
      let new = machine.dataDisks.filter { kept.contains($0.disk) }
      return gone.flatMap { Self.leaving(machine, $0.lun) }
        + new.flatMap { data -> [DeviceEffect] in
          guard let disk = state.disks[data.disk] else { return [] }
          return (disk.isMade ? [] : contentEffects(disk)) + arriving(machine, data.lun, disk)
        }
    case .deleteMachine(let name):
      guard operation.fated == nil, let machine = state.machines[name] else { return [] }
      return machine.dataDisks.flatMap { data -> [DeviceEffect] in
        let removed = data.deleteOption == "Delete" ? state.disks[data.disk] : nil
        return Self.leaving(machine, data.lun) + (removed.map { [.removeContent(file: $0.contentFile)] } ?? [])
      }
    case .power: return []
    }
  }

  private func contentEffects(_ disk: StoredDisk) -> [DeviceEffect] {
    var effects: [DeviceEffect] = []
    if !disk.isMade, disk.createOption == "Copy",
      let source = disk.creationData["sourceResourceId"]?.text, let key = try? diskKey(id: source),
      let copied = state.disks[key], copied.isMade
    {
      effects.append(.copyContent(from: copied.contentFile, to: disk.contentFile))
    }
    return effects + [.makeContent(file: disk.contentFile, sizeBytes: UInt64(disk.sizeGiB) << 30)]
  }

  /// The machine that has the disk sees its new size.
  private func growing(_ disk: StoredDisk, _ key: String) -> [DeviceEffect] {
    guard let machine = disk.machine.flatMap({ state.machines[$0] }),
      let lun = machine.dataDisks.first(where: { $0.disk == key })?.lun
    else { return [] }
    var effects: [DeviceEffect] = []
    if let root = machine.root { effects.append(.growLink(root: root, lun: lun)) }
    if let socket = machine.monitorSocket {
      effects.append(.growPlugged(socket: socket, lun: lun, sizeBytes: UInt64(disk.sizeGiB) << 30))
    }
    return effects
  }

  private func arriving(_ machine: StoredMachine, _ lun: Int, _ disk: StoredDisk) -> [DeviceEffect] {
    var effects: [DeviceEffect] = []
    if let root = machine.root {
      effects.append(.link(root: root, lun: lun, file: disk.contentFile, device: machine.device))
    }
    if let socket = machine.monitorSocket { effects.append(.plug(socket: socket, lun: lun, file: disk.contentFile)) }
    return effects
  }

  private static func leaving(_ machine: StoredMachine, _ lun: Int) -> [DeviceEffect] {
    var effects: [DeviceEffect] = []
    if let socket = machine.monitorSocket { effects.append(.unplug(socket: socket, lun: lun)) }
    if let root = machine.root { effects.append(.unlink(root: root, lun: lun)) }
    return effects
  }

  /// Devices of all that is attached, to mend what happened to them since.
  var links: [DeviceEffect] {
    let busy = Set(state.operations.values.filter { $0.state == .inProgress }.compactMap(\.machine))
    return state.machines.sorted { $0.key < $1.key }.flatMap { key, machine -> [DeviceEffect] in
      guard !busy.contains(key) else { return [] }
      return machine.dataDisks.flatMap { data in
        state.disks[data.disk].map { arriving(machine, data.lun, $0) } ?? []
      }
    }
  }

  /// Notes that an operation ended; `failure` where its effects could not be made. `heldLUNs`: those that the machine's
  /// guest didn't let go of, while it did of the others that should go.
  mutating func end(_ id: String, failure: StoredOperation.Failure?, heldLUNs: Set<Int> = []) {
    guard var operation = state.operations[id], operation.state == .inProgress else { return }
    let keeps = failure == nil ? operation.fatedKeeps : 0
    let failure = operation.fated ?? failure
    operation.failure = failure
    operation.state = failure == nil ? .succeeded : .failed
    state.operations[id] = operation
    switch operation.work {
    case .makeDisk(let key):
      state.disks[key]?.provisioning = failure == nil ? .succeeded : .failed
      if failure == nil { state.disks[key]?.isMade = true }
    case .deleteDisk(let key):
      if failure == nil { state.disks[key] = nil } else { state.disks[key]?.provisioning = .succeeded }
    case .changeMachine(let name, let attach, let detach):
      let kept = failure == nil ? attach : Array(attach.prefix(keeps))
      let held = Set(state.machines[name]?.dataDisks.filter { heldLUNs.contains($0.lun) }.map(\.disk) ?? [])
      let detached = operation.failure == nil || !held.isEmpty ? detach.filter { !held.contains($0) } : []
      endChange(name, MachineOutcome(attached: kept, detached: detached, held: held), of: attach, operation)
    case .deleteMachine(let name): endDeletion(name, hasFailed: failure != nil)
    case .power(let name, let isRunning):
      state.machines[name]?.isUpdating = false
      if failure == nil { state.machines[name]?.isRunning = isRunning }
    }
  }

  /// What became of the disks of a machine's change.
  private struct MachineOutcome {
    var attached: [String]
    var detached: [String]
    /// What the guest didn't let go of stays, to be detached still, as the service shows it after a detach that failed.
    var held: Set<String>
  }

  private mutating func endChange(
    _ name: String, _ outcome: MachineOutcome, of wanted: [String], _ operation: StoredOperation
  ) {
    guard var machine = state.machines[name] else { return }
    let hasFailed = operation.failure != nil
    let removed = wanted.filter { !outcome.attached.contains($0) } + outcome.detached
    machine.dataDisks.removeAll { removed.contains($0.disk) }
    if hasFailed {
      for index in machine.dataDisks.indices where !outcome.held.contains(machine.dataDisks[index].disk) {
        machine.dataDisks[index].toBeDetached = false
        machine.dataDisks[index].detachOption = nil
      }
    }
    machine.isUpdating = false
    machine.hasFailed = hasFailed && machine.isNew
    machine.isNew = false
    state.machines[name] = machine
    for key in removed {
      state.disks[key]?.machine = nil
      // A disk that was to come with the change and didn't is none.
      if state.disks[key]?.isMade == false { state.disks[key] = nil }
    }
    for key in outcome.attached {
      state.disks[key]?.isMade = true
      state.disks[key]?.provisioning = .succeeded
    }
    for key in outcome.attached + outcome.detached {
      state.disks[key]?.ownershipSince = Self.timestamp(operation.endsAt)
    }
  }

  private mutating func endDeletion(_ name: String, hasFailed: Bool) {
    guard let machine = state.machines[name] else { return }
    guard !hasFailed else {
      state.machines[name]?.isUpdating = false
      return
    }
    for data in machine.dataDisks {
      state.disks[data.disk]?.machine = nil
      if data.deleteOption == "Delete" { state.disks[data.disk] = nil }
    }
    state.machines[name] = nil
  }
}
