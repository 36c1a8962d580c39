import BlockModel
import LinuxPlatform
import Seams

/// A directory of the test's own, removed with the last reference.
final class Scratch: Sendable {
  let path: String

  init() throws {
    path = "/tmp/cmc-\(SystemRandom().uuid().prefix(13))"
    try Files.makeDirectories(path, mode: 0o700)
  }

  deinit { try? Files.removeTree(path) }

  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }
}

/// Long enough for any loaded machine, short enough that a hang fails the test.
var soon: MonotonicTime { .now.adding(seconds: 60) }

/// Bytes that differ from place to place, the same for the same seed.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
  return (0..<count).map { _ in
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return UInt8(truncatingIfNeeded: state >> 24)
  }
}

extension BlockDevice {
  func bytes(at offset: UInt64, _ count: Int) throws -> [UInt8] {
    var result = [UInt8](repeating: 0xee, count: count)
    try result.withUnsafeMutableBytes { try read(at: offset, into: $0) }
    return result
  }

  func put(_ bytes: [UInt8], at offset: UInt64, durable: Bool = false) throws {
    try bytes.withUnsafeBytes { try write(at: offset, from: $0, durable: durable) }
  }
}

extension ByteChannel {
  func send(_ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try write($0) } }

  func receive(_ count: Int) throws -> [UInt8] {
    var result = [UInt8](repeating: 0, count: count)
    try result.withUnsafeMutableBytes { try readFully(into: $0) }
    return result
  }
}
