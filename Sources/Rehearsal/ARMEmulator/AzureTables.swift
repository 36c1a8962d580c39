/// What a machine size allows (resource SKU capabilities of virtualMachines).
package struct MachineSize: Sendable, Equatable {
  package var cores: Int
  package var memoryGiB: Int
  package var maxDataDisks: Int
  package var uncachedIOPS: Int
  package var uncachedMegabytesPerSecond: Int
  /// Capability `PremiumIO`.
  package var takesPremium: Bool

  init(_ cores: Int, _ memoryGiB: Int, _ disks: Int, _ iops: Int, _ rate: Int, premium: Bool = true) {
    self.cores = cores
    self.memoryGiB = memoryGiB
    maxDataDisks = disks
    uncachedIOPS = iops
    uncachedMegabytesPerSecond = rate
    takesPremium = premium
  }
}

package enum MachineSizes {
  /// Cores, GiB of memory, data disks, IOPS and MB/s of disks without the host's cache.
  package static let all: [String: MachineSize] = [
    "Standard_A0": MachineSize(1, 1, 1, 500, 60, premium: false),
    "Standard_D1_v2": MachineSize(1, 4, 4, 2000, 30, premium: false),
    "Standard_D2_v2": MachineSize(2, 7, 8, 4000, 60, premium: false),
    "Standard_D2_v3": MachineSize(2, 8, 4, 3000, 46, premium: false),
    "Standard_D4_v3": MachineSize(4, 16, 8, 6000, 92, premium: false),
    "Standard_DS1_v2": MachineSize(1, 4, 4, 3200, 48),
    "Standard_DS2_v2": MachineSize(2, 7, 8, 6400, 96),
    "Standard_DS3_v2": MachineSize(4, 14, 16, 12800, 192),
    "Standard_D2s_v3": MachineSize(2, 8, 4, 3200, 48),
    "Standard_D4s_v3": MachineSize(4, 16, 8, 6400, 96),
    "Standard_DC2as_v5": MachineSize(2, 8, 4, 3750, 82),
    "Standard_DC2es_v5": MachineSize(2, 8, 4, 3750, 80),
    "Standard_D2s_v5": MachineSize(2, 8, 4, 3750, 85),
    "Standard_D4s_v5": MachineSize(4, 16, 8, 6400, 145),
    "Standard_D8s_v5": MachineSize(8, 32, 16, 12800, 290),
    "Standard_D16s_v5": MachineSize(16, 64, 32, 25600, 600),
    "Standard_D32s_v5": MachineSize(32, 128, 32, 51200, 865),
    "Standard_D48s_v5": MachineSize(48, 192, 32, 76800, 1315),
    "Standard_D64s_v5": MachineSize(64, 256, 32, 80000, 1735),
    "Standard_E2s_v5": MachineSize(2, 16, 4, 3750, 85),
    "Standard_E4s_v5": MachineSize(4, 32, 8, 6400, 145),
    "Standard_E8s_v5": MachineSize(8, 64, 16, 12800, 290),
    "Standard_E16s_v5": MachineSize(16, 128, 32, 25600, 600),
    "Standard_E32s_v5": MachineSize(32, 256, 32, 51200, 865),
    "Standard_M64s": MachineSize(64, 1024, 64, 40000, 1000),
  ]
}

/// A disk SKU's rules (FACTS: disks).
struct DiskKind: Sendable, Equatable {
  var name: String
  /// `sku.tier` of an answer.
  var tier: String
  var sizesGiB: ClosedRange<Int>
  var performanceSettable: Bool
  var hostCaching: Bool

  /// `size` of the SKU's entry.
  var sizeLetter: String {
    switch name {
    case "UltraSSD_LRS": "U"
    case "PremiumV2_LRS": "PV2"
    case "Standard_LRS": "S"
    default: "E"
    }
  }

  /// IOPS and MB/s over all sizes (FACTS: disks).
  var limits: (iops: ClosedRange<Int>, rate: ClosedRange<Int>) {
    switch name {
    case "UltraSSD_LRS": (100...400_000, 1...10_000)
    case "PremiumV2_LRS": (3000...80_000, 125...2000)
    case "Standard_LRS": (500...2000, 60...500)
    default: (500...6000, 60...750)
    }
  }
}

