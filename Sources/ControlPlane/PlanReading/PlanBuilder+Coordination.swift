internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

/// What the document says of more than one migration.
struct Coordination {
  var waves: [Wave] = []
  var groups: [SwingGroup] = []
  var moved: [Move] = []
  var notifications: [NotificationTarget] = []
  var archive: Archive?
  var guardrails: GuardrailLimits?
}

extension PlanBuilder {
  /// After the migrations: their names and phases must be known.
  func readCoordination(_ document: ObjectReading) -> Coordination {
    let fields = DocumentShape.the.coordination
    var result = Coordination()
    var waveOf: [String: String] = [:]
    if let node = document.node(fields.waves) { result.waves = readWaves(node, waveOf: &waveOf) }
    if let node = document.node(fields.groups) { result.groups = readGroups(node, waveOf: waveOf) }
    if let node = document.node(fields.moved) { result.moved = readMoved(node) }
    if let node = document.node(fields.notifications) { result.notifications = readNotifications(node) }
    result.archive = document.node(fields.archive).flatMap { readArchive($0) }
    result.guardrails = document.node(fields.guardrails).flatMap { GuardrailLimitsReading(builder: self).read($0) }
    return result
  }

  /// A list of migrations' names: each exists, and stands in the list and in its like only once.
  /// `taken` has what earlier lists named.
  func migrations(_ node: YAMLNode, in list: String, taken: inout [String: String]) -> [MigrationName] {
    var names: [MigrationName] = []
    for element in reading.elements(of: node, expected: "names of migrations") ?? [] {
      guard let name = ValueType<String>.name.read(element, reading), exists(name, at: element) else { continue }
      if let other = taken[name] {
        reading.report(
          "CMC1271", at: element.position,
          "migration '\(name)' stands in \(other) already", "name it once: it can only be in one place in the order")
        continue
      }
      taken[name] = list
      names.append(MigrationName(name))
    }
    return names
  }

  private func exists(_ migration: String, at node: YAMLNode) -> Bool {
    if phases[migration] != nil { return true }
    reading.report(
      "CMC1270", at: node.position, "there is no migration '\(migration.shortened())'",
      orDefault(
        Suggestion.phrase(for: migration, among: phases.keys.sorted()), "describe it under 'migrations:', or remove it")
    )
    return false
  }

  private func readWaves(_ node: YAMLNode, waveOf: inout [String: String]) -> [Wave] {
    let shape = WaveShape.the
    var waves: [Wave] = []
    var names: Set<String> = []
    for element in reading.elements(of: node, expected: "a list of waves") ?? [] {
      guard let object = ObjectReading(element, shape.shape, reading) else { continue }
      let name = object.value(shape.name)
      if let name, !names.insert(name).inserted {
        reading.report(
          "CMC1271", at: object.position(shape.name), "there are two waves '\(name)'", "give each a name of its own")
      }
      let list = name.map { "wave '\($0)'" } ?? "another wave"
      let members = object.node(shape.migrations).map { migrations($0, in: list, taken: &waveOf) }
      if let node = object.node(shape.migrations), node.isSequence, node.count == 0 {
        reading.report("CMC1107", at: node.position, "the list is empty", "write at least one item in it")
      }
      let bake = object.value(shape.bake)
      let check = object.node(shape.healthCheck).flatMap { readCheck($0) }
      guard let name, let members else { continue }
      waves.append(
        Wave(name: name, migrations: members, bakeSeconds: bake ?? 0, healthCheck: check, position: element.position))
    }
    warnOfLast(waves)
    return waves
  }

  private func warnOfLast(_ waves: [Wave]) {
    guard let last = waves.last, last.bakeSeconds > 0 || last.healthCheck != nil else { return }
    let words = [last.bakeSeconds > 0 ? "'bake'" : nil, last.healthCheck == nil ? nil : "'healthCheck'"]
    reading.warn(
      "CMC1274", at: last.position,
      "no wave comes after '\(last.name)', so nothing waits for its \(words.compactMap { $0 }.joined(separator: " and "))",
      "describe the wave that comes after it, or remove them")
  }

