import AgentProtocol
import AgentService
import Testing

@Suite("What holds copying back")
struct HoldBackTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    /// In ten seconds; reading, packing and sending of three threads together, the destination of two.
    var reading = 0.0
    var packing = 0.0
    var sending = 0.0
    var limited = 0.0
    var full = 0.0
    var destination = 0.0
    var tells = true
    var limit = RateGovernor.Limit.share
    var expected: HoldBack?
  }

  static let cases = [
    Case(testDescription: "nothing to do", expected: nil),
    Case(testDescription: "hardly anything to do", reading: 0.2, sending: 0.3, full: 0.1, expected: nil),
    Case(
      testDescription: "threads wait for reads", reading: 27, sending: 2, full: 10, destination: 3,
      expected: .sourceDisk),
    Case(
      testDescription: "threads wait for the link, the other disk is idle", reading: 2, sending: 27, full: 10,
      destination: 3, expected: .network),
    Case(
      testDescription: "threads wait for the link, for the other disk is busy", reading: 2, sending: 27, full: 10,
      destination: 18, expected: .destinationDisk),
    Case(
      testDescription: "answers are waited for, the way is long", reading: 1, sending: 1, full: 9.5, destination: 1,
      expected: .network),
    Case(
      testDescription: "answers are waited for, the other disk is slow to write little", reading: 1, sending: 1,
      full: 9.5, destination: 19, expected: .destinationDisk),
    Case(
      testDescription: "packing", reading: 5, packing: 17, sending: 8, full: 10, destination: 6, expected: .compression),
    Case(
      testDescription: "a share of a half", reading: 2, sending: 12, limited: 9, destination: 3, expected: .iqos),
    Case(
      testDescription: "a network limit", reading: 2, sending: 2, limited: 10, destination: 1, limit: .network,
      expected: .networkLimit),
    Case(
      testDescription: "an application that got slower", reading: 2, sending: 2, limited: 10, destination: 1,
      limit: .latency, expected: .latencyBound),
    Case(
      testDescription: "a share that is more than the link carries", reading: 1, sending: 28, limited: 1, full: 9,
      destination: 2, expected: .network),
    Case(
      testDescription: "an old agent doesn't say how its disk does", reading: 2, sending: 27, full: 10, tells: false,
      expected: nil),
    Case(
      testDescription: "of an old agent's link the source's disk is known all the same", reading: 27, sending: 2,
      full: 10, tells: false, expected: .sourceDisk),
  ]

  @Test("It is where the time went", arguments: cases)
  func table(_ one: Case) {
    var spent = StageSeconds()
    spent.reading = one.reading
    spent.packing = one.packing
    spent.sending = one.sending
    spent.limited = one.limited
    spent.full = one.full
    spent.destination = one.destination
    let crew = StageCrew(
      copyingThreads: 3, lanes: 2, destinationTells: one.tells, limit: one.limit)
    #expect(HoldBack(spent, in: 10, by: crew) == one.expected)
  }
}
