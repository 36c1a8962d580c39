package import BlockModel
package import Replication

/// What sessions know together of the way that they share: its capacity, and who of them uses it. A share is of what
/// production leaves to migration as a whole, so each gets its part of that. Pure: the caller passes the time.
///
/// Capacity comes from probes: now and then one session sends some of its budget as fast as it goes, small and large in
/// turn, while the others stand still; the slope of a line through sizes and durations (`BurstSums`) is what production
/// left, free of the way there and back and of what a shaper's bucket or a disk's cache lets through at once.
package struct PaceGroup: Sendable {
  /// Of the time, so much may go to probes.
  package static let probingPart = 0.005
  /// What a small probe takes at the capacity that is known, in seconds; a large one takes twice that.
  package static let probeSeconds = 0.03
  /// In a row, where nothing is known, or what was known is no longer right.
  package static let searchProbes = 6
  package static let keptProbes = 12
  package static let memorySeconds = 180.0
  /// After one that came to nothing.
  package static let retrySeconds = 0.5
  /// A probe, or what is paced, that takes so much more or less than it should, twice in a row, tells of another capacity.
  package static let surprise = 0.25
  /// A surprising probe is followed by another after so long.
  package static let doubtSeconds = 1.0
  /// At most so often everything is forgotten for a surprise.
  package static let searchPauseSeconds = 10.0
  /// The slope is believed so far from bytes by time as a whole.
  package static let mostCorrection = 2.0
  /// Who wasn't seen for so long takes no part.
  package static let absentSeconds = 0.5
  /// How long one may keep the turn, and the others still.
  package static let turnSeconds = 2.0

  private struct Member: Sendable {
    var isBusy: Bool
    var at: MonotonicTime
  }
  private struct Probe: Sendable {
    var at: MonotonicTime
    var bursts: BurstSums
    var bytes: Double
    /// While something was going through.
    var busySeconds: Double
  }

  private var members: [SessionID: Member] = [:]
  private var notedAt: MonotonicTime?
  private var turn: (session: SessionID, until: MonotonicTime)?
  private var probes: [Probe] = []
  private var probeCount = 0
  private var searchLeft = PaceGroup.searchProbes
  private var nextProbeAt: MonotonicTime?
  private var lastSearchAt: MonotonicTime?
  private var isInDoubt = false
  /// Of what production leaves, all sessions together; nil where nobody knows yet.
  package private(set) var capacityBytesPerSecond: Double?

  package init() {}

  // MARK: Members

  /// `isBusy`: something of it is on its way; nil where it has nothing to send.
  package mutating func note(_ session: SessionID, isBusy: Bool?, now: MonotonicTime) {
    members[session] = isBusy.map { Member(isBusy: $0, at: now) }
    if isBusy == nil { yieldTurn(session) }
    notedAt = now
    members = members.filter { now.seconds(since: $0.value.at) <= Self.absentSeconds }
  }

  /// Nobody was here for so long that what it knows counts for nothing.
  package func isForgotten(_ now: MonotonicTime) -> Bool {
    notedAt.map { now.seconds(since: $0) > Self.memorySeconds } ?? true
  }

  /// With itself.
  package func memberCount(with session: SessionID) -> Int { members.count + (members[session] == nil ? 1 : 0) }

  /// Nothing of any session is on its way.
  package var isStill: Bool { !members.contains { $0.value.isBusy } }

  /// Somebody else's probe is not to meet anything of this session.
  package func mustStandStill(_ session: SessionID, now: MonotonicTime) -> Bool {
    turn.map { $0.session != session && now < $0.until } ?? false
  }

  // MARK: Probes

  /// Whether it is this session's turn to send one, which it then has until it tells the end.
  package mutating func mayProbe(_ session: SessionID, now: MonotonicTime) -> Bool {
    if let turn, turn.session != session, now < turn.until { return false }
    guard nextProbeAt.map({ now >= $0 }) ?? true else { return false }
    turn = (session, now.adding(seconds: Self.turnSeconds))
    return true
  }

  package mutating func yieldTurn(_ session: SessionID) {
    if turn?.session == session { turn = nil }
  }

  /// In pieces of `unitBytes`, at least eight. `bytesPerSecond`: of the session that saves up for it, and repays it.
  package func probeBytes(unitBytes: Double, bytesPerSecond: Double) -> Double {
    let most = RateGovernor.savedSeconds * bytesPerSecond
    let small = max(8 * unitBytes, min((capacityBytesPerSecond ?? 0) * Self.probeSeconds, most))
    // Small and large in an order that falls in step with nothing (Thue and Morse's).
    return ((probeCount.nonzeroBitCount % 2 == 0 ? small : 2 * small) / unitBytes).rounded() * unitBytes
  }

  /// `before`, `after`: what was seen of the session's copying around it.
  package mutating func probed(
    from before: PaceObservation, to after: PaceObservation, by session: SessionID, now: MonotonicTime
  ) {
    yieldTurn(session)
    let bytes = Double(after.busyBytes &- min(before.busyBytes, after.busyBytes))
    let seconds = after.busySeconds - before.busySeconds
    guard bytes > 0, seconds > 0 else {
      nextProbeAt = now.adding(seconds: Self.retrySeconds)
      return
    }
    probeCount += 1
    let burst = after.bursts - before.bursts
    let took = max(seconds, burst.seconds)
    let wasInDoubt = isInDoubt
    isInDoubt = searchLeft == 0 && isSurprising(burst)
    if wasInDoubt, isInDoubt { search(now) }
    probes.removeAll { now.seconds(since: $0.at) > Self.memorySeconds }
    probes.append(Probe(at: now, bursts: burst, bytes: bytes, busySeconds: seconds))
    if probes.count > Self.keptProbes { probes.removeFirst() }
    searchLeft = max(0, searchLeft - 1)
    let plain = probes.reduce(0) { $0 + $1.bytes } / probes.reduce(0) { $0 + $1.busySeconds }
    let slope = sums.bytesPerSecond ?? plain
    capacityBytesPerSecond = min(max(slope, plain / Self.mostCorrection), plain * Self.mostCorrection)
    let pause = isInDoubt ? Self.doubtSeconds : took / Self.probingPart
    nextProbeAt = searchLeft > 0 ? now : now.adding(seconds: pause)
  }

  private var sums: BurstSums { probes.reduce(BurstSums()) { $0 + $1.bursts } }

  /// By the line through the probes so far.
  private func isSurprising(_ burst: BurstSums) -> Bool {
    guard let capacity = capacityBytesPerSecond, burst.seconds > 0,
      let expected = sums.seconds(of: burst.bytes, at: capacity)
    else { return false }
    return abs(burst.seconds / expected - 1) > Self.surprise
  }

  /// What was known is right no longer: finds it anew.
  package mutating func search(_ now: MonotonicTime) {
    guard lastSearchAt.map({ now.seconds(since: $0) >= Self.searchPauseSeconds }) ?? true else { return }
    lastSearchAt = now
    probes = []
    searchLeft = Self.searchProbes
    isInDoubt = false
    nextProbeAt = now
  }
}
