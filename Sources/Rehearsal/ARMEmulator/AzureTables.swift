/// What a machine size allows (resource SKU capabilities of virtualMachines).
package struct MachineSize: Sendable, Equatable {
  package var cores: Int
  package var memoryGiB: Int
  package var maxDataDisks: Int
}

package enum MachineSizes {
  package static let all: [String: MachineSize] = [
    "Standard_DS1_v2": MachineSize(cores: 1, memoryGiB: 4, maxDataDisks: 4),
    "Standard_D2s_v5": MachineSize(cores: 2, memoryGiB: 8, maxDataDisks: 4),
    "Standard_D4s_v5": MachineSize(cores: 4, memoryGiB: 16, maxDataDisks: 8),
    "Standard_D8s_v5": MachineSize(cores: 8, memoryGiB: 32, maxDataDisks: 16),
    "Standard_D16s_v5": MachineSize(cores: 16, memoryGiB: 64, maxDataDisks: 32),
    "Standard_D32s_v5": MachineSize(cores: 32, memoryGiB: 128, maxDataDisks: 32),
    "Standard_E4s_v5": MachineSize(cores: 4, memoryGiB: 32, maxDataDisks: 8),
    "Standard_E8s_v5": MachineSize(cores: 8, memoryGiB: 64, maxDataDisks: 16),
    "Standard_E16s_v5": MachineSize(cores: 16, memoryGiB: 128, maxDataDisks: 32),
    "Standard_M64s": MachineSize(cores: 64, memoryGiB: 1024, maxDataDisks: 64),
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