  private func readCheck(_ node: YAMLNode) -> WaveHealthCheck? {
    let shape = WaveShape.the
    guard let object = ObjectReading(node, shape.check, reading) else { return nil }
    let host = object.has(shape.checkHost) ? resolveHost(object, shape.checkHost) : nil
    let run = object.value(shape.checkRun)
    if let run {
      HookRules.check(run, at: object.position(shape.checkRun), volumes: [], reading)
    }
    let timeout = object.value(shape.checkTimeout)
    guard let host, let run, let timeout else { return nil }
    return WaveHealthCheck(host: HostName(host), run: run, timeoutSeconds: timeout)
  }

  private func readMoved(_ node: YAMLNode) -> [Move] {
    let shape = MoveShape.the
    var found: [(move: Move, object: ObjectReading)] = []
    for element in reading.elements(of: node, expected: "a list of renames") ?? [] {
      guard let object = ObjectReading(element, shape.shape, reading) else { continue }
      let from = object.value(shape.from)
      let to = object.value(shape.to)
      guard let from, let to else { continue }
      found.append((Move(from: from, to: to, position: element.position), object))
    }
    let ways = RenameWays(found.map(\.move))
    var moves: [Move] = []
    var sources: Set<Move.Name> = []
    var targets: Set<Move.Name> = []
    for (move, object) in found {
      if let fault = moveFault(move, ways) {
        reading.report("CMC1273", at: object.position(fault.isFrom ? shape.from : shape.to), fault.what, fault.advice)
        continue
      }
      guard sources.insert(move.from).inserted, targets.insert(move.to).inserted else {
        reading.report(
          "CMC1273", at: move.position ?? node.position,
          "'\(move.from)' or '\(move.to)' stands in another rename already", "keep one of them")
        continue
      }
      moves.append(move)
    }
    return moves
  }

  /// All renames of a document, to judge one beside the others.
  private struct RenameWays {
    let renames: Renames
    let froms: Set<Move.Name>
    /// Between which migrations something goes.
    private var goesTo: [MigrationName: Set<MigrationName>] = [:]
    private var comesFrom: [MigrationName: Set<MigrationName>] = [:]

    init(_ moves: [Move]) {
      renames = Renames(moves)
      froms = Set(moves.map(\.from))
      for move in moves where move.from.migration != move.to.migration {
        goesTo[move.from.migration, default: []].insert(move.to.migration)
        comesFrom[move.to.migration, default: []].insert(move.from.migration)
      }
    }

    /// A session is one migration's: its volumes can't be parted, nor joined with another's.
    func isParted(_ move: Move) -> Bool {
      goesTo[move.from.migration, default: []].count > 1 || comesFrom[move.to.migration, default: []].count > 1
    }
  }

  private func moveFault(_ move: Move, _ ways: RenameWays) -> (isFrom: Bool, what: String, advice: String)? {
    let (from, to) = (move.from, move.to)
    if (from.volume == nil) != (to.volume == nil) {
      return (false, "'\(from)' and '\(to)' are not of one kind", "rename a migration, or a volume as MIGRATION/VOLUME")
    }
    if isInPlan(from) {
      return (
        true, "'\(from)' is still part of the plan", "a rename names what is gone first; remove it, or its old entry"
      )
    }
    if from.volume != nil, from.migration != to.migration, phases[from.migration.text] != nil || ways.isParted(move) {
      return (
        false, "'\(from)' can't go to migration '\(to.migration)' by itself",
        "a volume keeps its session: rename all of '\(from.migration)', or describe the volume anew, to be copied again"
      )
    }
    if from.volume == nil, ways.isParted(move) {
      return (false, "'\(from)' and '\(to)' are named by more than one rename", "a migration has one former name")
    }
    let end = ways.renames.name(of: to)
    guard !isInPlan(end) else { return nil }
    if ways.froms.contains(end) {
      return (false, "the renames of '\(from)' lead in a circle", "end them at what it is called now")
    }
    let names =
      end.volume == nil
      ? phases.keys.sorted() : (volumeNames[end.migration.text] ?? []).sorted().map { "\(end.migration)/\($0)" }
    return (
      false, "there is no '\(end)' in the plan",
      orDefault(Suggestion.phrase(for: "\(end)", among: names), "name what it is called now")
    )
  }

  private func isInPlan(_ name: Move.Name) -> Bool {
    guard let volume = name.volume else { return phases[name.migration.text] != nil }
    // Of a migration that could not be read, the volumes are not known.
    guard let names = volumeNames[name.migration.text] else { return false }
    return names.contains(volume.text)
  }
}

