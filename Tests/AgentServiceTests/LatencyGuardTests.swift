import AgentProtocol
import AgentService
import BlockModel
import Replication
import Testing

private func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: 1_000_000).adding(seconds: seconds) }

/// An application that is slowed by a copier in proportion to what that moves, ten times a second.
private struct World {
  var guardian: LatencyGuard
  var governor: RateGovernor
  var group = PaceGroup()
  var sums = LatencySums()
  var meter = PaceObservation()
  var now = 0.0
  /// Bytes a second that the way holds, and requests a second.
  var capacity = 200e6
  var requestsPerSecond = 500.0
  var quietLatency = 0.001
  /// Of a request, where migration takes all of the way.
  var loadedLatency = 0.003
  var rate = 0.0
  var factors: [(at: Double, factor: Double, rate: Double)] = []
  private var budget: Double?

  init(bound: Double?, share: Double? = nil) {
    guardian = LatencyGuard(bound: bound)
    governor = RateGovernor(
      session: SessionID("plan/m"), limits: RateLimits(share: share, networkLimitBytesPerSecond: nil),
      transferBytes: 512 << 10, now: at(0))
  }

  mutating func go(_ seconds: Double, copying: Bool = true) {
    let ticks = Int((seconds * 10).rounded())
    for _ in 0..<ticks {
      now += 0.1
      let factor = guardian.tick(sums, beside: [meter], now: at(now))
      switch governor.tick(meter, yield: factor, in: &group, now: at(now)) {
      case .unlimited: budget = nil
      case .grant(let bytes): budget = (budget ?? 0) + Double(bytes)
      case nil: break
      }
      // What the next tenth of a second brings.
      let room = capacity * 0.1
      let moved = copying ? min(room, max(0, budget ?? room)) : 0
      budget = budget.map { $0 - moved }
      meter.busyBytes += UInt64(moved)
      meter.busySeconds += moved / capacity
      meter.budgetBytes = budget.map { Int64($0) }
      rate = moved / 0.1
      let requests = requestsPerSecond * 0.1
      sums.requests += UInt64(requests)
      sums.seconds += requests * (quietLatency + (loadedLatency - quietLatency) * moved / room)
      factors.append((now, factor, rate))
    }
  }

  func meanRate(from start: Double) -> Double {
    let some = factors.filter { $0.at > start }
    return some.reduce(0) { $0 + $1.rate } / Double(max(1, some.count))
  }
}

@Suite("Migration yields to an application that it slows down")
struct LatencyGuardTests {
  @Test("Within 250 ms of the application getting slower, migration goes slower")
  func inTime() {
    var world = World(bound: 0.2)
    world.loadedLatency = 0.001
    world.go(5)
    #expect(world.factors.last?.factor == 1, "it does no harm yet")
    let before = world.rate
    world.loadedLatency = 0.01
    let start = world.now
    world.go(1)
    let first = world.factors.first { $0.at > start && $0.rate < before * 0.75 }
    #expect((first?.at ?? .infinity) - start <= 0.25)
  }

  @Test("The application stays near its bound, and migration goes on as fast as that allows")
  func holds() {
    var world = World(bound: 0.2)
    world.go(60)
    let sums = world.sums
    world.go(30)
    let mean = (world.sums.seconds - sums.seconds) / Double(world.sums.requests - sums.requests)
    #expect(mean < 0.001 * 1.35, "\(mean)")
    #expect(world.meanRate(from: 60) > RateGovernor.floorBytesPerSecond)
    #expect(
      abs((world.guardian.baselineSecondsPerRequest ?? 0) - 0.001) < 0.0001, "the load isn't taken for the baseline")
  }

  @Test("Without a bound nothing yields, however slow the application is")
  func unbounded() {
    var world = World(bound: nil)
    world.loadedLatency = 1
    world.go(20)
    #expect(world.factors.allSatisfy { $0.factor == 1 })
    #expect(world.meanRate(from: 1) == world.capacity)
  }

  @Test("An application that isn't slowed costs migration half a per cent, for the baseline")
  func pauses() {
    var world = World(bound: 0.2)
    world.loadedLatency = world.quietLatency
    world.go(300)
    let pauses = world.factors.count { $0.factor == 0 }
    #expect(pauses >= 4 && Double(pauses) <= 0.006 * Double(world.factors.count), "\(pauses)")
    #expect(world.meanRate(from: 0) > 0.99 * world.capacity)
  }

  @Test("From a share it yields too, and has all of it again once the application is well")
  func share() {
    var world = World(bound: 0.2, share: 0.5)
    world.go(20)
    #expect(world.guardian.isYielding)
    #expect(world.meanRate(from: 10) < 0.3 * world.capacity)
    world.loadedLatency = world.quietLatency
    world.go(20)
    #expect(!world.guardian.isYielding)
    #expect(abs(world.meanRate(from: 30) - 0.5 * world.capacity) < 0.05 * world.capacity)
  }

  @Test("What is slow to arrive is on its way all the same, and no gap")
  func slowLink() {
    var guardian = LatencyGuard(bound: 0.2)
    var sums = LatencySums()
    var pace = PaceObservation()
    pace.isBusy = true
    for tick in 0..<20 {
      sums.requests += 50
      sums.seconds += 0.05
      _ = guardian.tick(sums, beside: [pace], now: at(Double(tick) / 10))
    }
    #expect(guardian.baselineSecondsPerRequest == nil)
  }

  @Test("An application that falls silent gives all back, and one that never was takes nothing")
  func silence() {
    var world = World(bound: 0.1)
    world.loadedLatency = 0.02
    world.go(20)
    #expect(world.guardian.isYielding)
    world.requestsPerSecond = 0
    world.go(10)
    #expect(!world.guardian.isYielding)
    var silent = World(bound: 0.1)
    silent.requestsPerSecond = 0
    silent.go(100)
    #expect(silent.factors.allSatisfy { $0.factor == 1 })
  }

  @Test("However slow it gets, migration keeps its floor")
  func floor() {
    var world = World(bound: 0.01)
    world.loadedLatency = 5
    world.go(60)
    #expect(world.meanRate(from: 30) >= RateGovernor.floorBytesPerSecond * 0.8)
  }

  @Test("Requests that are not answered at all count as slow")
  func stuck() {
    var world = World(bound: 0.2)
    world.loadedLatency = world.quietLatency
    world.go(5)
    world.requestsPerSecond = 0
    world.sums.oldestWaitSeconds = 0.5
    world.go(0.2)
    #expect(world.guardian.isYielding)
  }

  @Test("A bound that goes away frees migration at once")
  func change() {
    var world = World(bound: 0.1)
    world.loadedLatency = 0.02
    world.go(20)
    world.guardian.bound = nil
    world.go(0.2)
    #expect(world.factors.last?.factor == 1)
    #expect(world.rate == world.capacity)
  }
}
