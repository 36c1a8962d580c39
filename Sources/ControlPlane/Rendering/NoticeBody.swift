package import BlockModel
import Foundation
package import MigrationModel
package import Planning
package import Reconciling

/// What a webhook is sent, in the form that it understands. One versioned JSON object (schemas/notification.schema.json),
/// or what Slack or Teams show as a message.
package func renderNotice(
  _ notice: Notice, as format: NotificationTarget.Format, plan: Metadata, run: String, at now: WallTime,
  digest: DigestFunction
) -> String {
  switch format {
  case .json: encoded(NoticeDocument(notice, plan: plan, run: run, at: now, digest: digest))
  case .slack: encoded(SlackMessage(text: slackText(notice, plan)))
  case .teams: encoded(TeamsMessage(notice, plan))
  }
}

/// Longer texts (a hook's output in a message) are cut: receivers have limits of their own.
private let textLimitCharacters = 2_000

private func cut(_ text: String) -> String {
  text.count <= textLimitCharacters ? text : String(text.prefix(textLimitCharacters)) + "…"
}

private struct NoticeDocument: Encodable {
  var kind = "Notification"
  var formatVersion = 1
  /// The same for the same cause: a receiver can drop what it has already.
  var id: String
  var event: String
  var at: String
  var plan: String
  var planName: String
  var migration: String
  var reached: String
  var target: String
  var message: String
  var advice: String
  var run: String

  init(_ notice: Notice, plan: Metadata, run: String, at now: WallTime, digest: DigestFunction) {
    id = digest("\(plan.id)\n\(notice.migration)\n\(notice.event.rawValue)\n\(notice.cause)")
    event = notice.event.rawValue
    at = Date(timeIntervalSince1970: now.secondsSince1970).formatted(.iso8601)
    self.plan = plan.id.text
    planName = plan.name
    migration = notice.migration.text
    reached = identifier(of: notice.reached)
    target = notice.target.rawValue
    message = cut(notice.message)
    advice = cut(notice.advice)
    self.run = run
  }
}

/// As in a change set's JSON.
private func identifier(of reached: PhaseReached) -> String {
  switch reached {
  case .nothing: "nothing"
  case .pastFence: "pastFence"
  case .unknown: "unknown"
  case .reached(let phase), .tombstoned(let phase): phase.rawValue
  }
}

private struct SlackMessage: Encodable {
  var text: String
}

private func slackText(_ notice: Notice, _ plan: Metadata) -> String {
  func escaped(_ text: String) -> String {
    cut(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }
  return "*cmcplan \(escaped(plan.name))*: \(escaped(notice.message))"
    + (notice.advice.isEmpty ? "" : "\n\(escaped(notice.advice))")
}

/// An Adaptive Card, as Teams' workflow webhooks take them.
private struct TeamsMessage: Encodable {
  struct Block: Encodable {
    var type = "TextBlock"
    var text: String
    var wrap = true
    var weight: String?
  }
  struct Card: Encodable {
    var type = "AdaptiveCard"
    var version = "1.4"
    var body: [Block]
  }
  struct Attachment: Encodable {
    var contentType = "application/vnd.microsoft.card.adaptive"
    var content: Card
  }
  var type = "message"
  var attachments: [Attachment]

  init(_ notice: Notice, _ plan: Metadata) {
    var body = [Block(text: "cmcplan \(plan.name)", weight: "Bolder"), Block(text: cut(notice.message))]
    if !notice.advice.isEmpty { body.append(Block(text: cut(notice.advice))) }
    attachments = [Attachment(content: Card(body: body))]
  }
}
