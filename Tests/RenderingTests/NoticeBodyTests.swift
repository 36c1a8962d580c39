import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering
import Testing

@Suite("What a webhook is sent") struct NoticeBodyTests {
  private let now = WallTime(secondsSince1970: 1_795_406_400)
  private let plan = Metadata(id: PlanID("6f1c0c9e"), name: "erp <to> azure")
  private func notice(_ message: String, event: NotificationTarget.Event = .held) -> Notice {
    Notice(
      event: event, migration: MigrationName("erp-db"), cause: "paused 1", message: message,
      advice: "cmcplan resume erp-db", reached: .reached(.cmotion), target: .finalized)
  }

  private func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func render(_ notice: Notice, _ format: NotificationTarget.Format) -> String {
    renderNotice(notice, as: format, plan: plan, run: "run-1", at: now, digest: { "D:\($0.utf8.count)" })
  }

  @Test("The JSON is what its schema says: every field, no other; every event there is")
  func json() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let schema = try object(
      String(decoding: try Data(contentsOf: root.appending(path: "schemas/notification.schema.json")), as: UTF8.self))
    let properties = try #require(schema["properties"] as? [String: [String: Any]])
    let body = try object(render(notice("held by \"ann\"\nbecause"), .json))
    #expect(Set(body.keys) == Set(properties.keys))
    #expect(Set(body.keys) == Set(try #require(schema["required"] as? [String])))
    #expect(
      (properties["event"]?["enum"] as? [String]).map(Set.init)
        == Set(NotificationTarget.Event.allCases.map(\.rawValue)))
    #expect((properties["reached"]?["enum"] as? [String])?.contains(body["reached"] as? String ?? "") == true)
    #expect(body["kind"] as? String == "Notification" && body["formatVersion"] as? Int == 1)
    #expect(body["at"] as? String == "2026-11-23T04:00:00Z")
    #expect(body["message"] as? String == "held by \"ann\"\nbecause")
    #expect(body["run"] as? String == "run-1" && body["target"] as? String == "finalized")
  }

  @Test("The id is the same for the same cause, whatever the words")
  func id() throws {
    let one = try object(render(notice("one"), .json))["id"] as? String
    #expect(try object(render(notice("another"), .json))["id"] as? String == one)
    #expect(try object(render(notice("one", event: .failed), .json))["id"] as? String != one)
  }

  @Test("Slack's marks are escaped, Teams gets a card, and a long text is cut")
  func others() throws {
    let slack = try object(render(notice("<!channel> & co"), .slack))
    #expect(
      slack["text"] as? String
        == "*cmcplan erp &lt;to&gt; azure*: &lt;!channel&gt; &amp; co\ncmcplan resume erp-db")
    #expect(slack.count == 1)
    let teams = render(notice("failed"), .teams)
    #expect(teams.contains("\"contentType\":\"application/vnd.microsoft.card.adaptive\""))
    #expect(teams.contains("\"text\":\"failed\""))
    for format in NotificationTarget.Format.allCases {
      #expect(render(notice(String(repeating: "x", count: 100_000)), format).utf8.count < 4_000)
    }
  }
}
