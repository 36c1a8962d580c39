import H2HProtocol

/// Which extents of one volume may differ, as the state store has it or is about to have it (DESIGN §8.3). Kept in pages
/// of 4 KiB: 0 magic "CMCI" · 4 version (16) · 6 mark of the size (16) · 8 page number (32) · 12 extent count of the volume (32) ·
/// 16 extent size in bytes (64) · 24 revision (64) · 32 bits, least significant first · 4092 CRC-32C of all before it.
/// A page that is missing, damaged or of another geometry says that all of its extents may differ. One from before the
/// volume grew (it counts fewer extents, or has another mark) says so of what is new and of the extent that used to be the
/// last.
struct IntentMap: Sendable {
  static let pageBytes = 4096
  static let wordsPerPage = (pageBytes - 36) / 8
  static let extentsPerPage = wordsPerPage * 64
  private static let magic: UInt32 = 0x434d_4349

  struct Page: Sendable, Equatable {
    var revision: UInt64 = 0
    var storing: UInt64?
    var needsStore = false
    var isUrgent = false
  }

  let extentBytes: UInt64
  private(set) var count: Int
  private var sizeMark: UInt16
  /// What the next image will say.
  private(set) var wanted: BitSet
  /// What is certainly durable: said by the last image and by the one being stored.
  private var durable: BitSet
  private var images: [Int: [UInt64]] = [:]
  private(set) var pages: [Page]
  /// Written since the last checkpoint began, and in the interval before that: not cleared yet, they are hot.
  private(set) var recent: BitSet
  private(set) var earlier: BitSet

  init(sizeBytes: UInt64, extentBytes: UInt64, stored: [Int: [UInt8]]) {
    self.extentBytes = extentBytes
    count = Int((sizeBytes + extentBytes - 1) / extentBytes)
    sizeMark = Self.mark(ofBytes: sizeBytes, extentBytes)
    pages = Array(repeating: Page(), count: (count + Self.extentsPerPage - 1) / Self.extentsPerPage)
    recent = BitSet(count: count)
    earlier = BitSet(count: count)
    wanted = BitSet(count: count, all: true)
    for (index, bytes) in stored where pages.indices.contains(index) {
      guard let (revision, words) = Self.decode(bytes, page: index, count: count, extentBytes: extentBytes) else {
        continue
      }
      pages[index].revision = revision
      for (offset, word) in words.enumerated() where index * Self.wordsPerPage + offset < wanted.wordCount {
        let position = index * Self.wordsPerPage + offset
        wanted.setWord(position, to: word & wanted.word(position))
      }
    }
    for (index, bytes) in stored where pages.indices.contains(index) {
      guard let former = Self.former(bytes) else { continue }
      if former.count == count, former.mark == sizeMark, sizeMark != 0 { continue }
      let own = index * Self.extentsPerPage..<min((index + 1) * Self.extentsPerPage, count)
      wanted.insert(own.clamped(to: max(0, former.count - 1)..<count))
    }
    durable = wanted
  }

  /// The volume is larger from here on, as the session's own file says durably: a page that was stored before says by
  /// its count that what is new may differ.
  mutating func grow(to sizeBytes: UInt64) {
    let last = max(0, count - 1)
    count = Int((sizeBytes + extentBytes - 1) / extentBytes)
    sizeMark = Self.mark(ofBytes: sizeBytes, extentBytes)
    pages += Array(
      repeating: Page(), count: (count + Self.extentsPerPage - 1) / Self.extentsPerPage - pages.count)
    recent.grow(to: count)
    earlier.grow(to: count)
    wanted.grow(to: count)
    durable.grow(to: count)
    _ = require(last..<count)
  }

  func extents(from start: UInt64, to end: UInt64) -> Range<Int> {
    Int(start / extentBytes)..<Int((end + extentBytes - 1) / extentBytes)
  }

  func isDurable(_ extents: Range<Int>) -> Bool { durable.containsAll(extents) }

  /// Wants these extents set. True if they durably are already.
  mutating func require(_ extents: Range<Int>) -> Bool {
    if durable.containsAll(extents), wanted.containsAll(extents) { return true }
    if !wanted.containsAll(extents) || !durable.containsAll(extents) {
      wanted.insert(extents)
      for page in extents.lowerBound / Self.extentsPerPage...(extents.upperBound - 1) / Self.extentsPerPage {
        pages[page].needsStore = true
        pages[page].isUrgent = true
      }
    }
    return durable.containsAll(extents)
  }

  mutating func noteWrite(_ extents: Range<Int>) { recent.insert(extents) }

