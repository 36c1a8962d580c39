import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering
import Testing

@Suite struct RenderingTests {
  private let time = WallTime(secondsSince1970: 1_795_406_400)
  private let erp = MigrationName("erp-db")

  private var sample: ChangeSet {
    var entry = MigrationChanges(
      migration: erp, reached: .reached(.synchronized), target: .finalized, configurationDigest: "d")
    entry.health = .tracking(lagBytes: 12 << 20, lagSeconds: 0.4)
    entry.changes = [
      Change(
        action: .ensureDisk(VolumeKey(erp, VolumeName("data"))), towards: .prepared,
        summary: "create disk cmc-erp-db-data-0123456789abcdef (Premium_LRS, 256 GiB)",
        why: "volume data has no disk yet", price: Price(cost: .billed, note: "Premium_LRS, 256 GiB"),
        reversibility: .reversible),
      Change(
        action: .synchronize(erp), towards: .synchronized, summary: "start the initial synchronization",
        why: "the destination holds nothing of the source yet",
        price: Price(bytesToMove: 1_979_120_929_996, estimatedSeconds: 18_000), reversibility: .reversible),
      Change(
        action: .fence(erp), towards: .finalized, summary: "fence the source erp-db",
        why: "from here on erp-db-azure has the only copy that counts", reversibility: .oneWay, waitsFor: 0),
    ]
    entry.waiting = [
      Waiting(
        reason: .approval(.finalized), message: "the one-way step is not approved",
        advice: "cmcplan approve erp-db:finalized")
    ]
    return ChangeSet(
      plan: PlanID("p"), planName: "erp-to-azure", observedAt: time, migrations: [entry],
      unmanaged: [UnmanagedItem(kind: .disk, name: "old", migration: nil, detail: "in corp, not attached")],
      diagnostics: [])
  }

  @Test func thePlanTextIsWhatAReviewerReads() {
    let expected = """
      Migration plan erp-to-azure, observed 2026-11-23 04:00:00Z

      erp-db: synchronized → finalized, tracking, 12 MiB (400 ms) behind
        +  create disk cmc-erp-db-data-0123456789abcdef (Premium_LRS, 256 GiB)
             volume data has no disk yet; Premium_LRS, 256 GiB, reversible
        >  start the initial synchronization
             the destination holds nothing of the source yet; 1.8 TiB to move, about 5
             h at an assumed 100 MB/s, reversible
        waiting: the one-way step is not approved
            = cmcplan approve erp-db:finalized
         ! fence the source erp-db
             from here on erp-db-azure has the only copy that counts; ONE-WAY

      Unmanaged, left alone: ours by their id, but not in the document
        disk old: in corp, not attached

      Plan: 3 steps in 1 migration, 1.8 TiB to move, 1 waiting, 1 one-way.

      """
    let text = renderText(sample, style: .plain)
    #expect(text == expected)
    #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 }, "\(text)")
    #expect(!text.contains("\u{1b}"))
  }

  @Test func aNoOpSaysSo() {
    var nothing = sample
    nothing.migrations[0].changes = []
    nothing.migrations[0].target = .synchronized
    nothing.unmanaged = []
    #expect(renderText(nothing, style: .plain).contains("No changes. Every migration is where the plan wants it."))
  }

  @Test func coloursObeyTheEnvironment() {
    #expect(TextStyle.detected(environment: ["NO_COLOR": "1"], isTerminal: true, columns: 100).colours == false)
    #expect(TextStyle.detected(environment: [:], isTerminal: false, columns: nil).colours == false)
    #expect(TextStyle.detected(environment: ["TERM": "dumb"], isTerminal: true, columns: nil).live == false)
    let style = TextStyle.detected(environment: ["TERM": "xterm"], isTerminal: true, columns: 100)
    #expect(renderText(sample, style: style).contains("\u{1b}[1;31m!"))
  }

  @Test func jsonIsOneVersionedObjectOnOneLine() throws {
    let text = renderJSON(sample)
    #expect(text.filter { $0 == "\n" }.count == 1)
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    #expect(object?["formatVersion"] as? Int == 1)
    #expect(object?["kind"] as? String == "ChangeSet")
    #expect(object?["noChanges"] as? Bool == false)
  }

