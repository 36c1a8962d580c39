import BlockModel
import H2HProtocol
import Replication

/// What one run did.
package struct SimulationReport: Sendable {
  package var events = 0
  package var requests = 0
  package var links = 0
  package var packedFrames = 0
  package var swings = 0
  /// By kind.
  package var faults: [String: Int] = [:]
  /// Seconds of virtual time from the last fault by chance until all was carried out again.
  package var longestRecoverySeconds = 0.0
  package init() {}

  package mutating func add(_ other: SimulationReport) {
    events += other.events
    requests += other.requests
    links += other.links
    packedFrames += other.packedFrames
    swings += other.swings
    faults.merge(other.faults, uniquingKeysWith: +)
    longestRecoverySeconds = max(longestRecoverySeconds, other.longestRecoverySeconds)
  }

  /// By kind, in the order of their names.
  package var toldFaults: String {
    faults.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }
}

/// An invariant that did not hold, and after how many events.
package struct SimulationFailure: Error, Sendable, CustomStringConvertible {
  package let what: String
  package let event: Int
  package var description: String { "event \(event): \(what)" }
}

package enum Simulation {
  /// Runs the world of this seed: chaos, then calm in which everything has to succeed.
  package static func run(seed: UInt64, isTracing: Bool = false) throws(SimulationFailure) -> SimulationReport {
    var world = SimulatedWorld(seed: seed)
    world.isTracing = isTracing
    try world.warmUp(toStandIn: seed % 3 == 1, toTracking: seed % 3 == 2)
    try world.chaos(events: 600 + world.chance.below(2400))
    try seed % 11 == 0 ? world.cancel() : world.calm()
    world.report.events = world.time
    return world.report
  }
}

extension SimulatedWorld {
  mutating func step() throws(SimulationFailure) {
    time += 1
    clock = clock.adding(nanoseconds: UInt64(chance.below(1_000_000)))
    switch chance.below(100) {
    case 0..<45: stepWork()
    case 45..<80: stepLink()
    case 80..<94: stepApplication()
    default:
      clock = clock.adding(nanoseconds: 50_000_000)
      tellSource(.tick)
      tellDestination(.tick)
    }
    stepBypass()
    try stepGrowth()
    if let failure { throw failure }
    try checkSafety()
  }

  mutating func chaos(events: Int) throws(SimulationFailure) {
    var isPartitioned = 0
    for _ in 0..<events {
      try step()
      if isPartitioned > 0 { isPartitioned -= 1 }
      switch chance.below(700) {
      case 0: try crash(.source, powerCut: chance.oneIn(2))
      case 1: try crash(.destination, powerCut: chance.oneIn(2))
      case 2, 3: loseLink()
      case 4..<40: command()
      case 43..<46: beginGrowth()
      case 40..<43: if bypass == .none, !isInsertionNew { bypass = .wanted }
      default: break
      }
      if source == nil, chance.oneIn(30) {
        startSource()
        try checkSettled()
      }
      if destination == nil, chance.oneIn(30) { startDestination() }
    }
  }

  private mutating func command() {
    let commands: [SourceCommand] = [
      .synchronize, .synchronize, .synchronize, .swing, .swing, .swing, .revert, .resync, .confirmSwing, .closeTap,
      .openTap, .openTap, .prove, .verify(VerificationRequest(scope: .all, repairs: true)),
      .verify(VerificationRequest(scope: .changed, repairs: false)), .stopSynchronizing,
    ]
    let command = commands[chance.below(commands.count)]
    if command == .closeTap || command == .prove { sealAgain() }
    tellSource(.command(command, id: UInt64(time)))
  }

  // MARK: what has to hold

  private mutating func checkSafety() throws(SimulationFailure) {
    if time % 25 == 0 { try checkSettled() }
    if recordedAuthority != .destination, destination?.mayOpenLocally ?? false {
      throw fail("the destination may be opened, and the source is not fenced")
    }
  }

