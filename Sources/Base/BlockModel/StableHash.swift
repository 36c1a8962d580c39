/// FNV-1a, 64 bits: short names that are the same on every machine and at every start, unlike Hashable's. Nobody attacks
/// them.
package enum StableHash {
  package static func of(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