  @Test func markdownEscapesWhatOthersWroteAndStaysSmall() {
    var evil = sample
    evil.migrations[0].changes[0].summary = "<img src=x> | `x`"
    #expect(!renderMarkdown(evil).contains("<img"))
    var large = sample
    large.migrations = (0..<5000).map { index in
      var entry = sample.migrations[0]
      entry.migration = MigrationName("migration-with-a-long-name-\(index)")
      return entry
    }
    #expect(renderMarkdown(large).utf8.count < 60_000)
  }

  @Test func controlCharactersOfOthersAreNotObeyed() {
    var evil = sample
    evil.migrations[0].diagnostics = [Diagnostic(code: "CMC2040", "agent says \u{1b}[2J\u{7}boo")]
    #expect(!renderText(evil, style: .plain).contains("\u{1b}"))
    #expect(safe("a\u{1b}[2J\nb\u{9b}c") == "a\\u{1b}[2J b\\u{9b}c")
    #expect(safeLines("a\u{1b}]0;x\u{7}\n\tb\n") == "a\\u{1b}]0;x\\u{7}\n\tb\n", "lines of ours stay lines")
    #expect(safeLines("a\r\nb\rc") == "a\nb\\u{d}c")
    let report = DiagnosticReport.github([Diagnostic(code: "CMC2040", "says \u{1b}[2J\nboo")])
    #expect(!report.contains("\u{1b}") && report.contains("%0Aboo"))
  }

  private func session(_ percent: Double, rate: Double, eta: Double?) -> SessionObservation {
    let configuration = SessionConfiguration(
      session: SessionID("p/erp-db"), plan: PlanID("p"), migration: erp, role: .source, configurationDigest: "d",
      peerFingerprint: KeyFingerprint("SHA256:x"),
      link: LinkConfiguration(listens: false, address: "192.0.2.1", port: 4996, lanes: 2), volumes: [],
      limits: RateLimits(share: nil, networkLimitBytesPerSecond: nil), linkLossTimeoutSeconds: 5,
      resyncIntervalSeconds: 900, confirmWithinSeconds: nil, verify: "full")
    return SessionObservation(
      configuration: configuration, stage: .synchronizing, authority: .source, generation: .initial,
      health: .synchronizing(percent: percent, bytesPerSecond: rate, etaSeconds: eta), connected: true)
  }

  @Test func progressNeverLies() {
    let start = MonotonicTime(nanoseconds: 0)
    var lines = ProgressRenderer(format: .text, style: .plain)
    let first = lines.render(.replication(erp, source: session(99.9, rate: 12e6, eta: 5), destination: nil), at: start)
    #expect(first == "erp-db  99 %  12 MB/s  5 s left\n")
    let soon = start.adding(seconds: 1)
    #expect(lines.render(.replication(erp, source: session(99.95, rate: 0, eta: 9), destination: nil), at: soon) == "")
    let later = start.adding(seconds: 60)
    let back = lines.render(.replication(erp, source: session(80, rate: 0, eta: 9), destination: nil), at: later)
    #expect(back == "erp-db  80 %  0 B/s  (the source grew dirty)\n", "no rate, no time left; backwards with a word")
  }

