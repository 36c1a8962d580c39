internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

/// What the parts of one migration need to know of it.
struct MigrationContext {
  var name: String
  var source: String?
  var destination: String?
  var integration: String?
  var phase: Phase?
}

extension PlanBuilder {
  func readMigrations(_ node: YAMLNode) -> [MigrationName: Migration] {
    let entries = reading.namedEntries(of: node, what: "migrations", maximum: Self.maximumEntries)
    var result: [MigrationName: Migration] = [:]
    result.reserveCapacity(entries.count)
    for (name, key, value) in entries {
      phases[name] = .some(nil)
      result[MigrationName(name)] = readMigration(value, name: name, position: key.position)
    }
    return result
  }

  private func readMigration(_ node: YAMLNode, name: String, position: SourcePosition) -> Migration? {
    let shape = MigrationShape.the
    guard let object = ObjectReading(node, shape.shape, reading, label: name) else { return nil }
    let description = object.value(shape.description)
    var context = MigrationContext(
      name: name, source: resolveHost(object, shape.source), destination: resolveHost(object, shape.destination))
    context.integration = integration(object)
    let cutoverObject = object.node(shape.cutover).flatMap { ObjectReading($0, CutoverShape.the.shape, reading) }
    context.phase = cutoverObject?.value(CutoverShape.the.phase)
    phases[name] = .some(context.phase)
    let connection = readConnection(object, context)
    let volumes = object.node(shape.volumes).map { readVolumes($0, context, migration: object) } ?? []
    if isVolumeNameNeeded { volumeNames[name] = Set(volumes.map(\.name)) }
    let iqos = readIQoS(object)
    let timeout = object.value(shape.linkLossTimeout, inherited: defaults.linkLossTimeout)
    let interval = readResync(object)
    let cutover = cutoverObject.flatMap { readCutover($0, context, volumes: volumes) }
    guard let source = context.source, let destination = context.destination, let connection, let timeout, let interval,
      let iqos, let cutover
    else { return nil }
    return Migration(
      name: MigrationName(name), description: description, source: HostName(source),
      destination: HostName(destination), integration: context.integration, connection: connection,
      volumes: volumes.compactMap(\.volume), iqos: iqos, linkLossTimeoutSeconds: timeout,
      resyncIntervalSeconds: interval, cutover: cutover, position: position)
  }

  private func integration(_ object: ObjectReading) -> String? {
    if object.has(MigrationShape.the.integration) { return resolveIntegration(object, MigrationShape.the.integration) }
    return defaults.integration ?? (integrationNames.count == 1 ? integrationNames.first : nil)
  }

  private func readResync(_ object: ObjectReading) -> Double? {
    let shape = MigrationShape.the
    guard let node = object.node(shape.resync) else {
      return defaults.resyncInterval ?? shape.resyncInterval.defaultValue
    }
    return ObjectReading(node, shape.resyncShape, reading)?.value(
      shape.resyncInterval, inherited: defaults.resyncInterval)
  }

  private func readIQoS(_ object: ObjectReading) -> IQoS? {
    let shape = IQoSShape.the
    let written = object.node(MigrationShape.the.iqos).map { readLevel($0) } ?? Defaults.Level()
    guard let level = written.level ?? defaults.iqos.level ?? shape.level.defaultValue else { return nil }
    return IQoS(
      level: level, schedule: written.schedule ?? defaults.iqos.schedule ?? [],
      networkLimitBytesPerSecond: written.networkLimit ?? defaults.iqos.networkLimit,
      latencyBound: written.latencyBound ?? defaults.iqos.latencyBound)
  }

  private func readConnection(_ object: ObjectReading, _ context: MigrationContext) -> Connection? {
    let shape = ConnectionShape.the
    var (listener, port, lanes) = (defaults.listener, defaults.port, defaults.lanes)
    var address: String?
    var position = object.node.position
    if let node = object.node(MigrationShape.the.connection) {
      guard let connection = ObjectReading(node, shape.shape, reading) else { return nil }
      listener = connection.value(shape.listener, inherited: listener)
      port = connection.value(shape.port, inherited: port)
      lanes = connection.value(shape.lanes, inherited: lanes)
      address = connection.value(shape.address)
      position = connection.position(shape.port)
    } else {
      listener = listener ?? shape.listener.defaultValue
      port = port ?? shape.port.defaultValue
      lanes = lanes ?? shape.lanes.defaultValue
    }
    guard let listener, let port, let lanes else { return nil }
    checkListener(listener, port: port, hasAddress: address != nil, context, at: position)
    return Connection(listener: listener, port: port, lanes: lanes, address: address)
  }

  private func checkListener(
    _ listener: Role, port: Int, hasAddress: Bool, _ context: MigrationContext, at position: SourcePosition
  ) {
    guard let source = context.source, let destination = context.destination, source != destination else { return }
    let name = listener == .source ? source : destination
    guard let host = hosts[name] else { return }
    // All local hosts are this one machine.
    let key = ListenerKey(machine: host.isLocal ? "" : name, port: port)
    if let other = listeners[key] {
      reading.report(
        "CMC1227", at: position,
        "port \(port) of \(host.isLocal ? "this machine" : "host '\(name)'") already serves migration '\(other)'",
        "give one of them a port of its own under 'connection:', or let its other end listen")
    } else {
      listeners[key] = context.name
    }
    if !hasAddress, !host.hasAddress, host.isLocal {
      reading.report(
        "CMC1220", at: host.position, "host '\(name)' listens for migration '\(context.name)' and has no address",
        "add 'address: 127.0.0.1'")
    }
  }

