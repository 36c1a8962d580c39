/// Keeps one copy of every key: the same few dozen words are the keys of a hundred thousand volumes.
///
/// An open-addressing table over the bytes in the tree's text, so that a key which was seen before costs no
/// allocation. Hashed with Swift's seeded hash, which a document can't aim at.
struct NameTable {
  private struct Slot {
    var name: UInt32
    var start: UInt32
    var count: UInt32
    var hash: Int
    static let empty = Slot(name: .max, start: 0, count: 0, hash: 0)
  }

  private(set) var names: [String] = []
  private var slots = [Slot](repeating: .empty, count: 256)

  /// The index of the name. Its bytes are appended to `text` if they are new; `start` is where they are.
  mutating func intern(_ bytes: UnsafeBufferPointer<UInt8>, text: inout [UInt8], start: inout UInt32) -> UInt32 {
    var hasher = Hasher()
    hasher.combine(bytes: UnsafeRawBufferPointer(bytes))
    let hash = hasher.finalize()
    let mask = slots.count - 1
    var place = hash & mask
    while slots[place].name != .max {
      let slot = slots[place]
      if slot.hash == hash, Int(slot.count) == bytes.count,
        text[Int(slot.start)..<Int(slot.start + slot.count)].elementsEqual(bytes)
      {
        start = slot.start
        return slot.name
      }
      place = (place + 1) & mask
    }
    let name = UInt32(names.count)
    start = UInt32(text.count)
    text.append(contentsOf: bytes)
    names.append(String(decoding: bytes, as: UTF8.self))
    slots[place] = Slot(name: name, start: start, count: UInt32(bytes.count), hash: hash)
    if names.count * 2 > slots.count { grow() }
    return name
  }

  private mutating func grow() {
    let old = slots
    slots = [Slot](repeating: .empty, count: old.count * 2)
    let mask = slots.count - 1
    for slot in old where slot.name != .max {
      var place = slot.hash & mask
      while slots[place].name != .max { place = (place + 1) & mask }
      slots[place] = slot
    }
  }
}