enum DiskKinds {
  static let all: [String: DiskKind] = {
    let kinds = [
      DiskKind(
        name: "Standard_LRS", tier: "Standard", sizesGiB: 1...32767, performanceSettable: false, hostCaching: true),
      DiskKind(
        name: "StandardSSD_LRS", tier: "Standard", sizesGiB: 1...32767, performanceSettable: false, hostCaching: true),
      DiskKind(
        name: "StandardSSD_ZRS", tier: "Standard", sizesGiB: 1...32767, performanceSettable: false, hostCaching: true),
      DiskKind(
        name: "Premium_LRS", tier: "Premium", sizesGiB: 1...32767, performanceSettable: false, hostCaching: true),
      DiskKind(
        name: "Premium_ZRS", tier: "Premium", sizesGiB: 1...32767, performanceSettable: false, hostCaching: true),
      DiskKind(
        name: "PremiumV2_LRS", tier: "Premium", sizesGiB: 1...65536, performanceSettable: true, hostCaching: false),
      DiskKind(
        name: "UltraSSD_LRS", tier: "Ultra", sizesGiB: 4...65536, performanceSettable: true, hostCaching: false),
    ]
    return Dictionary(uniqueKeysWithValues: kinds.map { ($0.name, $0) })
  }()

  struct PremiumTier: Sendable {
    var name: String
    var sizeGiB: Int
    var iops: Int
    var megabytesPerSecond: Int
  }

  static let premiumTiers: [PremiumTier] = [
    PremiumTier(name: "P1", sizeGiB: 4, iops: 120, megabytesPerSecond: 25),
    PremiumTier(name: "P2", sizeGiB: 8, iops: 120, megabytesPerSecond: 25),
    PremiumTier(name: "P3", sizeGiB: 16, iops: 120, megabytesPerSecond: 25),
    PremiumTier(name: "P4", sizeGiB: 32, iops: 120, megabytesPerSecond: 25),
    PremiumTier(name: "P6", sizeGiB: 64, iops: 240, megabytesPerSecond: 50),
    PremiumTier(name: "P10", sizeGiB: 128, iops: 500, megabytesPerSecond: 100),
    PremiumTier(name: "P15", sizeGiB: 256, iops: 1100, megabytesPerSecond: 125),
    PremiumTier(name: "P20", sizeGiB: 512, iops: 2300, megabytesPerSecond: 150),
    PremiumTier(name: "P30", sizeGiB: 1024, iops: 5000, megabytesPerSecond: 200),
    PremiumTier(name: "P40", sizeGiB: 2048, iops: 7500, megabytesPerSecond: 250),
    PremiumTier(name: "P50", sizeGiB: 4096, iops: 7500, megabytesPerSecond: 250),
    PremiumTier(name: "P60", sizeGiB: 8192, iops: 16000, megabytesPerSecond: 500),
    PremiumTier(name: "P70", sizeGiB: 16384, iops: 18000, megabytesPerSecond: 750),
    PremiumTier(name: "P80", sizeGiB: 32767, iops: 20000, megabytesPerSecond: 900),
  ]

  static func premiumTier(sizeGiB: Int) -> PremiumTier? { premiumTiers.first { sizeGiB <= $0.sizeGiB } }
}

/// Azure's rules for names.
package enum AzureName {
  private static func isWordCharacter(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// 1 to 80 of letters, digits, `_`, `-` and, inside, `.`; begins with a letter or digit and doesn't end in `.` or `-`.
  package static func isDisk(_ name: String) -> Bool { isName(name, longest: 80) }

  package static func isMachine(_ name: String) -> Bool { isName(name, longest: 64) }

  private static func isName(_ name: String, longest: Int) -> Bool {
    let bytes = Array(name.utf8)
    guard let first = bytes.first, let last = bytes.last, bytes.count <= longest else { return false }
    guard isWordCharacter(first), isWordCharacter(last), first != UInt8(ascii: "_") else { return false }
    return bytes.allSatisfy { isWordCharacter($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".") }
  }
}
