import BlockModel

/// One of the buckets that the service counts requests by.
struct ThrottleBucket: Sendable, Hashable {
  /// Azure Resource Manager's own, and Compute's groups of operations by the names that its answers give them.
  enum Kind: String, Sendable, CaseIterable {
    case subscriptionReads = "subscription reads"
    case subscriptionWrites = "subscription writes"
    case subscriptionDeletes = "subscription deletes"
    case cheapReads = "LowCostGet"
    case lists = "HighCostGet"
    case machineWrites = "PutVM"
    case machineDisks = "AttachDetachVMDisks"
    case operations = "GetOperation"
    case diskWrites = "CreateUpdateDisks"
    case diskDeletes = "DeleteDisks"

    /// Whether Compute counts it, and not the manager in front of it.
    var isCompute: Bool {
      switch self {
      case .subscriptionReads, .subscriptionWrites, .subscriptionDeletes: false
      default: true
      }
    }
  }
  var kind: Kind
  /// Path of the machine in lower case; "" for what counts for the whole subscription.
  var machine = ""

  /// For the operator: "AttachDetachVMDisks of erp-db".
  var name: String {
    machine.isEmpty ? kind.rawValue : "\(kind.rawValue) of \(machine.split(separator: "/").last ?? "")"
  }

  /// Requests that it holds, and how fast it fills; nil where that isn't documented and only a refusal tells. Source:
  /// FACTS, throttling.
  var limits: (capacity: Double, perSecond: Double)? {
    switch (kind, machine.isEmpty) {
    case (.subscriptionReads, _): (250, 25)
    case (.subscriptionWrites, _), (.subscriptionDeletes, _): (200, 10)
    case (.cheapReads, false): (36, 12.0 / 60)
    case (.machineWrites, false), (.machineDisks, false): (12, 4.0 / 60)
    case (.operations, false): (45, 15.0 / 60)
    default: nil
    }
  }

  /// Which buckets a request is counted in. `resource`: path of what an operation's URL is about, nil for other requests.
  /// Compute counts by machine first, then for the whole subscription.
  static func buckets(_ method: HTTPRequest.Method, path: String, operationOf resource: String?) -> [ThrottleBucket] {
    let first: Kind =
      switch method {
      case .get: .subscriptionReads
      case .delete: .subscriptionDeletes
      case .put, .patch, .post: .subscriptionWrites
      }
    var found = [ThrottleBucket(kind: first)]
    let machine = machine(in: resource ?? path)
    guard let group = resource == nil ? group(method, path: path, isMachine: machine != nil) : .operations else {
      return found
    }
    if let machine { found.append(ThrottleBucket(kind: group, machine: machine)) }
    found.append(ThrottleBucket(kind: group))
    return found
  }

  /// Compute's group of operations; nil where another service answers.
  private static func group(_ method: HTTPRequest.Method, path: String, isMachine: Bool) -> Kind? {
    let plain = path.lowercased()
    if isMachine {
      return method == .get ? .cheapReads : plain.contains("/attachdetach") ? .machineDisks : .machineWrites
    }
    guard let type = plain.firstRange(of: "/microsoft.compute/disks") else { return nil }
    switch method {
    case .get: return plain[type.upperBound...].count > 1 ? .cheapReads : .lists
    case .delete: return .diskDeletes
    case .put, .patch, .post: return .diskWrites
    }
  }

  /// Which of a request's buckets a 429 is about: the one that the answer names. Nil where it names none: then nobody
  /// else is held up.
  static func refused(_ buckets: [ThrottleBucket], codes: [String], target: String?) -> ThrottleBucket? {
    // "SubscriptionRequestsThrottled" is the manager's own.
    if codes.contains(where: { $0.hasSuffix("RequestsThrottled") }) { return buckets.first { !$0.kind.isCompute } }
    let compute = buckets.filter(\.kind.isCompute)
    // "AttachDetachVMDisksResource" is the machine's; "…SubscriptionMaximum", "CreateUpdateDisks3Min" are everybody's.
    guard let target else { return compute.first }
    let isMachine = target.hasSuffix("Resource")
    return compute.first { target.hasPrefix($0.kind.rawValue) && $0.machine.isEmpty != isMachine } ?? compute.first
  }

  /// "/subscriptions/…/virtualmachines/erp-db" of a URL or path below it.
  private static func machine(in text: String) -> String? {
    let plain = text.lowercased().prefix { $0 != "?" }
    guard let start = plain.firstRange(of: "/subscriptions/")?.lowerBound,
      let type = plain.firstRange(of: "/virtualmachines/")
    else { return nil }
    let name = plain[type.upperBound...].prefix { $0 != "/" }
    return name.isEmpty ? nil : String(plain[start..<type.upperBound]) + name
  }
}

/// What is left in each bucket, as far as can be told: the documented rates, corrected by what the service's answers say
/// is left, and by its refusals. Pure; shared by all requests of one gateway.
///
/// Requests wait here before the service has to refuse them, because a refusal costs more than waiting would have.
struct ThrottleBudgets: Sendable {
  /// More machines than this aren't remembered: the fullest buckets are forgotten.
  static let bucketLimit = 10_000
  /// Time is rounded up to this, so that a bucket has surely filled when it is looked at again.
  static let graceSeconds = 0.01

  private struct Level: Sendable {
    var tokens: Double
    var at: MonotonicTime
    /// Taken and not answered yet: the service hasn't counted them all.
    var outstanding = 0
    /// The service said to come back then.
    var closedUntil: MonotonicTime?
  }
  private var levels: [ThrottleBucket: Level] = [:]
  /// False: the rates aren't known (an emulator, a private cloud), so only refusals are heeded.
  let knowsRates: Bool

