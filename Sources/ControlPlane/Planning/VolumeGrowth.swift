import AgentProtocol
import BlockModel
import Diagnostics
package import MigrationModel

/// What becomes of a volume whose source device is larger, or smaller, than its session has it.
package enum VolumeGrowth: Sendable, Equatable {
  /// Both agents take the new size over.
  case grows(from: UInt64, to: UInt64)
  /// It stays as it is for now; the session goes on with the size that was agreed.
  case stays(from: UInt64, seen: UInt64, why: String, advice: String)
  /// What lies past the device's end can't be read: nothing is done with it before somebody looked.
  case shrank(from: UInt64, to: UInt64)
}

extension MigrationFacts {
  /// Nil where nothing changed, or nobody can tell.
  package func growth(of volume: Volume) -> VolumeGrowth? {
    guard let agreed = agreedBytes(of: volume), !isPastFence, sourceStage != .cancelled,
      let report = source?.device(volume.device), report.kind == .block || report.kind == .file, report.error == nil,
      changedDevice(of: volume) == nil
    else { return nil }
    // Agents count in sectors.
    let seen = report.sizeBytes / 512 * 512
    if seen < agreed { return .shrank(from: agreed, to: seen) }
    let isUneven = [sourceSession, destinationSession].contains { sizeBytes(of: volume, in: $0) ?? agreed < agreed }
    guard seen > agreed || isUneven else { return nil }
    if let (why, advice) = whyNotGrowing(volume, to: seen) {
      return seen > agreed ? .stays(from: agreed, seen: seen, why: why, advice: advice) : nil
    }
    return .grows(from: smallest(of: volume) ?? agreed, to: seen)
  }

  private func sizeBytes(of volume: Volume, in session: SessionObservation?) -> UInt64? {
    session?.configuration.volumes.first { $0.name == volume.name }?.sizeBytes
  }

  /// What the halves have; the larger one where a run died between them.
  func agreedBytes(of volume: Volume) -> UInt64? {
    [sizeBytes(of: volume, in: sourceSession), sizeBytes(of: volume, in: destinationSession)].compactMap(\.self).max()
  }

  /// What the destination has to hold before anything grows: that it has room for the rest is what growing looks at.
  func bytesWithoutGrowth(of volume: Volume) -> UInt64? {
    if case .grows(let bytes, _) = growth(of: volume) { return bytes }
    return sourceBytes(of: volume)
  }

  private func smallest(of volume: Volume) -> UInt64? {
    [sizeBytes(of: volume, in: sourceSession), sizeBytes(of: volume, in: destinationSession)].compactMap(\.self).min()
  }

  private func whyNotGrowing(_ volume: Volume, to bytes: UInt64) -> (why: String, advice: String)? {
    let agents = [(migration.source, source), (migration.destination, destination)]
    for (host, seen) in agents where seen?.agent?.hello.capabilities.contains(AgentCapability.grow) != true {
      return ("the agent on \(host) can't make a volume larger", "upgrade it: cmcplan agent upgrade \(host)")
    }
    switch sourceStage {
    case .prepared, .synchronizing, .tracking: break
    case .swinging, .standIn:
      return (
        "a volume grows before cMotion or after it",
        "write phase: synchronized and apply, which reverts cMotion and grows it; then phase: cmotion again"
      )
    default: return ("finalize has begun", "go on with the size that it has; what is beyond nobody could write to")
    }
    guard sourceSession?.authority == .source else {
      return ("its I/O lives at the destination", "revert cMotion, then apply again")
    }
    return whyNoRoom(volume, for: bytes)
  }

  /// Whether the destination is as large, or this very run makes it so.
  private func whyNoRoom(_ volume: Volume, for bytes: UInt64) -> (why: String, advice: String)? {
    let room = "make it at least \(gibibytes(holding: bytes)) GiB"
    switch volume.destination {
    case .device(let path):
      guard let report = destination?.device(path), report.sizeBytes < bytes else { return nil }
      return ("its destination \(path) on \(migration.destination) has \(report.sizeBytes) bytes", room)
    case .disk(let wanted):
      guard let disk = disks[volume.name], disk.sizeBytes < bytes else { return nil }
      if wanted.existingID != nil {
        return ("disk \(disk.name), which the plan names, has \(disk.sizeBytes) bytes", room)
      }
      if case .bytes(let asked) = wanted.size, asked < bytes {
        return (
          "the plan says a disk of \(asked) bytes", "write size: auto, or at least \(gibibytes(holding: bytes)) GiB"
        )
      }
      let isLive =
        wanted.sku.growth(fromGiB: Int(clamping: disk.sizeBytes >> 30), toGiB: gibibytes(holding: bytes)) == .live
      return isUnused(disk) || isLive
        ? nil
        : (
          "Azure takes disk \(disk.name) past \(ManagedDisk.SKU.growthBorderGiB) GiB only while it is detached",
          "finish the move with the size that it has, and enlarge both afterwards"
        )
    }
  }
}

extension MigrationDiff {
  /// Says what doesn't grow, and stops at what shrank.
  mutating func refuseShrunk() {
    for volume in migration.volumes where !isReplaceAsked(volume) {
      switch facts.growth(of: volume) {
      case .shrank(let from, let to):
        result.diagnostics.append(
          Diagnostic(
            code: PlanningCode.sourceShrank, at: volume.position,
            "\(migration.name)/\(volume.name): \(volume.device) on \(migration.source) has \(to) bytes, and \(from) are "
              + "replicated: what lies past its end can't be read any more",
            advice: "give it its size again, before anything else; the destination keeps what was copied"))
      case .stays(let from, let seen, let why, let advice):
        result.diagnostics.append(
          Diagnostic(
            .warning, code: PlanningCode.volumeStaysSmaller, at: volume.position,
            "\(migration.name)/\(volume.name): \(volume.device) on \(migration.source) has grown to \(seen) bytes; its "
              + "volume stays at \(from) for now: \(why)", advice: advice))
      case .grows, nil: break
      }
    }
  }

  /// Volumes whose source is larger than the session has it: both records, the withheld parts, the tap and the link
  /// follow, and what is new is copied.
  mutating func growVolumes() {
    var parts: [String] = []
    var devices: [String] = []
    var bytes: UInt64 = 0
    for volume in migration.volumes {
      guard case .grows(let from, let to) = facts.growth(of: volume) else { continue }
      parts.append("\(volume.name) from \(from) to \(to) bytes")
      devices.append(volume.device)
      bytes += to - from
    }
    guard !parts.isEmpty else { return }
    add(
      .growVolumes(migration.name), towards: reached.phase ?? .prepared, "grow \(parts.joined(separator: ", "))",
      why:
        "\(devices.joined(separator: ", ")) on \(migration.source) \(devices.count == 1 ? "has" : "have") grown; the "
        + "application goes on, and what is new is copied",
      precondition: "the destination has the room", price: Price(bytesToMove: bytes), .live)
  }
}