  @Test func aVerificationTellsHowFarItIsAndWhatItIsThatDiffers() {
    var seen = session(100, rate: 0, eta: nil)
    seen.stage = .tracking
    seen.health = .tracking(lagBytes: 0, lagSeconds: 0)
    var report = VerificationReport(
      scope: .all, repairs: false, startedAt: time, totalBytes: 64 << 20, remainingBytes: 16 << 20)
    report.differenceCount = 1
    report.openCount = 1
    report.differences = [
      ExtentDifference(volume: VolumeName("da\u{1b}ta"), offset: 4 << 20, length: 4 << 20, outcome: .found)
    ]
    seen.verification = report
    var lines = ProgressRenderer(format: .text, style: .plain)
    let line = lines.render(.replication(erp, source: seen, destination: nil), at: MonotonicTime(nanoseconds: 0))
    #expect(line == "erp-db  75 % compared  1 extent differed\n")
    seen.health = .stalled(why: "the link is down")
    var bars = ProgressRenderer(format: .text, style: TextStyle(colours: false, width: 120, live: true))
    let bar = bars.render(.replication(erp, source: seen, destination: nil), at: MonotonicTime(nanoseconds: 0))
    #expect(bar.contains("[##################------] 75 % compared") && bar.contains("the link is down"))
    #expect(bars.clear() == "\u{1b}[1A\u{1b}[J", "the bars make room for what came of it")

    report.remainingBytes = 0
    report.endedAt = WallTime(secondsSince1970: time.secondsSince1970 + 3)
    report.receipt = ReceiptSummary(digest: "abc", verify: "full", comparedBytes: 60 << 20, at: time, path: "/r/v")
    report.volumes = [VerificationReport.Volume(name: VolumeName("data"), comparedBytes: 60 << 20, root: "0f")]
    var result = VerificationResult(migration: erp, source: HostName("h"))
    result.report = report
    #expect(
      renderVerification([result], style: TextStyle(colours: false, width: 200, live: false)) == """
        erp-db: 64 MiB compared in 3 s: 1 extent differed, 1 still differ or can't be read
          volume da\\u{1b}ta: the copies differ at [4194304, +4194304) though nothing was written there: left as it is
          = cmcplan verify erp-db --repair copies them again from the side with authority; so do cMotion and finalize
          volume data: 60 MiB equal, root 0f
          receipt on h: /r/v (SHA-256 abc)

        """)
    let json = renderVerificationJSON([result])
    #expect(json.contains(#""outcome":"found""#) && json.contains(#""result":"differs""#) && json.hasSuffix("}\n"))
  }

  @Test func barsAreDrawnOverAndWhatIsDoneStays() {
    let style = TextStyle(colours: false, width: 60, live: true)
    var bars = ProgressRenderer(format: .text, style: style)
    let now = MonotonicTime(nanoseconds: 0)
    _ = bars.render(.stepStarted(.synchronize(erp), attempt: 1), at: now)
    let bar = bars.render(.replication(erp, source: session(50, rate: 1e6, eta: 60), destination: nil), at: now)
    #expect(bar.hasPrefix("\u{1b}[1A\u{1b}[J"))
    #expect(bar.contains("[############------------] 50 %"))
    let done = bars.render(.stepFinished(.synchronize(erp), seconds: 61), at: now)
    #expect(done == "\u{1b}[1A\u{1b}[Jdone  synchronize: erp-db (1 min 1 s)\n")
  }

  @Test func liveLinesFitTheWindowAndTheirTimeGoesOn() {
    var bars = ProgressRenderer(format: .text, style: TextStyle(colours: false, width: 80, live: true))
    let now = MonotonicTime(nanoseconds: 0)
    bars.fit(columns: 40, rows: 5)
    #expect(bars.redraw(at: now) == "", "nothing runs, so nothing is drawn over")
    for host in 1...6 {
      _ = bars.render(
        .stepStarted(.deployAgent(HostName("a-host-with-quite-a-long-name-\(host)")), attempt: 1), at: now)
    }
    let text = bars.redraw(at: now.adding(seconds: 9))
    #expect(text.hasPrefix("\u{1b}[3A\u{1b}[J"), "only what is on the screen can be drawn over")
    let lines = text.dropFirst("\u{1b}[3A\u{1b}[J".count).split(separator: "\n")
    #expect(lines.count == 3 && lines.allSatisfy { $0.count < 40 })
    #expect(lines.last == "… and 4 more")
    bars.fit(columns: 80, rows: 40)
    #expect(bars.redraw(at: now.adding(seconds: 9)).contains("long-name-6 … 9 s"))
  }

  @Test func theSummaryListsEveryFailureWithWhatToDo() {
    let error = GatewayError(
      code: "CMC4001", message: "no route to erp-db", advice: "check its address", disposition: .needsOperator)
    let summary = ApplySummary(
      result: .failed,
      migrations: [
        MigrationResult(
          migration: erp, result: .failed, reached: .nothing, target: .cmotion, waiting: [], note: error.message)
      ],
      failures: [StepFailure(step: "deployAgent", subject: "host erp-db", migrations: [erp], error: error)],
      remaining: ChangeSet(
        plan: PlanID("p"), planName: "n", observedAt: time, migrations: [], unmanaged: [], diagnostics: []),
      interrupted: false, stepsDone: 0, seconds: 2)
    let text = renderSummary(summary, style: .plain)
    #expect(text.contains("failed: deployAgent of host erp-db (CMC4001): no route to erp-db"))
    #expect(text.contains("= check its address"))
    #expect(summary.exitCode == 1)
    #expect([ApplyResult.reached, .failed, .waiting, .converging].max() == .failed)
    #expect([ApplyResult.reached, .waiting, .converging].max() == .waiting)
  }
}
