internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

/// What migrations of one group must have alike, with where each says it.
struct GroupAgreement {
  let phase: Positioned<Phase>
  /// Nil: no swing has to be confirmed.
  let confirmWithin: Positioned<Double?>
  let windows: Positioned<[WeeklyWindow]>

  init(_ cutover: Cutover, _ object: ObjectReading) {
    let shape = CutoverShape.the
    phase = cutover.phase
    // What `defaults` say has no place of its own in the migration: it stands where its cutover does.
    func position<Value>(_ field: Field<Value>) -> SourcePosition {
      object.has(field) ? object.position(field) : object.position(shape.phase)
    }
    confirmWithin = Positioned(cutover.confirmWithinSeconds, at: position(shape.confirmWithin))
    windows = Positioned(
      cutover.windows.map {
        var window = $0
        window.position = nil
        return window
      }, at: position(shape.windows))
  }
}

extension PlanBuilder {
  func readGroups(_ node: YAMLNode, waveOf: [String: String]) -> [SwingGroup] {
    var groups: [SwingGroup] = []
    var taken: [String: String] = [:]
    for (name, key, value) in reading.namedEntries(of: node, what: "groups", maximum: Self.maximumEntries) {
      let members = migrations(value, in: "group '\(name)'", taken: &taken)
      if value.isSequence, value.count < 2 {
        reading.report(
          "CMC1272", at: value.position, "group '\(name)' has \(value.count == 0 ? "no migration" : "one migration")",
          "name two at least, or remove the group")
      }
      checkWaves(of: members, in: name, at: value.position, waveOf: waveOf)
      checkAgreement(of: members, in: name)
      groups.append(SwingGroup(name: name, migrations: members, position: key.position))
    }
    return groups.sorted { $0.name < $1.name }
  }

  private func checkWaves(
    of members: [MigrationName], in group: String, at position: SourcePosition, waveOf: [String: String]
  ) {
    guard let first = members.first, let other = members.first(where: { waveOf[$0.text] != waveOf[first.text] }) else {
      return
    }
    reading.report(
      "CMC1272", at: position,
      "group '\(group)' can't swing together: '\(first)' is in \(waveOf[first.text] ?? "no wave"), "
        + "'\(other)' in \(waveOf[other.text] ?? "no wave")", "put all of its migrations in one wave")
  }

  /// Each other one is held against the first: whoever reads the fault sees both places.
  private func checkAgreement(of members: [MigrationName], in group: String) {
    let known = members.compactMap { name in agreements[name.text].map { (name: name.text, said: $0) } }
    guard let first = known.first else { return }
    for other in known.dropFirst() {
      compare(first.name, first.said.phase, other.name, other.said.phase, in: group, "phase") { $0.rawValue }
      compare(first.name, first.said.confirmWithin, other.name, other.said.confirmWithin, in: group, "confirmWithin") {
        $0.map { "\(Int($0)) s" } ?? "none"
      }
      compare(first.name, first.said.windows, other.name, other.said.windows, in: group, "windows") {
        $0.isEmpty ? "none" : $0.count == 1 ? "one" : "\($0.count)"
      }
    }
  }

  private func compare<Value: Equatable>(
    _ first: String, _ expected: Positioned<Value>, _ other: String, _ found: Positioned<Value>, in group: String,
    _ key: String, _ text: (Value) -> String
  ) {
    guard expected.value != found.value, let position = found.position, let reference = expected.position else {
      return
    }
    let values = (text(found.value), text(expected.value))
    // Two lists of windows may be as long as each other.
    let isToldApart = values.0 != values.1
    reading.report(
      "CMC1272", at: position,
      "group '\(group)' can't swing together: '\(other)' has "
        + (isToldApart
          ? "'\(key): \(values.0)', '\(first)' has '\(key): \(values.1)' (\(reference))"
          : "other '\(key)' than '\(first)' (\(reference))"),
      "write the same in all of its migrations")
  }
}
