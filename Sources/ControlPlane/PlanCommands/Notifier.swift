import ARMClient
import AgentProtocol
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Rendering
import Seams

/// Tells the plan's `notifications` what a run sees that a person is needed for. It runs beside the run: nothing here
/// can hold it up or fail it, and what could not be told is said as a warning.
final class Notifier: Sendable {
  /// Sightings that wait; the oldest are dropped, for the newest say how it ended.
  private static let sightingLimit = 4_096
  /// At most so many are sent by one run to one target; the next run goes on with the rest.
  static let messagesPerTarget = 100
  /// How long the end of a run waits for what is still to be sent, in seconds.
  private static let lastWordsSeconds = 40.0
  /// How long an archive may take to say, or to take, what was told, in seconds.
  private static let memorySeconds = 5.0
  private static let memoryFile = "notifications.json"

  private enum Sighting: Sendable {
    case event(ProgressEvent)
    case world(Observation)
  }

  private let sightings: AsyncStream<(Sighting, WallTime)>.Continuation
  private let telling: Task<Void, Never>
  private let report: @Sendable (String) -> Void
  private let time: any TimeSource

  /// Nil where the plan tells nobody.
  init?(
    _ document: PlanDocument, journal: RunJournal, sink: any JournalSink, archive: (any PlanArchive)?,
    environment: [String: String], time: any TimeSource, report: @escaping @Sendable (String) -> Void
  ) {
    guard !document.plan.notifications.isEmpty else { return nil }
    self.report = report
    self.time = time
    let (stream, sightings) = AsyncStream<(Sighting, WallTime)>.makeStream(
      bufferingPolicy: .bufferingNewest(Self.sightingLimit))
    self.sightings = sightings
    telling = Task {
      let store = MemoryStore(directory: "\(document.directory)/.cmcplan", archive: archive)
      var teller = Teller(
        document.plan, run: journal.runID, memory: await store.load(), environment: environment, sink: sink, time: time,
        report: report)
      var noted = teller.board.memory
      var complaint: String?
      for await (sighting, now) in stream {
        let deliveries =
          switch sighting {
          case .event(let event): teller.board.handle(event, at: now)
          case .world(let observation): teller.board.handle(observation, at: now)
          }
        await teller.tell(deliveries)
        guard teller.board.memory != noted else { continue }
        noted = teller.board.memory
        complaint = await store.save(noted)
      }
      await store.archive(noted)
      if let complaint { report(complaint) }
    }
  }

  func see(_ event: ProgressEvent) {
    switch event {
    // Many a second, and mostly of no interest.
    case .replication(_, let source, let destination)
    where source?.hold == nil && destination?.hold == nil && source?.confirmBy == nil: return
    case .observing, .stepStarted, .stepRetrying, .note, .interrupted: return
    default: sightings.yield((.event(event), time.wallNow()))
    }
  }

  func see(_ observation: Observation) { sightings.yield((.world(observation), time.wallNow())) }

  /// Returns once everything was told, or after some seconds.
  func finish() async {
    sightings.finish()
    if await withTimeLimit(seconds: Self.lastWordsSeconds, { [telling] in await telling.value }) == nil {
      telling.cancel()
      report(
        "not every notification was sent in \(Int(Self.lastWordsSeconds)) s (\(ApplyCode.notificationFailed)); the next run tells the rest"
      )
    }
  }

  // MARK: Sending

  private struct Teller {
    private let plan: MigrationPlan
    private let run: String
    private let environment: [String: String]
    private let sink: any JournalSink
    private let time: any TimeSource
    private let report: @Sendable (String) -> Void
    var board: NoticeBoard
    /// Made when it is first needed.
    private var sender: WebhookSender?
    /// Targets that failed in this run: they aren't tried again in it.
    private var failed: Set<String> = []
    private var sent: [String: Int] = [:]

    init(
      _ plan: MigrationPlan, run: String, memory: NoticeMemory, environment: [String: String], sink: any JournalSink,
      time: any TimeSource, report: @escaping @Sendable (String) -> Void
    ) {
      self.plan = plan
      self.run = run
      self.environment = environment
      self.sink = sink
      self.time = time
      self.report = report
      board = NoticeBoard(plan: plan, memory: memory)
    }

