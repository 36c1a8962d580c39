package import BlockModel
package import Replication

/// The two agents of one migration with their disks, their link and a writing application, behind a face that a
/// simulated orchestrator commands. What happens between two calls is chance: `advance` says how much of it.
package struct ReplicationRehearsal: Sendable {
  package enum Trouble: Sendable, Equatable {
    case processKill(Role)
    case powerCut(Role)
    case linkLoss
  }

  private var world: SimulatedWorld
  /// Invariants that did not hold; the first is enough.
  package private(set) var failure: SimulationFailure?

  /// Smaller than where replication is on its own: what the orchestrator does with it is the point here.
  package static let volumeSizes: [UInt64] = [1 << 20, (1 << 20) + 8192]

  package init(seed: UInt64) { world = SimulatedWorld(seed: seed, volumeSizes: Self.volumeSizes) }

  /// Prints the machines' journals and every fault.
  package mutating func trace() { world.isTracing = true }

  /// No more faults by chance from here on.
  package mutating func calm() { world.isCalm = true }
  package var report: SimulationReport {
    var report = world.report
    report.events = world.time
    return report
  }

  package mutating func advance(steps: Int) {
    for _ in 0..<steps where failure == nil {
      do throws(SimulationFailure) { try world.step() } catch { failure = error }
    }
  }

  package mutating func suffer(_ trouble: Trouble) {
    if world.isTracing { print(world.time, trouble) }
    do throws(SimulationFailure) {
      switch trouble {
      case .processKill(let role): if isRunning(role) { try world.crash(side(role), powerCut: false) }
      case .powerCut(let role): if isRunning(role) { try world.crash(side(role), powerCut: true) }
      case .linkLoss: world.loseLink()
      }
    } catch {
      failure = failure ?? error
    }
  }

  package func isRunning(_ role: Role) -> Bool { role == .source ? world.source != nil : world.destination != nil }

  package mutating func restart(_ role: Role) {
    guard !isRunning(role) else { return }
    switch role {
    case .source: world.startSource()
    case .destination: world.startDestination()
    }
  }

  /// The half takes larger volumes over. Why it can't now; nil where it did.
  package mutating func grow(_ role: Role, to sizes: [UInt64]) -> String? {
    do throws(SimulationFailure) { return try world.grow(side(role), to: sizes) } catch {
      failure = failure ?? error
      return nil
    }
  }

  /// Whether the application writes. One that is told to stop first finishes what it began.
  package mutating func letApplicationRun(_ mayWrite: Bool) { world.mayWrite = mayWrite }
  package var isApplicationIdle: Bool { world.requests.isEmpty && !world.mayWrite }

  /// Nil where the agent does not run.
  package mutating func command(_ command: SourceCommand) -> CommandAnswer? {
    world.lastAnswer = nil
    world.tellSource(.command(command, id: 1))
    return world.lastAnswer
  }
  package mutating func command(_ command: DestinationCommand) -> CommandAnswer? {
    world.lastAnswer = nil
    world.tellDestination(.command(command, id: 1))
    return world.lastAnswer
  }

  package var source: SourceObservation? { world.source?.observation(at: world.clock) }
  package var destination: DestinationObservation? { world.destination?.observation() }
  /// The hold that the source's agent asked for since the last call.
  package mutating func takeHold() -> (cause: HoldCause, why: String)? {
    defer { world.lastHold = nil }
    return world.lastHold
  }

  /// What must hold once the source is fenced and the destination released.
  package mutating func checkFinalized() {
    do throws(SimulationFailure) { try world.checkCopiesAtTheEnd() } catch { failure = failure ?? error }
  }

  private func side(_ role: Role) -> SimulatedWorld.Side { role == .source ? .source : .destination }
}