  private func readCutover(_ object: ObjectReading, _ context: MigrationContext, volumes: [VolumeDraft]) -> Cutover? {
    let shape = CutoverShape.the
    let written = readConditions(object)
    let inherited = defaults.cutover
    let hooks = object.node(shape.hooks).map { readHooks($0, context, volumes: volumes) } ?? [:]
    let verify = written.verify ?? inherited.verify ?? shape.verify.defaultValue
    if verify == Cutover.Verification.none, let phase = context.phase, phase >= .finalized {
      reading.warn(
        "CMC1261", at: object.position(shape.verify),
        "'\(context.name)' is finalized with no proof that both copies are identical",
        "write 'verify: changed' or 'verify: full'")
    }
    if context.phase == .cmotion {
      for draft in volumes where draft.tracking == .checksum {
        reading.report(
          "CMC1230", at: draft.trackingPosition,
          "volume '\(draft.name)' has 'tracking: checksum', with which there is no cMotion",
          "write 'tracking: tap', or go from 'phase: synchronized' to 'phase: finalized'")
      }
    }
    let approval = written.approval ?? inherited.approval ?? shape.approval.defaultValue
    guard let phase = context.phase, let approval, let verify else { return nil }
    let cutover = Cutover(
      phase: Positioned(phase, at: object.position(shape.phase)), approval: approval,
      windows: written.windows ?? inherited.windows ?? [],
      confirmWithinSeconds: written.confirmWithin ?? inherited.confirmWithin, verify: verify, hooks: hooks)
    if isAgreementNeeded { agreements[context.name] = GroupAgreement(cutover, object) }
    return cutover
  }

  private func readHooks(_ node: YAMLNode, _ context: MigrationContext, volumes: [VolumeDraft]) -> [HookPoint: Hook] {
    let shape = HooksShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return [:] }
    var hooks: [HookPoint: Hook] = [:]
    for (point, field) in shape.points {
      guard let node = object.node(field),
        let hook = ObjectReading(node, shape.hook, reading, label: point.rawValue)
      else { continue }
      let host = resolveHookHost(hook, context)
      let run = hook.value(shape.run)
      let timeout = hook.value(shape.timeout)
      if let run { HookRules.check(run, at: hook.position(shape.run), volumes: volumes, reading) }
      guard let run, let timeout else { continue }
      hooks[point] = Hook(host: host, run: run, timeoutSeconds: timeout, position: node.position)
    }
    return hooks
  }

  private func resolveHookHost(_ hook: ObjectReading, _ context: MigrationContext) -> HostName? {
    let field = HooksShape.the.host
    guard hook.has(field), let name = resolveHost(hook, field) else { return nil }
    if let source = context.source, let destination = context.destination, name != source, name != destination {
      reading.report(
        "CMC1232", at: hook.position(field), "the hook's host '\(name)' takes no part in migration '\(context.name)'",
        "write \(alternatives([source, destination]))")
    }
    return HostName(name)
  }
}

/// Placeholders in a hook's command.
enum HookRules {
  private static let words = ["device", "lun"]

  static func check(_ command: String, at position: SourcePosition, volumes: [VolumeDraft], _ reading: Reading) {
    let bytes = Array(command.utf8)
    var index = 0
    while let open = bytes[index...].firstIndex(of: UInt8(ascii: "{")) {
      index = open + 1
      // `${NAME:-default}` is the shell's.
      if open > 0, bytes[open - 1] == UInt8(ascii: "$") { continue }
      guard let close = bytes[index...].firstIndex(of: UInt8(ascii: "}")),
        let colon = bytes[index..<close].firstIndex(of: UInt8(ascii: ":"))
      else { continue }
      let word = String(decoding: bytes[index..<colon], as: UTF8.self)
      let name = String(decoding: bytes[(colon + 1)..<close], as: UTF8.self)
      if words.contains(word) {
        checkVolume(name, word: word, at: position, volumes: volumes, reading)
      } else if Names.isValid(name), let near = Suggestion.nearest(to: word, among: words) {
        reading.report(
          "CMC1233", at: position, "there is no placeholder '{\(word.shortened()):…}'",
          "did you mean '{\(near):\(name)}'?")
      }
    }
  }

  private static func checkVolume(
    _ name: String, word: String, at position: SourcePosition, volumes: [VolumeDraft], _ reading: Reading
  ) {
    guard let volume = volumes.first(where: { $0.name == name }) else {
      let near = Suggestion.nearest(to: name, among: volumes.map(\.name)).map { "did you mean '{\(word):\($0)}'?" }
      reading.report(
        "CMC1233", at: position, "'{\(word):\(name.shortened())}' names no volume of this migration",
        near ?? "its volumes are \(volumes.map(\.name).prefix(8).joined(separator: ", "))")
      return
    }
    if word == "lun", !volume.hasDisk {
      reading.report(
        "CMC1234", at: position, "volume '\(name)' has no disk, so it has no LUN", "write '{device:\(name)}'")
    }
  }
}
