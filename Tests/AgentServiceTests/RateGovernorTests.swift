import AgentProtocol
import AgentService
import BlockModel
import Replication
import TestSupport
import Testing

/// A copier that does as its machine does (a window, a budget that the last piece may overdraw), on a link of a known
/// width and length that it shares with others. A millisecond a step.
private struct Copier {
  static let piece = 128.0 * 1024
  static let window = 16.0 * 1024 * 1024
  var governor: RateGovernor
  var meter = BusyMeter()
  var budget: Double?
  var onTheirWay = 0
  var delivered = 0.0
  var hasWork = true

  init(_ limits: RateLimits, number: Int = 0) {
    governor = RateGovernor(
      session: SessionID("plan/m\(number)"), limits: limits, transferBytes: Int(Self.piece), now: at(0))
  }

  mutating func tick(_ now: Double, in group: inout PaceGroup) {
    var pace = PaceObservation()
    pace.busyBytes = meter.bytes
    pace.busySeconds = meter.seconds
    pace.bursts = meter.bursts
    pace.budgetBytes = budget.map { Int64($0) }
    pace.isBusy = onTheirWay > 0
    switch governor.tick(pace, in: &group, now: at(now)) {
    case .grant(let bytes)?: budget = (budget ?? 0) + Double(bytes)
    case .unlimited?: budget = nil
    case nil: break
    }
  }

  var maySend: Bool {
    hasWork && Double(onTheirWay) * Self.piece < Self.window && (budget.map { $0 > 0 } ?? true)
  }
}

private func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: 1_000_000).adding(seconds: seconds) }

/// First in, first out over two connections that share it, so wide and so long. What production takes comes off the width.
private struct SimulatedLink {
  static let lanes = 2
  var bytesPerSecond: Double
  let delaySeconds: Double
  /// What it lets through at once after it stood still: a shaper's bucket, or a disk's cache.
  let bucketBytes: Double
  private var tokens: Double
  private var queue: [(copier: Int, left: Double)] = []
  private var answers: [(at: Double, copier: Int)] = []

  init(bytesPerSecond: Double, delaySeconds: Double, bucketBytes: Double = 0) {
    self.bytesPerSecond = bytesPerSecond
    self.delaySeconds = delaySeconds
    self.bucketBytes = bucketBytes
    tokens = bucketBytes
  }

  mutating func send(_ bytes: Double, from copier: Int) { queue.append((copier, bytes)) }

  /// What a millisecond up to `now` lets through, and the answers that came by then.
  mutating func step(to now: Double) -> [(at: Double, copier: Int)] {
    var room = tokens + bytesPerSecond / 1000
    defer { tokens = min(room, bucketBytes) }
    while room > 1e-6, !queue.isEmpty {
      let active = min(Self.lanes, queue.count)
      let part = min(queue[..<active].map(\.left).min() ?? 0, room / Double(active))
      room -= part * Double(active)
      for index in (0..<active).reversed() {
        queue[index].left -= part
        guard queue[index].left < 1e-3 else { continue }
        answers.append((now - min(0.001, room / bytesPerSecond) + delaySeconds, queue.remove(at: index).copier))
      }
    }
    let count = answers.prefix { $0.at <= now }.count
    defer { answers.removeFirst(count) }
    return Array(answers.prefix(count))
  }
}

private struct Run {
  var copiers: [Copier]
  var link: SimulatedLink
  var group = PaceGroup()
  /// By copier: delivered bytes at every hundredth of a second.
  var history: [[Double]]
  private var random: SeededRandom
  private var now = 0.0
  private var nextTick: [Double]
  private var turn = 0

  init(_ copiers: [Copier], _ link: SimulatedLink, seed: UInt64 = 1) {
    self.copiers = copiers
    self.link = link
    for index in copiers.indices { self.copiers[index].meter.delaySeconds = link.delaySeconds }
    history = Array(repeating: [], count: copiers.count)
    random = SeededRandom(seed: seed)
    nextTick = copiers.indices.map { 0.001 * Double($0 + 1) }
    // Limits hold before the first byte.
    for index in copiers.indices { self.copiers[index].tick(0, in: &group) }
  }

  mutating func go(_ seconds: Double) {
    for _ in 0..<Int(seconds * 1000) { step() }
  }

  private mutating func step() {
    now += 0.001
    for answer in link.step(to: now) {
      copiers[answer.copier].onTheirWay -= 1
      copiers[answer.copier].delivered += Copier.piece
      copiers[answer.copier].meter.end(UInt64(Copier.piece), at: at(answer.at))
    }
    for index in copiers.indices where now >= nextTick[index] {
      copiers[index].tick(now, in: &group)
      // Ticks come late, as they do.
      let seconds = copiers[index].governor.isPacing ? 0.009 : 0.065
      nextTick[index] = now + seconds + Double(random.next() % 20) / 1000 * (seconds / 0.065)
    }
    // Whoever may send takes turns, as connections in one socket's queue do.
    var isIdle = false
    while !isIdle {
      isIdle = true
      for offset in copiers.indices {
        let index = (turn + offset) % copiers.count
        guard copiers[index].maySend else { continue }
        isIdle = false
        copiers[index].onTheirWay += 1
        copiers[index].budget = copiers[index].budget.map { $0 - Copier.piece }
        copiers[index].meter.begin(at: at(now))
        link.send(Copier.piece, from: index)
      }
      turn += 1
    }
    if Int((now * 1000).rounded()) % 10 == 0 {
      for index in copiers.indices { history[index].append(copiers[index].delivered) }
    }
  }

