import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

@Suite struct ForecastTests {
  /// An agent that started an hour ago, and an application that wrote so much since.
  private func world(
    _ plan: MigrationPlan, _ stage: SessionStage = .tracking, writtenBytes: UInt64, dirtyBytes: UInt64 = 0,
    hours: Double = 1
  ) -> Observation {
    var seen = liveObservation(plan, stage) {
      $0.connectionProof = ConnectionProof(provenAt: now, roundTripSeconds: 0.001, bytesPerSecond: 50e6)
      if $0.role == .source {
        $0.volumes[0].applicationIO.writeBytes = writtenBytes
        $0.volumes[0].dirtyBytes = dirtyBytes
      }
    }
    seen.hosts[HostName("db")]?.agent?.hello.startedAt = now.adding(seconds: -3600 * hours)
    return seen
  }

  @Test func whatCannotConvergeIsSaidWithBothRates() {
    let plan = samplePlan(.cmotion)
    let found = changes(plan, world(plan, writtenBytes: 31_000_000 * 3600))
    #expect(found.codes == [PlanningCode.willNotConverge])
    let warning = found.allDiagnostics[0]
    #expect(warning.severity == .warning)
    #expect(
      warning.message
        == "erp will not converge: 31 MB/s written (on average over 1 h), 25 MB/s allowed by iQoS moderate")
    #expect(found.kinds == ["swing"], "it is said, and nothing is kept back by it")
  }

  @Test func whatConvergesTakesAsLongAsTheDifferenceOfTheRatesSays() throws {
    let plan = samplePlan(.cmotion)
    let seen = world(plan, writtenBytes: 5_000_000 * 3600, dirtyBytes: 40_000_000)
    #expect(changes(plan, seen).codes == [])
    let forecast = try #require(MigrationFacts(plan.erp, in: plan, seen).forecast(at: now))
    #expect(forecast.secondsToConverge == 2)
    let checks = readiness(
      of: plan.erp, in: plan, seen, options: PlanningOptions(now: now, digest: fakeDigest))
    let check = try #require(checks.first { $0.name == "forecast" })
    #expect(check.isReady)
    #expect(check.finding.hasPrefix("it converges: what differs is copied in about 2 s; 5.0 MB/s written"))
  }

  @Test func whicheverLimitIsTheLowerIsNamed() {
    var plan = samplePlan(.cmotion)
    plan.erp.iqos.networkLimitBytesPerSecond = 10_000_000
    let limited = changes(plan, world(plan, writtenBytes: 12_000_000 * 3600))
    #expect(limited.allDiagnostics.first?.message.hasSuffix("10 MB/s allowed by networkLimit") == true)
    plan.erp.iqos = IQoS(level: .relentless)
    let linked = changes(plan, world(plan, writtenBytes: 60_000_000 * 3600))
    #expect(linked.codes.contains(PlanningCode.willNotConverge))
    #expect(
      linked.allDiagnostics.contains { $0.message.hasSuffix("50 MB/s is what the link was measured with") })
  }

  @Test func withoutRatesNothingIsSaid() {
    let plan = samplePlan(.cmotion)
    // Too short for an average, or nothing is copied from the source now.
    #expect(changes(plan, world(plan, writtenBytes: 1 << 40, hours: 0.001)).codes == [])
    #expect(changes(plan, world(plan, .standIn, writtenBytes: 1 << 50)).codes == [])
    #expect(changes(plan, liveObservation(plan, .tracking)).codes == [])
  }
}
