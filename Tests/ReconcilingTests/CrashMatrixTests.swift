import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// Each part killed before, in and after each kind of step; then apply again, to the same end. `make crash-matrix`
/// prints the table.
@Suite struct CrashMatrix {
  private struct Cell {
    var tried = 0
    var reached = 0
  }

  @Test("whatever dies at whatever step, apply again comes to the same end")
  func sameEnd() async throws {
    // "all", or one kind of step.
    let only = ProcessInfo.processInfo.environment["CRASH_MATRIX"]
    let isWhole = only != nil
    var table: [String: [CrashPoint.Part: Cell]] = [:]
    var order: [String] = []
    for way in CrashWay.allCases {
      let plain = CrashRun(way, seed: 1)
      try #require(plain.go() == [], "\(way) with nothing killed")
      let kinds = Self.kinds(plain).filter { !order.contains($0) }
      #expect(!kinds.isEmpty, "\(way) has no kind of step of its own")
      order += kinds
      for (index, kind) in kinds.enumerated() {
        if let only, only != "all", only != kind { continue }
        for part in CrashPoint.Part.allCases {
          // One moment for every other pair of kind and part in a usual run; all of all in a whole one.
          let moments = CrashPoint.Moment.allCases
          let turn = index + part.number
          let chosen = isWhole ? moments : turn.isMultiple(of: 2) ? [moments[turn / 2 % moments.count]] : []
          for moment in chosen {
            let striker = Striker(CrashPoint(kind: kind, part: part, moment: moment))
            let run = CrashRun(way, seed: 1)
            let problems = run.go(striker)
            let isSame = run.end == plain.end
            #expect(problems == [], "\(way): \(part.rawValue) killed at \(kind), \(moment.rawValue)")
            #expect(
              run.end == plain.end, "\(way): \(part.rawValue) killed at \(kind), \(moment.rawValue): another end")
            guard striker.hasHit else { continue }
            table[kind, default: [:]][part, default: Cell()].tried += 1
            if problems.isEmpty, isSame { table[kind]?[part]?.reached += 1 }
            // So that tests with a time limit get their turn.
            await Task.yield()
          }
        }
      }
    }
    #expect(Set(order) == Self.allKinds, "a kind of step that no way has, or that is new")
    if only == "all" { try Self.tell(table, order) }
  }

  /// A compiler's error in `isKnown` says that this set wants the new kind too.
  private static let allKinds: Set<String> = {
    let name = MigrationName("m")
    let actions: [Action] =
      [
        .deployAgent(HostName("h")), .acquireLease(name), .checkDevices(name),
        .ensureDisk(VolumeKey(name, VolumeName("v"))), .orphanDisk(VolumeKey(name, VolumeName("v"))),
        .giveUpSession(name),
        .attachDisks(integration: "", machine: "", volumes: []), .rename(name, sessions: true), .configureSession(name),
        .growVolumes(name), .proveConnection(name), .checkWave("w", HostName("h")), .openTap(name), .synchronize(name),
        .stopSynchronizing(name), .swing(name), .revert(name), .closeTap(name), .prove(name), .fence(name),
        .release(name), .tagDisks(name, .prepared), .archive(name), .retire(name, .source), .retire(name, .destination),
        .releaseLease(name), .removeAgent(HostName("h")), .abandonFinalize(name, why: ""),
        .revertWithGroup(name, why: ""), .holdAfterFence(name, why: ""),
      ] + GroupBarrier.allCases.map { .checkGroup("g", $0) } + HookPoint.allCases.map { .runHook(name, $0) }
    return Set(actions.filter(isKnown).map(\.kind))
  }()

  private static func isKnown(_ action: Action) -> Bool {
    switch action {
    case .deployAgent, .acquireLease, .checkDevices, .ensureDisk, .orphanDisk, .giveUpSession, .attachDisks, .rename,
      .configureSession, .growVolumes,
      .proveConnection, .checkWave, .checkGroup, .openTap, .synchronize, .stopSynchronizing, .swing, .revert, .runHook,
      .closeTap, .prove, .fence, .release, .tagDisks, .archive, .retire, .releaseLease, .removeAgent,
      .abandonFinalize, .revertWithGroup, .holdAfterFence:
      true
    }
  }

  private static func kinds(_ run: CrashRun) -> [String] {
    var kinds: [String] = []
    for line in run.bench.journal.lines.withLock({ $0 }) {
      let entry = try? JSONDecoder().decode(JournalEntry.self, from: Data(line.utf8))
      if let entry, entry.kind == .stepStarted, let step = entry.step, !kinds.contains(step) { kinds.append(step) }
    }
    return kinds
  }

  /// Prints the table, and holds the one in the README of SimulationTests against it.
  private static func tell(_ table: [String: [CrashPoint.Part: Cell]], _ order: [String]) throws {
    var lines = ["| step | " + CrashPoint.Part.allCases.map(\.rawValue).joined(separator: " | ") + " |"]
    lines.append("|---" + String(repeating: "|---", count: CrashPoint.Part.allCases.count) + "|")
    for kind in order {
      let cells = CrashPoint.Part.allCases.map { part in
        table[kind]?[part].map { "\($0.reached)/\($0.tried)" } ?? "–"
      }
      lines.append("| \(kind) | " + cells.joined(separator: " | ") + " |")
    }
    let text = lines.joined(separator: "\n")
    print(text)
    let readme = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "SimulationTests/README.md")
    #expect(try String(contentsOf: readme, encoding: .utf8).contains(text), "the table of SimulationTests/README.md")
  }
}

extension CrashPoint.Part {
  fileprivate var number: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
