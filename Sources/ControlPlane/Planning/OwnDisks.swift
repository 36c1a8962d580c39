import BlockModel
package import MigrationModel

/// The disks of an observation by the migration that their tags name, replaced ones too. A plan has a hundred thousand:
/// whoever looks at one migration after the other would go through all of them each time.
package struct OwnDisks: Sendable {
  private var all: [String: [MigrationName: [CloudDisk]]] = [:]

  package init(_ plan: MigrationPlan, _ observation: Observation) {
    for (integration, cloud) in observation.clouds {
      var own: [MigrationName: [CloudDisk]] = [:]
      for disk in cloud.disks {
        if let key = disk.taggedVolume(in: plan) { own[key.migration, default: []].append(disk) }
      }
      all[integration] = own
    }
  }

  func disks(of migration: MigrationName, in integration: String) -> [CloudDisk] { all[integration]?[migration] ?? [] }
}

/// Resource ids compare without regard to case. Most differ in their last letters, and no copies are made to see it.
func isSameResource(_ left: String, _ right: String) -> Bool {
  let seen = left.utf8.withContiguousStorageIfAvailable { one in
    right.utf8.withContiguousStorageIfAvailable { other in isSameASCII(one, other) }
  }
  return (seen ?? nil)?.value ?? (left.lowercased() == right.lowercased())
}

private struct Comparison { var value: Bool? }

/// No value where there are letters that are more than one byte.
private func isSameASCII(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) -> Comparison {
  var (one, other) = (left.count, right.count)
  while one > 0, other > 0 {
    (one, other) = (one - 1, other - 1)
    if left[one] >= 0x80 || right[other] >= 0x80 { return Comparison(value: nil) }
    if lowercase(left[one]) != lowercase(right[other]) { return Comparison(value: false) }
  }
  return Comparison(value: one == other)
}

private func lowercase(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }
