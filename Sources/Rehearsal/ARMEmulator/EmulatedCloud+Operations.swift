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
    _ work: StoredOperation.Work, seconds: Double, _ request: EmulatorRequest, now: Double
  ) -> StoredOperation {
    state.operations = state.operations.filter {
      $0.value.state == .inProgress || now - $0.value.endsAt < Self.operationMemorySeconds
    }
    var fated: StoredOperation.Failure?
    if case .operation(let failure)? = faults.take(
      request, where: { if case .operation = $0 { true } else { false } })
    {
      fated = failure
    }
    let operation = StoredOperation(
      id: makeUUID(), work: work, startedAt: now, endsAt: now + scaled(seconds), state: .inProgress, fated: fated)
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
      + "\(configuration.location)/\(folder)/\(operation.id)?p=\(configuration.tenant)"
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
    if case .attachDetach(let machine, _, _) = operation.work {
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
  func due(now: Double) -> [(id: String, effects: [DeviceEffect])] {
    state.operations.values.filter { $0.state == .inProgress && $0.endsAt <= now }
      .sorted { ($0.endsAt, $0.id) < ($1.endsAt, $1.id) }
      .map { ($0.id, $0.fated == nil ? effects(of: $0.work) : []) }
  }

  /// When the next operation ends.
  var nextEnd: Double? { state.operations.values.filter { $0.state == .inProgress }.map(\.endsAt).min() }

  private func effects(of work: StoredOperation.Work) -> [DeviceEffect] {
    switch work {
    case .makeDisk(let key):
      guard let disk = state.disks[key] else { return [] }
      return [.makeContent(file: disk.contentFile, sizeBytes: UInt64(disk.sizeGiB) << 30)]
    case .deleteDisk(let key): return state.disks[key].map { [.removeContent(file: $0.contentFile)] } ?? []
    case .attachDetach(let name, let attach, let detach):
      guard let machine = state.machines[name], let root = machine.root else { return [] }
      let gone: [DeviceEffect] = machine.dataDisks.filter { detach.contains($0.disk) && $0.toBeDetached }
        .map { .unlink(root: root, lun: $0.lun) }
      let new: [DeviceEffect] = machine.dataDisks.filter { attach.contains($0.disk) }.compactMap { data in
        state.disks[data.disk].map { .link(root: root, lun: data.lun, file: $0.contentFile) }
      }
      return gone + new
    }
  }

  /// Links of all that is attached, to mend what happened to a root since.
  var links: [DeviceEffect] {
    let busy = Set(
      state.operations.values.compactMap { operation -> String? in
        guard operation.state == .inProgress, case .attachDetach(let machine, _, _) = operation.work else { return nil }
        return machine
      })
    return state.machines.sorted { $0.key < $1.key }.flatMap { key, machine -> [DeviceEffect] in
      guard let root = machine.root, !busy.contains(key) else { return [] }
      return machine.dataDisks.compactMap { data in
        state.disks[data.disk].map { .link(root: root, lun: data.lun, file: $0.contentFile) }
      }
    }
  }

  /// Notes that an operation ended; `failure` where its effects could not be made.
  mutating func end(_ id: String, failure: StoredOperation.Failure?) {
    guard var operation = state.operations[id], operation.state == .inProgress else { return }
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
    case .attachDetach(let name, let attach, let detach):
      endAttachment(name, attach: attach, detach: detach, failed: failure != nil, at: operation.endsAt)
    }
  }

  private mutating func endAttachment(
    _ name: String, attach: [String], detach: [String], failed: Bool, at time: Double
  ) {
    guard var machine = state.machines[name] else { return }
    let removed = failed ? attach : detach
    machine.dataDisks.removeAll { removed.contains($0.disk) }
    if failed {
      for index in machine.dataDisks.indices {
        machine.dataDisks[index].toBeDetached = false
        machine.dataDisks[index].detachOption = nil
      }
    }
    machine.isUpdating = false
    state.machines[name] = machine
    for key in removed { state.disks[key]?.machine = nil }
    let changed = failed ? [] : attach + detach
    for key in changed { state.disks[key]?.ownershipSince = Self.timestamp(time) }
  }
}
