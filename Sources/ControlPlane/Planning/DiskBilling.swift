package import MigrationModel

/// What a disk is billed for. Sizes, IOPS and MB/s, never money: prices differ by region, agreement and month.
///
/// Source: FACTS, disks (tiers of Premium SSD; baselines of Premium SSD v2 and Ultra).
package struct DiskBilling: Sendable, Equatable {
  /// "P20"; nil where the SKU has no tiers.
  package var tier: String?
  /// The size that is paid for, at least the disk's own.
  package var billedGiB: Int
  package var iops: Int?
  package var megabytesPerSecond: Int?
  /// IOPS and MB/s that are paid for beside the size; nil where they come with it.
  package var extraIOPS: Int?
  package var extraMegabytesPerSecond: Int?
  /// What a person would want to know before paying, such as a size just over a tier's edge; nil: nothing.
  package var hint: String?

  /// A size up to so much over a tier's edge is called just over it.
  package static let edgeShare = 0.10
}

private struct DiskTier: Sendable {
  var name: String
  var gib: Int
  var iops: Int
  var megabytesPerSecond: Int
}

private let premiumTiers: [DiskTier] = [
  DiskTier(name: "P1", gib: 4, iops: 120, megabytesPerSecond: 25),
  DiskTier(name: "P2", gib: 8, iops: 120, megabytesPerSecond: 25),
  DiskTier(name: "P3", gib: 16, iops: 120, megabytesPerSecond: 25),
  DiskTier(name: "P4", gib: 32, iops: 120, megabytesPerSecond: 25),
  DiskTier(name: "P6", gib: 64, iops: 240, megabytesPerSecond: 50),
  DiskTier(name: "P10", gib: 128, iops: 500, megabytesPerSecond: 100),
  DiskTier(name: "P15", gib: 256, iops: 1100, megabytesPerSecond: 125),
  DiskTier(name: "P20", gib: 512, iops: 2300, megabytesPerSecond: 150),
  DiskTier(name: "P30", gib: 1024, iops: 5000, megabytesPerSecond: 200),
  DiskTier(name: "P40", gib: 2048, iops: 7500, megabytesPerSecond: 250),
  DiskTier(name: "P50", gib: 4096, iops: 7500, megabytesPerSecond: 250),
  DiskTier(name: "P60", gib: 8192, iops: 16000, megabytesPerSecond: 500),
  DiskTier(name: "P70", gib: 16384, iops: 18000, megabytesPerSecond: 750),
  DiskTier(name: "P80", gib: 32767, iops: 20000, megabytesPerSecond: 900),
]

/// What a disk of this SKU, size and performance is billed for. `gib` ≥ 1; `iops` and `megabytesPerSecond` as the plan
/// asks for them. Sizes past the SKU's largest are billed as they are: validation refuses them elsewhere.
package func diskBilling(
  _ sku: ManagedDisk.SKU, gib: Int, iops: Int? = nil, megabytesPerSecond: Int? = nil
) -> DiskBilling {
  switch sku {
  case .premium, .premiumZoneRedundant: premiumBilling(gib)
  case .standardHDD: tieredBilling(gib, letter: "S", smallest: 32)
  case .standardSSD, .standardSSDZoneRedundant: tieredBilling(gib, letter: "E", smallest: 4)
  case .premiumV2:
    performanceBilling(
      gib, iops: iops ?? 3000, megabytesPerSecond: megabytesPerSecond ?? 125, freeIOPS: 3000, freeRate: 125)
  case .ultra:
    performanceBilling(
      ultraSize(gib), iops: iops ?? 100, megabytesPerSecond: megabytesPerSecond ?? 13, freeIOPS: 0, freeRate: 0)
  }
}

private func premiumBilling(_ gib: Int) -> DiskBilling {
  guard let index = premiumTiers.firstIndex(where: { gib <= $0.gib }) else { return DiskBilling(billedGiB: gib) }
  let tier = premiumTiers[index]
  return DiskBilling(
    tier: tier.name, billedGiB: tier.gib, iops: tier.iops, megabytesPerSecond: tier.megabytesPerSecond,
    hint: index == 0 ? nil : edgeHint(gib, over: premiumTiers[index - 1], pays: tier))
}

/// Standard disks come in the sizes of Premium's tiers, with letters of their own.
private func tieredBilling(_ gib: Int, letter: String, smallest: Int) -> DiskBilling {
  let tiers = premiumTiers.filter { $0.gib >= smallest }
    .map { DiskTier(name: letter + $0.name.dropFirst(), gib: $0.gib, iops: 0, megabytesPerSecond: 0) }
  guard let index = tiers.firstIndex(where: { gib <= $0.gib }) else { return DiskBilling(billedGiB: gib) }
  return DiskBilling(
    tier: tiers[index].name, billedGiB: tiers[index].gib,
    hint: index == 0 ? nil : edgeHint(gib, over: tiers[index - 1], pays: tiers[index]))
}

private func edgeHint(_ gib: Int, over lower: DiskTier, pays tier: DiskTier) -> String? {
  guard Double(gib - lower.gib) <= Double(lower.gib) * DiskBilling.edgeShare else { return nil }
  return "\(gib - lower.gib) GiB over \(lower.name): \(lower.gib) GiB or less would cost \(lower.name), "
    + "this size pays for \(tier.name)"
}

/// Ultra is billed by the next of 4, 8, 16, 32, 64, 128, 256 and 512 GiB, then by the next TiB.
private func ultraSize(_ gib: Int) -> Int {
  for size in [4, 8, 16, 32, 64, 128, 256, 512] where gib <= size { return size }
  return (gib + 1023) / 1024 * 1024
}

private func performanceBilling(
  _ gib: Int, iops: Int, megabytesPerSecond: Int, freeIOPS: Int, freeRate: Int
) -> DiskBilling {
  DiskBilling(
    billedGiB: gib, iops: iops, megabytesPerSecond: megabytesPerSecond, extraIOPS: max(0, iops - freeIOPS),
    extraMegabytesPerSecond: max(0, megabytesPerSecond - freeRate))
}

extension DiskBilling {
  /// "billed as P20: 512 GiB, 2300 IOPS, 150 MB/s" and what else it costs.
  package var text: String {
    var parts = ["\(billedGiB) GiB"]
    if let iops { parts.append("\(iops) IOPS" + Self.extra(extraIOPS)) }
    if let rate = megabytesPerSecond { parts.append("\(rate) MB/s" + Self.extra(extraMegabytesPerSecond)) }
    let what = "billed \(tier.map { "as \($0): " } ?? "for ")\(parts.joined(separator: ", ")), until it is deleted"
    return hint.map { "\(what); \($0)" } ?? what
  }

  private static func extra(_ count: Int?) -> String {
    guard let count else { return "" }
    return count == 0 ? " (included)" : " (\(count) paid for)"
  }
}
