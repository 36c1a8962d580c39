/// What Azure allows of each kind of disk, and what it changes of one that exists. Source: azure-specs/FACTS.md, "Disks";
/// learn.microsoft.com/azure/virtual-machines: disks-types, linux/expand-disks, disks-convert-types (May 2025).
extension ManagedDisk.SKU {
  /// From here on there is no host caching.
  package static let cachingLimitGiB = 4_096
  /// Disks of this size or less that share their performance with their size cross it only while nobody has them.
  package static let growthBorderGiB = 4_096

  package var sizesGiB: ClosedRange<Int> {
    switch self {
    case .ultra: 4...65_536
    case .premiumV2: 1...65_536
    default: 1...32_767
    }
  }

  /// IOPS that may be asked for; nil where the size decides. Without a size: what the largest may have.
  package func iopsRange(gib: Int?) -> ClosedRange<Int>? {
    switch self {
    case .ultra: 100...max(100, min(400_000, gib.map { $0 * 1_000 } ?? .max))
    case .premiumV2: 3_000...max(3_000, min(80_000, gib.map { $0 * 500 } ?? .max))
    default: nil
    }
  }

  /// MB/s that may be asked for beside `iops`; nil where the size decides.
  package func throughputRange(iops: Int?) -> ClosedRange<Int>? {
    switch self {
    case .ultra: 1...max(1, min(10_000, iops.map { $0 / 4 } ?? .max))
    case .premiumV2: 125...max(125, min(2_000, (iops ?? 3_000) / 4))
    default: nil
    }
  }

  /// When Azure changes a disk that holds data.
  package enum Change: Sendable, Equatable {
    /// With its users where they are.
    case live
    /// While no virtual machine has it.
    case whileDetached
    case never
  }

  package func growth(fromGiB: Int, toGiB: Int) -> Change {
    if hasOwnPerformance { return .live }
    return fromGiB <= Self.growthBorderGiB && toGiB > Self.growthBorderGiB ? .whileDetached : .live
  }

  /// Turning a disk of this kind, in a zone or in none, into one of another.
  package func conversion(to other: Self, zone: String?) -> Change {
    if self == other { return .live }
    if hasOwnPerformance || other == .ultra { return .never }
    if other == .premiumV2 { return isZoneRedundant ? .never : .whileDetached }
    if other.isZoneRedundant, !isZoneRedundant, zone != nil { return .never }
    return .whileDetached
  }
}