  /// What the source believes to be equal and durable there is.
  private func checkSettled() throws(SimulationFailure) {
    guard let source, source.copyIsKnown, source.stage != .cancelled, bypass != .unnoticed else { return }
    for volume in disks[0].indices {
      let perBlock = Int(source.blockBytes(ofVolume: volume) / SimulatedDisk.cellBytes)
      let count = disks[0][volume].current.count
      for block in 0..<(count + perBlock - 1) / perBlock where source.isSettled(volume: volume, block: block) {
        if let rotten, rotten.volume == volume, rotten.cell / perBlock == block { continue }
        let cells = block * perBlock..<min((block + 1) * perBlock, count)
        if disks[0][volume].current[cells] != disks[1][volume].current[cells] {
          throw fail("block \(block) of volume \(volume) differs and is not marked")
        }
        if disks[1][volume].durable[cells] != disks[1][volume].current[cells] {
          throw fail("block \(block) of volume \(volume) is not durable at the destination and not marked")
        }
      }
    }
  }

  mutating func loseLink() {
    if link?.isBroken == false { report.faults["link lost", default: 0] += 1 }
    breakLink(knownAt: nil)
  }

  /// Once the source is fenced: both copies are equal, and hold every acknowledged write.
  mutating func checkCopiesAtTheEnd() throws(SimulationFailure) {
    if disks[0].map(\.current) != disks[1].map(\.current) { throw fail("fenced with copies that differ") }
    for volume in histories.indices {
      for cell in histories[volume].indices
      where !histories[volume][cell].read(disks[1][volume].current[cell], start: time, end: time) {
        throw fail("an acknowledged write is missing at the end: volume \(volume) cell \(cell)")
      }
    }
  }

  // MARK: calm

  private mutating func until(
    _ what: String, _ isDone: (SimulatedWorld) -> Bool
  ) throws(SimulationFailure) {
    for _ in 0..<60_000 {
      if isDone(self) { return }
      try step()
    }
    let state = source?.observation(at: clock)
    throw fail("\(what) was not reached: \(String(describing: state))")
  }

  private mutating func command(
    _ command: SourceCommand, until stage: SourceStage
  ) throws(SimulationFailure) {
    var isAsked = 0
    try until("\(stage) after \(command)") {
      $0.source?.stage == stage
    } repeating: { world in
      if isAsked % 200 == 0 { world.tellSource(.command(command, id: 0)) }
      isAsked += 1
    }
  }

  private mutating func until(
    _ what: String, _ isDone: (SimulatedWorld) -> Bool, repeating: (inout SimulatedWorld) -> Void
  ) throws(SimulationFailure) {
    for _ in 0..<60_000 {
      if isDone(self) { return }
      repeating(&self)
      try step()
    }
    throw fail("\(what) was not reached: \(String(describing: source?.observation(at: clock)))")
  }

  /// Most of what can go wrong needs a session that is well on its way.
  mutating func warmUp(toStandIn: Bool, toTracking: Bool) throws(SimulationFailure) {
    guard toStandIn || toTracking else { return }
    isCalm = true
    try until("a connection") { $0.source?.observation(at: $0.clock).isConnected ?? false }
    try command(.synchronize, until: .tracking)
    if toStandIn { try command(.swing, until: .standIn) }
    isCalm = false
  }

  /// The destination's disk spoils a cell that nothing says anything about: comparing finds it, copying mends it, and
  /// nobody has read it.
  private mutating func rotAndRepair() throws(SimulationFailure) {
    // An extent that is always being written is never compared: these volumes have two each.
    mayWrite = false
    defer { mayWrite = true }
    try until("the last request") { $0.requests.isEmpty }
    guard let source, source.copyIsKnown else { return }
    let volume = chance.below(disks[1].count)
    let cell = chance.below(disks[1][volume].current.count)
    let block = cell / Int(source.blockBytes(ofVolume: volume) / SimulatedDisk.cellBytes)
    guard source.isSettled(volume: volume, block: block) else { return }
    disks[1][volume].rot(cell)
    rotten = (volume, cell)
    tellSource(.command(.verify(VerificationRequest(scope: .all, repairs: true)), id: 0))
    try until("the repair of a cell that rotted") {
      $0.disks[0][volume].current[cell] == $0.disks[1][volume].current[cell]
        && $0.source?.isSettled(volume: volume, block: block) ?? false
    } repeating: { world in
      if world.time % 200 == 0 { world.tellSource(.command(.resync, id: 0)) }
    }
    rotten = nil
    report.faults["bit rot mended", default: 0] += 1
  }

