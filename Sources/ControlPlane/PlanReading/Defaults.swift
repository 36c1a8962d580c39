internal import BlockModel
internal import MigrationModel
internal import YAMLTree

/// What `defaults:` says: nil where it says nothing.
struct Defaults {
  struct Disk {
    var sku: ManagedDisk.SKU?
    var zone: String?
    var caching: ManagedDisk.Caching?
    var resourceGroup: String?
    var encryptionSet: String?
    var networkAccess: String?
    var tags: [String: String] = [:]
  }
  struct Level {
    var level: IQoSLevel?
    var schedule: [ScheduledLevel]?
    var networkLimit: UInt64?
    var latencyBound: Double?
  }
  struct Conditions {
    var approval: Cutover.Approval?
    var windows: [WeeklyWindow]?
    var confirmWithin: Double?
    var verify: Cutover.Verification?
  }
  var integration: String?
  var listener: Role?
  var port: Int?
  var lanes: Int?
  var tracking: Tracking?
  var disk = Disk()
  var iqos = Level()
  var linkLossTimeout: Double?
  var resyncInterval: Double?
  var cutover = Conditions()
}

extension PlanBuilder {
  func readDefaults(_ node: YAMLNode) -> Defaults {
    let shape = DefaultsShape.the
    var result = Defaults()
    guard let object = ObjectReading(node, shape.shape, reading) else { return result }
    result.integration = resolveIntegration(object, shape.integration)
    if let node = object.node(shape.connection),
      let connection = ObjectReading(node, ConnectionShape.the.defaults, reading)
    {
      result.listener = connection.written(ConnectionShape.the.listener)
      result.port = connection.written(ConnectionShape.the.port)
      result.lanes = connection.written(ConnectionShape.the.lanes)
    }
    result.tracking = object.written(shape.tracking)
    if let node = object.node(shape.disk) { result.disk = readDiskDefaults(node) }
    if let node = object.node(shape.iqos) { result.iqos = readLevel(node) }
    result.linkLossTimeout = object.written(shape.linkLossTimeout)
    if let node = object.node(shape.resync),
      let resync = ObjectReading(node, MigrationShape.the.resyncShape, reading)
    {
      result.resyncInterval = resync.written(MigrationShape.the.resyncInterval)
    }
    if let node = object.node(shape.cutover),
      let cutover = ObjectReading(node, CutoverShape.the.defaults, reading)
    {
      result.cutover = readConditions(cutover)
    }
    return result
  }

  private func readDiskDefaults(_ node: YAMLNode) -> Defaults.Disk {
    let shape = DiskShape.the
    guard let object = ObjectReading(node, shape.defaults, reading) else { return Defaults.Disk() }
    return Defaults.Disk(
      sku: object.written(shape.sku), zone: object.written(shape.zone), caching: object.written(shape.caching),
      resourceGroup: object.written(shape.resourceGroup), encryptionSet: object.written(shape.encryptionSet),
      networkAccess: object.written(shape.networkAccess), tags: object.written(shape.tags) ?? [:])
  }

  /// Of `iqos`, as a level alone or a mapping.
  func readLevel(_ node: YAMLNode) -> Defaults.Level {
    let shape = IQoSShape.the
    guard node.isMapping else { return Defaults.Level(level: shape.level.type.read(node, reading)) }
    guard let object = ObjectReading(node, shape.shape, reading) else { return Defaults.Level() }
    return Defaults.Level(
      level: object.written(shape.level), schedule: object.node(shape.schedule).map { readSchedule($0) },
      networkLimit: object.written(shape.networkLimit), latencyBound: object.written(shape.latencyBound))
  }

  func readConditions(_ object: ObjectReading) -> Defaults.Conditions {
    let shape = CutoverShape.the
    return Defaults.Conditions(
      approval: object.written(shape.approval), windows: object.node(shape.windows).map { readWindows($0) },
      confirmWithin: object.written(shape.confirmWithin), verify: object.written(shape.verify))
  }

  private func readSchedule(_ node: YAMLNode) -> [ScheduledLevel] {
    let elements = reading.elements(of: node, expected: "a schedule") ?? []
    return elements.compactMap { element in
      let shape = WindowShape.scheduled
      guard let object = ObjectReading(element, shape.shape, reading) else { return nil }
      let window = readWindow(object, shape)
      let level = shape.level.flatMap { object.value($0) }
      guard let window, let level else { return nil }
      return ScheduledLevel(window: window, level: level)
    }
  }

  private func readWindows(_ node: YAMLNode) -> [WeeklyWindow] {
    let elements = reading.elements(of: node, expected: "a window") ?? []
    if elements.isEmpty, node.isSequence {
      reading.report(
        "CMC1228", at: node.position, "an empty list of windows never opens", "remove it: without it, any time will do")
    }
    return elements.compactMap { element in
      ObjectReading(element, WindowShape.window.shape, reading).flatMap { readWindow($0, WindowShape.window) }
    }
  }

  func readWindow(_ object: ObjectReading, _ shape: WindowShape) -> WeeklyWindow? {
    let days = object.value(shape.days)
    let from = object.value(shape.from)
    let to = object.value(shape.to)
    let timeZone = object.value(shape.timeZone)
    if let from, let to {
      if from == to {
        reading.report(
          "CMC1228", at: object.position(shape.to), "a window that ends when it starts never opens",
          "for the whole day write from: \"00:00\", to: \"24:00\"")
      } else if from > to {
        reading.report(
          "CMC1228", at: object.position(shape.to), "the window ends before it starts",
          "split a window that crosses midnight: one to \"24:00\", and one from \"00:00\" on the next day")
      }
    }
    if let days, Set(days).count < days.count {
      reading.warn("CMC1229", at: object.position(shape.days), "a day stands twice in this list", "remove one")
    }
    guard let days, let from, let to, let timeZone, from < to else { return nil }
    return WeeklyWindow(
      days: days, fromMinute: from, toMinute: to, timeZone: timeZone, position: object.node.position)
  }

  /// The integration that is named, reported where there is none.
  func resolveIntegration(_ object: ObjectReading, _ field: Field<String>) -> String? {
    guard let node = object.node(field), let name = reading.text(node, expected: "the name of an integration") else {
      return nil
    }
    guard integrationNames.contains(name) else {
      let near = Suggestion.phrase(for: name, among: integrationNames)
      reading.report(
        "CMC1211", at: node.position, "there is no integration '\(name.shortened())'",
        orDefault(near, "describe it under 'integrations:'"))
      return nil
    }
    return name
  }
}
