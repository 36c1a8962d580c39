import AgentProtocol
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// Whom real runs in the simulated world tell of what.
@Suite("A person is told once of each cause") struct NoticeBoardTests {
  private let name = MigrationName("m0")

  /// `oncall` hears everything, `audit` only of phases that were reached.
  private func plan(
    _ phase: Phase, approval: Cutover.Approval = .automatic, count: Int = 1
  ) -> MigrationPlan {
    var plan = samplePlan(phase, count: count, approval: approval)
    plan.notifications = [
      NotificationTarget(
        name: "audit", webhook: .url("https://audit.example.com/"), events: [.reached], format: .json),
      NotificationTarget(
        name: "oncall", webhook: .secret(.environment("ONCALL")), events: NotificationTarget.Event.allCases,
        format: .json),
    ]
    return plan
  }

  /// Applies, and what the board says of it: "oncall held m0". Where `arrives` is false no message does.
  private func apply(
    _ bench: Bench, _ plan: MigrationPlan, _ memory: inout NoticeMemory, arrives: Bool = true,
    faults: FaultPlan = FaultPlan()
  ) -> [String] {
    bench.recorded.events.withLock { $0 = [] }
    _ = bench.apply(plan, faults: faults)
    var board = NoticeBoard(plan: plan, memory: memory)
    var said: [String] = []
    for event in bench.recorded.events.withLock({ $0 }) {
      for delivery in board.handle(event, at: bench.loop.wallNow()) {
        said.append("\(delivery.target) \(delivery.notice.event.rawValue) \(delivery.notice.migration)")
        if arrives { board.wasTold(delivery, at: bench.loop.wallNow()) }
      }
    }
    memory = board.memory
    return said
  }

  @Test("of an approval that is needed: once, and again for another configuration; never before it is what is missing")
  func approvals() {
    let plan = plan(.finalized, approval: .manual)
    let bench = Bench(plan)
    var memory = NoticeMemory()
    #expect(apply(bench, plan, &memory) == ["oncall approvalNeeded m0"])
    #expect(apply(bench, plan, &memory) == [])
    #expect(apply(bench, plan, &memory) == [])
    var changed = plan
    changed.migrations[name]?.resyncIntervalSeconds = 60
    #expect(apply(bench, changed, &memory) == ["oncall approvalNeeded m0"])
    bench.help(changed)
    #expect(apply(bench, changed, &memory) == ["audit reached m0", "oncall reached m0"])
    #expect(memory.told.map(\.event) == [.reached, .reached], "what was needed is needed no more")
    #expect(apply(bench, changed, &memory) == [])
  }

  @Test("of what did not arrive: the next run tells it, and only to whom it did not")
  func undelivered() {
    let plan = plan(.finalized, approval: .manual)
    let bench = Bench(plan)
    var memory = NoticeMemory()
    #expect(apply(bench, plan, &memory, arrives: false) == ["oncall approvalNeeded m0"])
    #expect(apply(bench, plan, &memory) == ["oncall approvalNeeded m0"])
    #expect(apply(bench, plan, &memory) == [])
  }

  @Test("of a step that failed: once, and not of the hold that it set; of a hold by a person: once")
  func failures() {
    let plan = plan(.finalized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.failingHooks["unmount"] = 1 }
    var memory = NoticeMemory()
    #expect(apply(bench, plan, &memory) == ["oncall failed m0"])
    #expect(apply(bench, plan, &memory) == [], "held, because of it")
    #expect(apply(bench, plan, &memory) == [])
    bench.help(plan)
    bench.world.state.withLock { $0.failingHooks["unmount"] = 1 }
    #expect(apply(bench, plan, &memory) == ["oncall failed m0"], "somebody resumed it, and it failed anew")
    #expect(apply(bench, plan, &memory) == [])
    bench.help(plan)
    #expect(apply(bench, plan, &memory) == ["audit reached m0", "oncall reached m0"])
    let operations = bench.operations(plan)
    let other = self.plan(.retired)
    _ = bench.loop.run { try? await operations.pause(name, why: "audit") }
    #expect(apply(bench, other, &memory) == ["oncall held m0"])
    #expect(apply(bench, other, &memory) == [])
  }

  @Test("of a host that can't be reached: once, however long; and what was told before is not told again after it")
  func outages() {
    let plan = plan(.finalized, approval: .manual)
    let bench = Bench(plan)
    var memory = NoticeMemory()
    #expect(apply(bench, plan, &memory) == ["oncall approvalNeeded m0"])
    bench.world.state.withLock { $0.unreachable = [HostName("h0")] }
    #expect(apply(bench, plan, &memory) == ["oncall failed m0"])
    #expect(apply(bench, plan, &memory) == [])
    bench.world.state.withLock { $0.unreachable = [] }
    #expect(apply(bench, plan, &memory) == [])
    bench.world.state.withLock { $0.unreachable = [HostName("h0")] }
    #expect(apply(bench, plan, &memory) == ["oncall failed m0"], "it is another outage")
  }