  /// No more faults by chance: everything runs, and the tap is open.
  private mutating func settleDown() throws(SimulationFailure) {
    isCalm = true
    if bypass == .wanted { bypass = .none }
    hurry()
    if source == nil { startSource() }
    if destination == nil { startDestination() }
    // A growth that began ends: until it has, the halves refuse each other.
    settleGrowth()
    try until("the end of what grows") {
      $0.growth.isOver
    } repeating: { world in
      // A tap that was closed between the halves is opened for it.
      if world.time % 200 == 0 { world.tellSource(.command(.openTap, id: 0)) }
    }
    try until("a connection") { $0.source?.observation(at: $0.clock).isConnected ?? false }
    tellSource(.command(.openTap, id: 0))
  }

  /// From wherever chaos left it: the application goes on at the source, on what it wrote, and the destination is given up.
  mutating func cancel() throws(SimulationFailure) {
    try settleDown()
    try command(.cancel, until: .cancelled)
    try until("the cancelled destination") {
      $0.destination?.stage == .cancelled
    } repeating: { world in
      if world.time % 200 == 0 { world.tellDestination(.command(.cancel, id: 0)) }
    }
    let first = requestCounter
    try until("the application's requests after the end") { $0.requestCounter > first + 100 && $0.requests.count < 12 }
    mayWrite = false
    try until("the last request") { $0.requests.isEmpty }
    for volume in histories.indices {
      for cell in histories[volume].indices
      where !histories[volume][cell].read(disks[0][volume].current[cell], start: time, end: time) {
        throw fail("cancelling lost a write: volume \(volume) cell \(cell)")
      }
    }
    report.faults["cancelled", default: 0] += 1
  }

  /// The source's host was started anew, which opens what was sealed, and somebody writes. True if it came to that.
  @discardableResult
  private mutating func writePastClosedTap() throws(SimulationFailure) -> Bool {
    guard chance.oneIn(2) else { return false }
    bypass = .unnoticed
    for _ in 0..<1 + chance.below(20) { stepPastTap() }
    report.faults["written after the tap was closed", default: 0] += 1
    sealAgain()
    // What was written is here alone, so authority is too.
    try until("the mark of what was written") {
      !$0.isInsertionNew && $0.source?.observation(at: $0.clock).authority == .source
    }
    try command(.closeTap, until: .tapClosed)
    return true
  }

  mutating func calm() throws(SimulationFailure) {
    let lastFault = clock
    try settleDown()
    if source?.stage == .prepared { tellSource(.command(.synchronize, id: 0)) }
    try until("the end of initial synchronization") {
      $0.source?.stage == .tracking || $0.source?.stage == .standIn || $0.source?.stage == .swinging
    }
    report.longestRecoverySeconds = clock.seconds(since: lastFault)
    try command(.swing, until: .standIn)
    try command(.revert, until: .tracking)
    try rotAndRepair()
    try command(.swing, until: .standIn)
    mayWrite = false
    try until("the last request") { $0.requests.isEmpty }
    try command(.closeTap, until: .tapClosed)
    try writePastClosedTap()
    try command(.prove, until: .proven)
    if try writePastClosedTap() {
      tellSource(.command(.fence, id: 0))
      if source?.stage == .fenced { throw fail("fenced though the source was written after the proof") }
      try command(.prove, until: .proven)
    }
    try command(.fence, until: .fenced)
    try checkCopiesAtTheEnd()
    try until("the release") {
      $0.destination?.mayOpenLocally ?? false
    } repeating: { world in
      if world.time % 100 == 0 { world.tellDestination(.command(.release, id: 0)) }
    }
    report.swings = source?.observation(at: clock).swings ?? 0
    try checkSettled()
  }
}