  init(knowsRates: Bool) { self.knowsRates = knowsRates }

  struct Wait: Sendable, Equatable {
    var seconds: Double
    var bucket: ThrottleBucket
  }

  /// Takes one of each bucket and says how long to wait before sending; nil: at once. A bucket may be overdrawn: those
  /// who wait come one after the other, each in its own time.
  mutating func take(_ buckets: [ThrottleBucket], now: MonotonicTime) -> Wait? {
    var longest: Wait?
    for bucket in buckets {
      refill(bucket, now)
      let seconds = secondsUntilOne(bucket, now)
      if seconds > longest?.seconds ?? 0 { longest = Wait(seconds: seconds, bucket: bucket) }
      levels[bucket]?.tokens -= 1
      levels[bucket]?.outstanding += 1
    }
    return longest
  }

  /// Whether the service said meanwhile to come back later still.
  func stillClosed(_ buckets: [ThrottleBucket], now: MonotonicTime) -> Wait? {
    var longest: Wait?
    for bucket in buckets {
      guard let closed = levels[bucket]?.closedUntil, closed > now else { continue }
      let seconds = closed.seconds(since: now)
      if seconds > longest?.seconds ?? 0 { longest = Wait(seconds: seconds, bucket: bucket) }
    }
    return longest
  }

  /// What was taken is not sent after all.
  mutating func giveBack(_ buckets: [ThrottleBucket]) {
    lost(buckets)
    for bucket in buckets { levels[bucket]?.tokens += 1 }
  }

  private mutating func refill(_ bucket: ThrottleBucket, _ now: MonotonicTime) {
    guard var level = levels[bucket] else {
      if levels.count >= Self.bucketLimit { forgetFullest() }
      levels[bucket] = Level(tokens: bucket.limits?.capacity ?? .infinity, at: now)
      return
    }
    if let (capacity, perSecond) = bucket.limits {
      level.tokens = min(capacity, level.tokens + max(0, now.seconds(since: level.at)) * perSecond)
    }
    level.at = now
    if let closed = level.closedUntil, closed <= now { level.closedUntil = nil }
    levels[bucket] = level
  }

  private mutating func forgetFullest() {
    let idle = levels.filter { $0.value.outstanding == 0 && $0.value.closedUntil == nil }
    for bucket in idle.sorted(by: { $0.value.tokens > $1.value.tokens }).prefix(Self.bucketLimit / 2).map(\.key) {
      levels[bucket] = nil
    }
  }

  private func secondsUntilOne(_ bucket: ThrottleBucket, _ now: MonotonicTime) -> Double {
    guard let level = levels[bucket] else { return 0 }
    var seconds = 0.0
    if let closed = level.closedUntil, closed > now { seconds = closed.seconds(since: now) }
    if knowsRates, let limits = bucket.limits, level.tokens < 1 {
      seconds = max(seconds, (1 - level.tokens) / limits.perSecond + Self.graceSeconds)
    }
    return seconds
  }

  /// An answer came: `remaining` is what its headers say is left, by kind.
  mutating func answered(_ buckets: [ThrottleBucket], remaining: [ThrottleBucket.Kind: Int], now: MonotonicTime) {
    for bucket in buckets {
      refill(bucket, now)
      guard var level = levels[bucket] else { continue }
      level.outstanding = max(0, level.outstanding - 1)
      if let left = remaining[bucket.kind], let limits = bucket.limits {
        // What is still on its way will be taken from it.
        level.tokens = min(limits.capacity, Double(left - level.outstanding))
      }
      levels[bucket] = level
    }
  }

  /// No answer came: the service may have counted it or not.
  mutating func lost(_ buckets: [ThrottleBucket]) {
    for bucket in buckets {
      guard let outstanding = levels[bucket]?.outstanding else { continue }
      levels[bucket]?.outstanding = max(0, outstanding - 1)
    }
  }

  /// The service refused for want of tokens in `bucket`.
  mutating func refused(_ bucket: ThrottleBucket, retryAfterSeconds: Double, now: MonotonicTime) {
    refill(bucket, now)
    guard var level = levels[bucket] else { return }
    let until = now.adding(seconds: retryAfterSeconds)
    if bucket.limits != nil { level.tokens = min(level.tokens, 0) }
    level.closedUntil = max(level.closedUntil ?? until, until)
    levels[bucket] = level
  }

  /// What the headers of an answer say is left (FACTS, throttling).
  static func remaining(_ response: HTTPResponse) -> [ThrottleBucket.Kind: Int] {
    var found: [ThrottleBucket.Kind: Int] = [:]
    for (name, kind) in [
      ("reads", ThrottleBucket.Kind.subscriptionReads), ("writes", .subscriptionWrites),
      ("deletes", .subscriptionDeletes),
    ] {
      if let text = response.header("x-ms-ratelimit-remaining-subscription-\(name)"), let left = Int(text), left >= 0 {
        found[kind] = left
      }
    }
    let resource = response.header("x-ms-ratelimit-remaining-resource") ?? ""
    for part in resource.split(separator: ",").prefix(16) {
      let words = part.split(separator: ";")
      guard words.count == 2, let left = Int(words[1]), left >= 0, words[0].hasSuffix("Resource") else { continue }
      let name = words[0].split(separator: "/").last?.dropLast("Resource".count) ?? ""
      if let kind = ThrottleBucket.Kind(rawValue: String(name)) { found[kind] = left }
    }
    return found
  }
}