// MARK: - Notifications and archive

extension PlanBuilder {
  private func readNotifications(_ node: YAMLNode) -> [NotificationTarget] {
    let shape = NotificationShape.the
    var targets: [NotificationTarget] = []
    for (name, key, value) in reading.namedEntries(of: node, what: "notifications", maximum: Self.maximumEntries) {
      guard let object = ObjectReading(value, shape.shape, reading, label: name) else { continue }
      let webhook = object.node(shape.webhook).flatMap { WebhookReader.read($0, reading) }
      let events = object.has(shape.events) ? object.value(shape.events) : NotificationTarget.Event.allCases
      let format = object.value(shape.format)
      guard let webhook, let events, let format else { continue }
      targets.append(
        NotificationTarget(name: name, webhook: webhook, events: events, format: format, position: key.position))
    }
    return targets.sorted { $0.name < $1.name }
  }

  private func readArchive(_ node: YAMLNode) -> Archive? {
    let shape = ArchiveShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    if let directory = object.value(shape.directory) { return Archive(.directory(directory), position: node.position) }
    let url = object.value(shape.blob)
    guard object.has(shape.blob) else { return nil }
    let access: Archive.BlobAccess?
    if let sas = object.node(shape.sas) {
      access = SecretReader.read(sas, reading).map { .signature($0) }
    } else if object.has(shape.integration) {
      access = resolveIntegration(object, shape.integration).map { .integration($0) }
    } else if integrationNames.count == 1, let only = integrationNames.first {
      access = .integration(only)
    } else {
      reading.report(
        "CMC1211", at: object.position(shape.blob), "nothing says who signs in to the archive's container",
        integrationNames.isEmpty
          ? "add sas: {env: NAME}, or describe an integration"
          : "add 'integration:' with \(integrationNames.sorted().map { "'\($0)'" }.joined(separator: " or ")), or sas: {env: NAME}"
      )
      return nil
    }
    guard let url, let access else { return nil }
    return Archive(.blob(url, access: access), position: node.position)
  }
}

// MARK: - Guardrails

/// `guardrails:` of a plan, and `limits:` of a guardrails file.
struct GuardrailLimitsReading {
  let builder: PlanBuilder

  private var reading: Reading { builder.reading }

  func read(_ node: YAMLNode) -> GuardrailLimits? {
    let shape = GuardrailLimitsShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    return GuardrailLimits(
      locations: rule(object, shape.locations, shape.locationsRule), skus: rule(object, shape.skus, shape.skusRule),
      diskSizeBytes: rule(object, shape.diskSize, shape.diskSizeRule),
      moves: rule(object, shape.moves, shape.movesRule),
      bytes: rule(object, shape.bytes, shape.bytesRule), iqos: levels(object, shape.iqos),
      owner: rule(object, shape.owner, shape.ownerRule),
      oneWayFromSavedOnly: rule(object, shape.oneWay, shape.oneWayRule))
  }

  private func rule<Value: Sendable & Equatable>(
    _ object: ObjectReading, _ field: Field<YAMLNode>, _ shape: GuardrailLimitsShape.Rule<Value>
  ) -> GuardrailRule<Value>? {
    guard let node = object.node(field), let inner = ObjectReading(node, shape.shape, reading) else { return nil }
    let value = inner.value(shape.value)
    let effect = inner.value(shape.effect)
    guard let value, let effect else { return nil }
    return GuardrailRule(value, effect: effect, position: node.position)
  }

  private func levels(_ object: ObjectReading, _ field: Field<YAMLNode>) -> [GuardrailRule<GuardrailLevel>] {
    guard let node = object.node(field) else { return [] }
    return (reading.elements(of: node, expected: "a list of levels") ?? []).compactMap { element in
      let shape = WindowShape.guarded
      guard let inner = ObjectReading(element, shape.shape, reading) else { return nil }
      let window = builder.readWindow(inner, shape)
      let level = shape.level.flatMap { inner.value($0) }
      let effect = shape.effect.flatMap { inner.value($0) }
      guard let window, let level, let effect else { return nil }
      return GuardrailRule(GuardrailLevel(window: window, atMost: level), effect: effect, position: element.position)
    }
  }
}