  mutating func beginCheckpoint() {
    earlier = recent
    recent.removeAll()
  }

  /// Stored with the next image of its page; until then, only more careful than needed.
  mutating func clear(_ extent: Int) {
    wanted.remove(extent..<extent + 1)
    pages[extent / Self.extentsPerPage].needsStore = true
  }

  mutating func requireAll() {
    wanted.insert(0..<count)
    for page in pages.indices {
      pages[page].needsStore = true
      pages[page].isUrgent = true
    }
  }

  /// Every extent is set, durably.
  var isAllDurable: Bool { durable.setCount == count }
  var isStoring: Bool { pages.contains { $0.storing != nil } }

  /// The image of a page that has to be stored and isn't being stored now.
  mutating func nextStore(page index: Int) -> (revision: UInt64, bytes: [UInt8])? {
    guard pages[index].needsStore, pages[index].storing == nil else { return nil }
    pages[index].needsStore = false
    pages[index].isUrgent = false
    pages[index].revision += 1
    let revision = pages[index].revision
    pages[index].storing = revision
    let first = index * Self.wordsPerPage
    let words = (0..<Self.wordsPerPage).map { first + $0 < wanted.wordCount ? wanted.word(first + $0) : 0 }
    images[index] = words
    // From here on the old image may be replaced at any moment: only what both say is certain.
    for offset in 0..<Self.wordsPerPage where first + offset < durable.wordCount {
      durable.setWord(first + offset, to: durable.word(first + offset) & words[offset])
    }
    return (revision, encode(page: index, revision: revision, words: words))
  }

  mutating func stored(page index: Int, revision: UInt64, isStored: Bool) {
    guard pages.indices.contains(index), pages[index].storing == revision else { return }
    pages[index].storing = nil
    guard let words = images.removeValue(forKey: index) else { return }
    guard isStored else {
      pages[index].needsStore = true
      return
    }
    let first = index * Self.wordsPerPage
    for offset in 0..<Self.wordsPerPage where first + offset < durable.wordCount {
      durable.setWord(first + offset, to: words[offset])
    }
  }

  private func encode(page: Int, revision: UInt64, words: [UInt64]) -> [UInt8] {
    var writer = ByteWriter(reserving: Self.pageBytes)
    writer.put(Self.magic)
    writer.put(UInt16(1))
    writer.put(sizeMark)
    writer.put(UInt32(page))
    writer.put(UInt32(count))
    writer.put(extentBytes)
    writer.put(revision)
    for word in words { writer.put(word.byteSwapped) }
    while writer.bytes.count < Self.pageBytes - 4 { writer.put(UInt8(0)) }
    writer.put(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  private static func decode(
    _ bytes: [UInt8], page: Int, count: Int, extentBytes: UInt64
  ) -> (revision: UInt64, words: [UInt64])? {
    guard bytes.count == pageBytes else { return nil }
    var reader = ByteReader(bytes)
    guard let foundMagic = try? reader.take(UInt32.self), foundMagic == magic,
      let version = try? reader.take(UInt16.self), version == 1, (try? reader.take(UInt16.self)) != nil,
      let number = try? reader.take(UInt32.self), number == UInt32(page),
      let extents = try? reader.take(UInt32.self), extents <= UInt32(count),
      let size = try? reader.take(UInt64.self), size == extentBytes,
      let revision = try? reader.take(UInt64.self),
      let checksum = stored32(bytes, at: pageBytes - 4), checksum == CRC32C.checksum(bytes[..<(pageBytes - 4)])
    else { return nil }
    var words: [UInt64] = []
    for _ in 0..<wordsPerPage {
      guard let word = try? reader.take(UInt64.self) else { return nil }
      words.append(word.byteSwapped)
    }
    return (revision, words)
  }

  /// Tells sizes apart that have as many extents: there are fewer sectors in one than marks. 0 tells nothing: of larger
  /// extents, and in pages of agents that wrote none; then the last extent may differ after every start.
  private static func mark(ofBytes size: UInt64, _ extentBytes: UInt64) -> UInt16 {
    extentBytes <= 16 << 20 ? UInt16(1 + size / 512 % 65_535) : 0
  }

  /// Of a page that `decode` took: what the volume was like when it was stored.
  private static func former(_ bytes: [UInt8]) -> (count: Int, mark: UInt16)? {
    guard let count = stored32(bytes, at: 12) else { return nil }
    return (Int(count), UInt16(bytes[6]) << 8 | UInt16(bytes[7]))
  }

  private static func stored32(_ bytes: [UInt8], at offset: Int) -> UInt32? {
    guard bytes.count >= offset + 4 else { return nil }
    return bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
  }
}