  @Test("of a phase: by the run that reached it, and by no other")
  func phases() {
    let plan = plan(.synchronized)
    let bench = Bench(plan)
    var memory = NoticeMemory()
    #expect(apply(bench, plan, &memory) == ["audit reached m0", "oncall reached m0"])
    #expect(apply(bench, plan, &memory) == [])
    var nothing = NoticeMemory()
    #expect(apply(bench, plan, &nothing) == [], "without a memory it is not told anew")
    let swung = self.plan(.cmotion)
    #expect(apply(bench, swung, &memory) == ["audit reached m0", "oncall reached m0"])
  }

  @Test("of another run's lease: nobody")
  func leases() {
    let plan = plan(.synchronized)
    let bench = Bench(plan)
    _ = bench.apply(plan, wait: .no, holder: "bob@host, run 7", faults: FaultPlan(crashAtCall: 25))
    var memory = NoticeMemory()
    let said = apply(bench, plan, &memory)
    #expect(!said.contains("oncall failed m0"), "\(said)")
  }

  @Test("of a swing to confirm: when it is made, and once more when its time runs out")
  func confirmations() throws {
    var plan = plan(.cmotion)
    plan.migrations[name]?.cutover.confirmWithinSeconds = 1800
    let now = WallTime(secondsSince1970: 1_000_000)
    let bench = Bench(plan)
    _ = bench.apply(plan)
    let services = bench.services
    let observer = ObserveRun(
      plan: plan, gateways: bench.world.gateways(for: RunIdentity(faults: FaultPlan())), services: services)
    var observation = try #require(bench.loop.run { await observer.observe() })
    let index = try #require(
      observation.hosts[HostName("h0")]?.agent?.sessions.firstIndex { $0.role == .source })
    observation.hosts[HostName("h0")]?.agent?.sessions[index].confirmBy = now.adding(seconds: 1800)
    var board = NoticeBoard(plan: plan, memory: NoticeMemory())
    let first = board.handle(observation, at: now)
    #expect(first.map(\.notice.event) == [.confirmationNeeded])
    #expect(first.first?.notice.advice.contains("cmcplan confirm m0") == true)
    for delivery in first { board.wasTold(delivery, at: now) }
    #expect(board.handle(observation, at: now.adding(seconds: 300)) == [])
    let last = board.handle(observation, at: now.adding(seconds: 1300))
    #expect(last.map(\.notice.event) == [.confirmationNeeded])
    #expect(last.first?.notice.message.contains("9 min are left") == true, "\(last)")
    for delivery in last { board.wasTold(delivery, at: now) }
    #expect(board.handle(observation, at: now.adding(seconds: 1700)) == [])
    observation.hosts[HostName("h0")]?.agent?.sessions[index].swingConfirmed = true
    var fresh = NoticeBoard(plan: plan, memory: NoticeMemory())
    #expect(fresh.handle(observation, at: now) == [])
  }

  @Test("of a window in which what is left does not fit; of one that will open: nobody")
  func windows() {
    var plan = plan(.cmotion)
    let now = WallTime(secondsSince1970: 1_795_406_400)
    let window = WeeklyWindow(
      days: Weekday.allCases, fromMinute: 0, toMinute: 1440, timeZone: "UTC", position: nil)
    plan.migrations[name]?.cutover.windows = [window]
    var entry = MigrationChanges(
      migration: name, reached: .reached(.synchronized), target: .cmotion, configurationDigest: "d")
    entry.waiting = [
      Waiting(reason: .window(opensAt: now.adding(seconds: 3600)), message: "it does not fit", advice: "widen it")
    ]
    entry.changes = [
      Change(action: .swing(name), towards: .cmotion, summary: "cMotion", why: "phase", waitsFor: 0)
    ]
    let changes = ChangeSet(
      plan: plan.metadata.id, planName: "p", observedAt: now, migrations: [entry], unmanaged: [], diagnostics: [])
    var board = NoticeBoard(plan: plan, memory: NoticeMemory())
    #expect(board.handle(.planned(changes, round: 1), at: now).map(\.notice.event) == [.windowMissed])
    #expect(board.handle(.planned(changes, round: 2), at: now) == [])
    plan.migrations[name]?.cutover.windows = [
      WeeklyWindow(days: [.sun], fromMinute: 0, toMinute: 1, timeZone: "UTC", position: nil)
    ]
    var closed = NoticeBoard(plan: plan, memory: NoticeMemory())
    #expect(closed.handle(.planned(changes, round: 1), at: now) == [])
  }
}
