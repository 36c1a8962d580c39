import Foundation
import PlanReading
import Testing

/// SplitMix64: the same documents every time.
private struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}

/// No bytes may crash the reader or keep it busy. CMC_MUTATIONS sets how many are tried.
@Suite struct MutationTests {
  static let count = ProcessInfo.processInfo.environment["CMC_MUTATIONS"].flatMap { Int($0) } ?? 1_500

  @Test(.timeLimit(.minutes(10)))
  func mutatedPlansAreReadOrRefused() throws {
    var random = Seeded(state: 42)
    let plans = try Files.goodPlans().map { Array($0.text.utf8) }
    let pieces = [
      "{", "}", "[", "]", ": ", "- ", "&a ", "*a", "<<: ", "|\n", ">\n", "'", "\"", "\t", "#", "!", "!!str ", "? ", "%",
      "---\n", "...\n", "\u{feff}", "\u{2028}", "{var:", "{var:x}", "\0", "~", "null", "0x", "-1",
      "99999999999999999999",
      "9007199254740993 B", "1e999", "\u{85}", "é", "\r", "\\", "*", "@", "`", "{device:", "${", "../", "//",
    ].map { Array($0.utf8) }
    for _ in 0..<Self.count {
      guard var bytes = plans.randomElement(using: &random) else { return }
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        Self.mutate(&bytes, pieces: pieces, using: &random)
      }
      let (plan, diagnostics) = PlanReader.read(bytes: bytes, file: "plan.yaml", variables: ["x": "y"])
      if plan == nil { #expect(!diagnostics.isEmpty) }
      _ = GuardrailsReader.read(text: String(decoding: bytes, as: UTF8.self), file: "guardrails.yaml")
    }
  }

  private static func mutate(_ bytes: inout [UInt8], pieces: [[UInt8]], using random: inout Seeded) {
    guard !bytes.isEmpty else { return }
    let place = Int.random(in: 0..<bytes.count, using: &random)
    switch Int.random(in: 0..<6, using: &random) {
    case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
    case 1: bytes.remove(at: place)
    case 2, 3: bytes.insert(contentsOf: pieces.randomElement(using: &random) ?? [], at: place)
    case 4:
      let end = min(bytes.count, place + Int.random(in: 1...200, using: &random))
      let part = Array(bytes[place..<end])
      bytes.insert(contentsOf: part, at: Int.random(in: 0...bytes.count, using: &random))
    default:
      bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...80, using: &random)))
    }
  }

  @Test func randomBytesAreRefused() {
    var random = Seeded(state: 7)
    for _ in 0..<Self.count {
      let bytes = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      #expect(PlanReader.read(bytes: bytes, file: "plan.yaml").plan == nil)
    }
  }
}