  /// The largest error of any five seconds from `start` on, as a part of `rate`.
  func worstError(of rate: Double, from start: Double, copier: Int = 0) -> Double {
    let samples = history[copier]
    var worst = 0.0
    for begin in stride(from: Int(start * 100), to: samples.count - 500, by: 1) {
      worst = max(worst, abs((samples[begin + 500] - samples[begin]) / 5 - rate) / rate)
    }
    return worst
  }
}

@Suite("How fast the copier may go")
struct RateGovernorTests {
  static let shares = [0.25, 0.5, 0.75]
  /// Bytes a second and seconds to the other end and back.
  static let links: [(Double, Double)] = [(50e6, 0.0005), (125e6, 0.02), (400e6, 0.001), (1.2e9, 0.0002)]

  @Test(
    "A share is exact within 5 % over any five seconds, whatever the link, and whatever it lets through at once",
    arguments: links, [0, 256 << 10])
  func shareIsExact(_ link: (Double, Double), _ bucket: Int) {
    for share in Self.shares { check(share, link, bucket) }
  }

  private func check(_ share: Double, _ link: (Double, Double), _ bucket: Int) {
    var run = Run(
      [Copier(RateLimits(share: share, networkLimitBytesPerSecond: nil))],
      SimulatedLink(bytesPerSecond: link.0, delaySeconds: link.1, bucketBytes: Double(bucket)))
    run.go(30)
    let worst = run.worstError(of: share * link.0, from: 1)
    #expect(worst <= 0.05, "off by \(worst * 100) % of \(share) of \(link.0) B/s")
    // Nor is the beginning, of which nothing is known yet, more than that.
    #expect(run.history[0][500] <= 5 * share * link.0 * 1.05)
  }

  @Test("What production takes of the link comes off before the share", arguments: shares)
  func productionGoesFirst(_ share: Double) {
    var run = Run(
      [Copier(RateLimits(share: share, networkLimitBytesPerSecond: nil))],
      SimulatedLink(bytesPerSecond: 125e6, delaySeconds: 0.001))
    run.go(10)
    run.link.bytesPerSecond = 50e6
    run.go(25)
    let busy = run.worstError(of: share * 50e6, from: 10 + 5 + 5)
    #expect(busy <= 0.05, "off by \(busy * 100) %")
    run.link.bytesPerSecond = 125e6
    run.go(25)
    let free = run.worstError(of: share * 125e6, from: 35 + 5 + 5)
    #expect(free <= 0.05, "off by \(free * 100) %")
  }

  @Test("A network limit is kept over any five seconds, below the share and without one")
  func networkLimit() {
    for share in [nil, 0.5] {
      var run = Run(
        [Copier(RateLimits(share: share, networkLimitBytesPerSecond: 20_000_000))],
        SimulatedLink(bytesPerSecond: 125e6, delaySeconds: 0.001))
      run.go(20)
      let worst = run.worstError(of: 20e6, from: 1)
      #expect(worst <= 0.05, "off by \(worst * 100) %")
    }
  }

  @Test("After a pause nothing is made up for")
  func pauseIsNotSavedUp() {
    var run = Run(
      [Copier(RateLimits(share: 0.5, networkLimitBytesPerSecond: nil))],
      SimulatedLink(bytesPerSecond: 50e6, delaySeconds: 0.001))
    run.go(5)
    run.copiers[0].hasWork = false
    run.go(20)
    run.copiers[0].hasWork = true
    run.go(10)
    let samples = run.history[0]
    let most = stride(from: 2000, to: samples.count - 500, by: 1).map { samples[$0 + 500] - samples[$0] }.max() ?? 0
    #expect(most <= 5 * 25e6 * 1.05)
  }

  @Test("Limits change at once, and none means none")
  func liveChange() {
    var run = Run(
      [Copier(RateLimits(share: 0.25, networkLimitBytesPerSecond: nil))],
      SimulatedLink(bytesPerSecond: 100e6, delaySeconds: 0.001))
    run.go(6)
    run.copiers[0].governor.change(limits: RateLimits(share: nil, networkLimitBytesPerSecond: nil))
    run.go(6)
    #expect(run.copiers[0].budget == nil)
    #expect(run.worstError(of: 100e6, from: 6.9) <= 0.05)
    run.copiers[0].governor.change(limits: RateLimits(share: 0.5, networkLimitBytesPerSecond: nil))
    run.go(12)
    #expect(run.worstError(of: 50e6, from: 13.5) <= 0.05, "the capacity was known already")
  }

  @Test("64 sessions on one link get the same, and none starves", arguments: [nil, 0.5])
  func fairness(_ share: Double?) {
    var run = Run(
      (0..<64).map { Copier(RateLimits(share: share, networkLimitBytesPerSecond: nil), number: $0) },
      SimulatedLink(bytesPerSecond: 1.2e9, delaySeconds: 0.001))
    run.go(4)
    let before = run.copiers.map(\.delivered)
    run.go(4)
    let got = zip(run.copiers, before).map { $0.delivered - $1 }
    let sum = got.reduce(0, +)
    let jain = sum * sum / (64 * got.reduce(0) { $0 + $1 * $1 })
    #expect(jain >= 0.95, "Jain's index is \(jain)")
    #expect(got.allSatisfy { $0 > sum / 64 / 2 })
  }
}
