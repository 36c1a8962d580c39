import AgentService
import BlockModel
import Testing

private func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: 1_000_000).adding(seconds: seconds) }

/// A copying thread that packs at a known speed and sends over a link that takes a known time for a byte of the link, or
/// to a disk that takes a known time for a byte of the data, whichever is longer.
private struct Pipeline {
  static let piece = 512 * 1024
  var governor = PackingGovernor()
  var ratio: Double
  var packSecondsPerByte = 1 / 700e6
  var linkSecondsPerByte: Double
  var diskSecondsPerByte = 0.0
  var now = 0.0
  var tries = 0
  var pieces = 0

  init(ratio: Double, linkBytesPerSecond: Double, diskBytesPerSecond: Double = .infinity) {
    self.ratio = ratio
    linkSecondsPerByte = 1 / linkBytesPerSecond
    diskSecondsPerByte = 1 / diskBytesPerSecond
  }

  mutating func send() {
    let isTried = governor.choose(at: at(now))
    let wire = isTried ? Int(Double(Self.piece) / ratio) : Self.piece
    let packing = isTried ? Double(Self.piece) * packSecondsPerByte : 0
    let moving = max(Double(wire) * linkSecondsPerByte, Double(Self.piece) * diskSecondsPerByte - packing)
    now += packing + moving
    pieces += 1
    if isTried { tries += 1 }
    governor.sent(
      PackingSample(plainBytes: Self.piece, wireBytes: wire, seconds: packing + moving, wasTried: isTried), at: at(now))
  }

  mutating func go(_ seconds: Double) {
    let end = now + seconds
    while now < end { send() }
  }
}

@Suite("Whether what is copied goes packed")
struct PackingGovernorTests {
  struct Place: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var ratio: Double
    var link: Double
    var disk = Double.infinity
    var verdict: PackingGovernor.Verdict
  }

  static let places = [
    Place(testDescription: "a slow link, text", ratio: 2.3, link: 50e6, verdict: .on),
    Place(testDescription: "a link of a gigabit, text", ratio: 2.3, link: 118e6, verdict: .on),
    Place(testDescription: "a slow link, data that shrinks little", ratio: 1.3, link: 50e6, verdict: .on),
    Place(testDescription: "a slow link, video", ratio: 1, link: 50e6, verdict: .incompressible),
    Place(testDescription: "a fast link, text", ratio: 2.3, link: 2e9, verdict: .tooSlow),
    Place(testDescription: "a slow disk at the other end, text", ratio: 2.3, link: 1e9, disk: 100e6, verdict: .tooSlow),
  ]

  @Test("On where the link is the narrow place, off elsewhere", arguments: places)
  func isOnWhereItHelps(_ place: Place) {
    var pipeline = Pipeline(ratio: place.ratio, linkBytesPerSecond: place.link, diskBytesPerSecond: place.disk)
    pipeline.go(2)
    #expect(pipeline.governor.verdict == place.verdict)
    pipeline.go(60)
    #expect(pipeline.governor.verdict == place.verdict)
  }

  @Test("Off, it is tried ever more seldom: under one piece in a hundred after a minute")
  func seldom() {
    var pipeline = Pipeline(ratio: 1, linkBytesPerSecond: 500e6)
    pipeline.go(60)
    #expect(Double(pipeline.tries) < 0.01 * Double(pipeline.pieces))
  }

  @Test("On, nearly all goes packed")
  func nearlyAll() {
    var pipeline = Pipeline(ratio: 2, linkBytesPerSecond: 50e6)
    pipeline.go(60)
    #expect(Double(pipeline.tries) > 0.98 * Double(pipeline.pieces))
  }

  @Test("Packed data in the midst of text costs a try in thirty, and text after it is packed again at once")
  func midst() {
    var pipeline = Pipeline(ratio: 2, linkBytesPerSecond: 50e6)
    pipeline.go(5)
    pipeline.ratio = 1
    let (tries, pieces) = (pipeline.tries, pipeline.pieces)
    pipeline.go(20)
    #expect(Double(pipeline.tries - tries) < 0.06 * Double(pipeline.pieces - pieces))
    pipeline.ratio = 2
    for _ in 0..<PackingGovernor.longestSkip { pipeline.send() }
    let before = pipeline.tries
    for _ in 0..<20 { pipeline.send() }
    #expect(pipeline.tries - before >= 18)
  }

  @Test("What doesn't shrink stays off, though a link that got faster meanwhile makes the tries look good")
  func luck() {
    var pipeline = Pipeline(ratio: 1, linkBytesPerSecond: 20e6)
    for _ in 0..<PackingGovernor.samplePieces { pipeline.send() }
    pipeline.linkSecondsPerByte = 1 / 200e6
    pipeline.go(1)
    #expect(pipeline.governor.verdict == .incompressible)
  }

  @Test("A link that becomes slow, or fast, is noticed within a minute or so")
  func changes() {
    var pipeline = Pipeline(ratio: 2.3, linkBytesPerSecond: 2e9)
    pipeline.go(10)
    #expect(pipeline.governor.verdict == .tooSlow)
    pipeline.linkSecondsPerByte = 1 / 50e6
    pipeline.go(PackingGovernor.longestOffSeconds + 5)
    #expect(pipeline.governor.verdict == .on)
    pipeline.linkSecondsPerByte = 1 / 2e9
    pipeline.go(PackingGovernor.onSeconds + 5)
    #expect(pipeline.governor.verdict == .tooSlow)
  }
}