    mutating func tell(_ deliveries: [NoticeDelivery]) async {
      for delivery in deliveries {
        guard let target = plan.notifications.first(where: { $0.name == delivery.target }),
          !failed.contains(target.name)
        else { continue }
        guard sent[target.name, default: 0] < Notifier.messagesPerTarget else {
          complain(target, "\(Notifier.messagesPerTarget) messages were sent to it by this run; the next one goes on")
          continue
        }
        await send(delivery.notice, of: delivery, to: target)
      }
    }

    private mutating func send(_ notice: Notice, of delivery: NoticeDelivery, to target: NotificationTarget) async {
      let now = time.wallNow()
      let body = renderNotice(
        notice, as: target.format, plan: plan.metadata, run: run, at: now, digest: sha256)
      do {
        let url = try address(of: target)
        try await openSender().post(Array(body.utf8), to: url)
      } catch {
        complain(target, "\(notice.event.rawValue) of \(notice.migration) was not told: \(error)")
        return
      }
      sent[target.name, default: 0] += 1
      board.wasTold(delivery, at: now)
      var entry = JournalEntry(.notified, message: "\(notice.event.rawValue) to \(target.name): \(notice.message)")
      entry.subject = notice.migration.text
      entry.at = now
      // A journal that can't be written is said by the run itself.
      try? await sink.append(entry.line())
    }

    private func address(of target: NotificationTarget) throws -> Secret {
      switch target.webhook {
      case .url(let text): return Secret(text)
      case .secret(let reference): return try SecretReader(environment: environment).read(reference)
      }
    }

    private mutating func openSender() throws -> WebhookSender {
      if let sender { return sender }
      let made = WebhookSender(
        transport: try CurlTransport(CurlSettings(certificateAuthorityFile: nil, environment: environment)),
        pausing: TaskPause())
      sender = made
      return made
    }

    private mutating func complain(_ target: NotificationTarget, _ why: String) {
      failed.insert(target.name)
      report("warning: notification '\(target.name)' (\(ApplyCode.notificationFailed)): \(why)")
    }
  }

  // MARK: What was told

  /// Beside the plan, and in the archive for runs on other machines.
  private struct MemoryStore: Sendable {
    let directory: String
    let archive: (any PlanArchive)?

    func load() async -> NoticeMemory {
      let local = try? await onBlockingThread { [directory] in
        try DirectoryStateStore(path: directory).read(Notifier.memoryFile)
      }
      if let memory = local.flatMap(Self.decoded) { return memory }
      guard let archive else { return NoticeMemory() }
      let kept = await withTimeLimit(seconds: Notifier.memorySeconds) { () -> [UInt8]? in
        (try? await archive.kept(at: Notifier.memoryFile))?.bytes
      }
      return (kept ?? nil).flatMap(Self.decoded) ?? NoticeMemory()
    }

    /// What is to be said where it could not be kept.
    func save(_ memory: NoticeMemory) async -> String? {
      guard let bytes = Self.encoded(memory) else { return nil }
      do {
        try await onBlockingThread { [directory] in
          try DirectoryStateStore(path: directory).replace(Notifier.memoryFile, with: bytes)
        }
        return nil
      } catch {
        return
          "what was notified can't be noted (\(ApplyCode.notificationNotNoted)): \(error); the next run may say it again"
      }
    }

    /// For runs on other machines; one that the archive lacks costs a message said twice.
    func archive(_ memory: NoticeMemory) async {
      guard let archive, let bytes = Self.encoded(memory) else { return }
      _ = await withTimeLimit(seconds: Notifier.memorySeconds) {
        do throws(GatewayError) {
          return try await archive.keep(bytes, at: Notifier.memoryFile)
        } catch {
          return error.message
        }
      }
    }

    private static func encoded(_ memory: NoticeMemory) -> [UInt8]? {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return (try? encoder.encode(memory)).map { [UInt8]($0) + [10] }
    }

    private static func decoded(_ bytes: [UInt8]) -> NoticeMemory? {
      let memory = try? JSONDecoder().decode(NoticeMemory.self, from: Data(bytes))
      return memory?.formatVersion == NoticeMemory.version ? memory : nil
    }
  }
}
