/// A bucket that requests take tokens out of and that time fills again.
struct TokenBucket: Sendable, Equatable {
  let capacity: Double
  let refillPerSecond: Double
  private var level: Double
  private var at: Double

  init(capacity: Double, refillPerSecond: Double, now: Double) {
    self.capacity = capacity
    self.refillPerSecond = refillPerSecond
    level = capacity
    at = now
  }

  /// Tokens left after taking one, or how many seconds until there is one.
  mutating func take(now: Double) -> Result<Int, Empty> {
    level = min(capacity, level + max(0, now - at) * refillPerSecond)
    at = now
    guard level >= 1 else { return .failure(Empty(secondsUntilNext: (1 - level) / refillPerSecond)) }
    level -= 1
    return .success(Int(level))
  }

  struct Empty: Error, Sendable, Equatable {
    var secondsUntilNext: Double
  }
}

/// All buckets of one emulator; in memory only, so a restart fills them.
struct Throttle: Sendable {
  /// What a request takes from, and what its headers call it.
  struct Rule: Sendable {
    /// Name of the bucket, with the resource that it belongs to.
    var key: String
    var headerName: String
    var capacity: Double
    var refillPerSecond: Double
  }

  static let bucketLimit = 10_000
  private var buckets: [String: TokenBucket] = [:]
  let timeScale: Double
  let isActive: Bool

  init(timeScale: Double, isActive: Bool) {
    self.timeScale = timeScale
    self.isActive = isActive
  }

  /// What is left, or after how many seconds to come back.
  mutating func take(_ rule: Rule, now: Double) -> Result<Int, TokenBucket.Empty> {
    guard isActive else { return .success(Int(rule.capacity) - 1) }
    if buckets.count >= Self.bucketLimit { buckets.removeAll() }
    var bucket =
      buckets[rule.key]
      ?? TokenBucket(capacity: rule.capacity, refillPerSecond: rule.refillPerSecond * timeScale, now: now)
    defer { buckets[rule.key] = bucket }
    return bucket.take(now: now)
  }
}

/// The limits of FACTS "Throttling": ARM's for the subscription, Compute's for a resource.
extension Throttle.Rule {
  /// The subscription's bucket, and the headers that tell what is left of it. Machines' answers tell of a second,
  /// global one.
  static func subscription(_ request: EmulatorRequest) -> (rule: Throttle.Rule, headers: [String]) {
    let prefix = "x-ms-ratelimit-remaining-subscription"
    let path = request.folded
    let isMachine = path.contains("virtualmachines") || path.contains("operations")
    func rule(_ key: String, _ capacity: Double, _ refill: Double) -> (Throttle.Rule, [String]) {
      let global = isMachine ? ["\(prefix)-global-\(key)"] : []
      return (
        Throttle.Rule(key: key, headerName: "", capacity: capacity, refillPerSecond: refill),
        ["\(prefix)-\(key)"] + global
      )
    }
    switch request.method {
    case "GET": return rule("reads", 250, 25)
    case "DELETE": return rule("deletes", 200, 10)
    default: return rule("writes", 200, 10)
    }
  }

  static func windows(_ name: String, threeMinutes: Double, thirtyMinutes: Double) -> [Throttle.Rule] {
    [
      Throttle.Rule(
        key: "\(name)3Min", headerName: "\(name)3Min", capacity: threeMinutes, refillPerSecond: threeMinutes / 180),
      Throttle.Rule(
        key: "\(name)30Min", headerName: "\(name)30Min", capacity: thirtyMinutes,
        refillPerSecond: thirtyMinutes / 1800),
    ]
  }

  static func resource(
    _ name: String, of resource: String, capacity: Double, perMinute: Double, subscription: Double
  ) -> [Throttle.Rule] {
    [
      Throttle.Rule(
        key: "\(name)/\(resource)", headerName: "\(name)Resource", capacity: capacity,
        refillPerSecond: perMinute / 60),
      Throttle.Rule(
        key: name, headerName: "\(name)SubscriptionMaximum", capacity: subscription,
        refillPerSecond: subscription / 60),
    ]
  }

  static let diskWrite = windows("CreateUpdateDisks", threeMinutes: 3000, thirtyMinutes: 25_000)
  static let diskRead = windows("LowCostGet", threeMinutes: 15_000, thirtyMinutes: 120_000)
  static let diskList = windows("HighCostGet", threeMinutes: 1000, thirtyMinutes: 8000)
  static let diskDelete = windows("DeleteDisks", threeMinutes: 3000, thirtyMinutes: 25_000)
  static let diskOperation = windows("GetOperation", threeMinutes: 50_000, thirtyMinutes: 400_000)

  static func machineRead(_ machine: String) -> [Throttle.Rule] {
    resource("LowCostGet", of: machine, capacity: 36, perMinute: 12, subscription: 24_000)
  }
  static func machineAttach(_ machine: String) -> [Throttle.Rule] {
    resource("AttachDetachVMDisks", of: machine, capacity: 12, perMinute: 4, subscription: 1500)
  }
  static func machineWrite(_ machine: String) -> [Throttle.Rule] {
    resource("PutVM", of: machine, capacity: 12, perMinute: 4, subscription: 1500)
  }
  static func machineDelete(_ machine: String) -> [Throttle.Rule] {
    resource("DeleteVM", of: machine, capacity: 12, perMinute: 4, subscription: 1500)
  }
  static func machineOperation(_ machine: String) -> [Throttle.Rule] {
    resource("GetOperation", of: machine, capacity: 45, perMinute: 15, subscription: 15_000)
  }
}
