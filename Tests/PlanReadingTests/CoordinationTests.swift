import BlockModel
import Diagnostics
import MigrationModel
import Testing
import YAMLTree

@testable import PlanReading

/// What is said of more than one migration: waves, groups, renames, notifications, archive, guardrails.
@Suite struct CoordinationTests {
  static let second = """
      erp-app:
        source: erp-app
        destination: erp-db-azure
        connection: {port: 5001}
        volumes:
          data: {device: /dev/mapper/vg-app, disk: {sku: Premium_LRS}}
        cutover: {phase: synchronized}

    """

  /// The model whatever else is said, and what is said.
  static func model(_ text: String) throws -> (plan: MigrationPlan, diagnostics: [Diagnostic]) {
    let document =
      minimal(replacing: "  erp-db-azure:\n", by: "  erp-app: {address: 192.0.2.11}\n  erp-db-azure:\n") + second + text
    let tree = try #require(YAMLTree.parse(bytes: Array(document.utf8), file: "plan.yaml").tree)
    let reading = Reading()
    let plan = try #require(PlanBuilder(reading).plan(tree.root, variables: []))
    return (plan, reading.finish())
  }

  @Test func wavesGroupsAndRenames() throws {
    let (plan, diagnostics) = try Self.model(
      """
      waves:
        - name: pilot
          migrations: [erp-db, erp-app]
          bake: 2d
          healthCheck: {host: erp-app, run: /usr/bin/true, timeout: 30s}
      groups: {erp: [erp-db, erp-app]}
      moved:
        - {from: old/data, to: erp-db/data}
        - {from: before, to: erp-app}
      """)
    #expect(diagnostics.map(\.code) == ["CMC1274"], "nobody waits for the only wave: \(diagnostics)")
    let both = [MigrationName("erp-db"), MigrationName("erp-app")]
    let check = WaveHealthCheck(host: HostName("erp-app"), run: "/usr/bin/true", timeoutSeconds: 30)
    #expect(plan.waves.map(\.migrations) == [both])
    #expect(plan.waves.first?.bakeSeconds == 172_800)
    #expect(plan.waves.first?.healthCheck == check)
    #expect(plan.groups.map(\.migrations) == [both])
    #expect(plan.moved.map { "\($0.from) → \($0.to)" } == ["old/data → erp-db/data", "before → erp-app"])
  }

  @Test func notificationsArchiveAndGuardrails() throws {
    let (plan, diagnostics) = try Self.model(
      """
      notifications:
        oncall: {webhook: {env: ONCALL}, events: [held, failed], format: slack}
        audit: {webhook: "https://hooks.example.com/a?b=c"}
      archive: {directory: ./records}
      guardrails:
        locations: {only: [westeurope]}
        skus: {only: [Premium_LRS], effect: warn}
        diskSize: {atMost: 4 TiB}
        moves: {atMost: 5}
        bytes: {atMost: 20 TiB}
        iqos: [{days: [mon], from: "08:00", to: "18:00", timeZone: Europe/Berlin, atMost: minimum}]
        owner: {required: true, effect: warn}
        oneWay: {savedOnly: true}
      """)
    #expect(diagnostics.isEmpty, "\(diagnostics)")
    #expect(plan.notifications.map(\.name) == ["audit", "oncall"])
    #expect(
      plan.notifications.map(\.webhook) == [.url("https://hooks.example.com/a?b=c"), .secret(.environment("ONCALL"))])
    #expect(plan.notifications.map(\.events) == [NotificationTarget.Event.allCases, [.held, .failed]])
    #expect(plan.archive?.place == .directory("./records"))
    let limits = try #require(plan.guardrails)
    #expect(limits.locations?.value == ["westeurope"])
    #expect(limits.locations?.effect == .deny)
    #expect(limits.skus?.value == [.premium])
    #expect(limits.skus?.effect == .warn)
    #expect(limits.diskSizeBytes?.value == 4 << 40)
    #expect(limits.moves?.value == 5)
    #expect(limits.iqos.map(\.value.atMost) == [.minimum])
    #expect(limits.oneWayFromSavedOnly?.value == true)
  }

  @Test(arguments: [
    ("waves: [{name: pilot, migrations: [erp-bd]}]", "CMC1270"),
    ("waves: [{name: a, migrations: [erp-db]}, {name: b, migrations: [erp-db]}]", "CMC1271"),
    ("waves: [{name: a, migrations: [erp-db]}, {name: a, migrations: [erp-app]}]", "CMC1271"),
    ("waves: [{name: a, migrations: []}]", "CMC1107"),
    ("waves: [{name: a, migrations: [erp-db], healthCheck: {host: nobody, run: x}}]", "CMC1210"),
    (
      "waves: [{name: a, migrations: [erp-db], healthCheck: {host: erp-db, run: \"x {device:data}\"}}, {name: b, migrations: [erp-app]}]",
      "CMC1233"
    ),
    ("waves: [{name: a, migrations: [erp-db], bake: 1d}, {name: b, migrations: [erp-app], bake: 1d}]", "CMC1274"),
    ("groups: {erp: [erp-db]}", "CMC1272"),
    ("groups: {erp: [erp-db, erp-app]}\nwaves: [{name: a, migrations: [erp-db]}]", "CMC1272"),
    ("groups: {a: [erp-db, erp-app], b: [erp-db, erp-app]}", "CMC1271"),
    ("moved: [{from: erp-app, to: erp-db}]", "CMC1273"),
    ("moved: [{from: old, to: erp-db/data}]", "CMC1273"),
    ("moved: [{from: old/data, to: erp-db/dta}]", "CMC1273"),
    ("moved: [{from: old, to: erp-db}, {from: older, to: erp-db}]", "CMC1273"),
    ("moved: [{from: a/b/c, to: erp-db}]", "CMC1108"),
    ("notifications: {a: {webhook: xoxb-secret}}", "CMC1120"),
    ("notifications: {a: {webhook: \"http://hooks.example.com/\"}}", "CMC1120"),
    ("notifications: {a: {webhook: {env: A}, events: [explosion]}}", "CMC1104"),
    ("archive: {blob: \"https://a.blob.core.windows.net/b\"}", "CMC1108"),
    ("archive: {directory: \"https://a.blob.core.windows.net/b\"}", "CMC1108"),
    ("archive: {directory: a, integration: corp}", "CMC1110"),
    ("archive: {blob: \"https://a.blob.core.windows.net/records\", sas: secret}", "CMC1120"),
    ("archive: {blob: \"https://a.blob.core.windows.net/records\", integration: crop}", "CMC1211"),
    ("moved: [{from: old/data, to: erp-db/data}, {from: older/data, to: erp-db/data}]", "CMC1273"),
    ("moved: [{from: erp-app/data, to: erp-db/data}]", "CMC1273"),
    ("guardrails: {moves: {atMost: 0}}", "CMC1107"),
    ("guardrails: {moves: {atMost: 3, effect: explode}}", "CMC1104"),
    ("guardrails: {moves: 3}", "CMC1103"),
  ])
  func faults(_ text: String, _ code: String) throws {
    let found = try Self.model(text).diagnostics.map(\.code)
    #expect(found.contains(code), "\(text): \(found)")
    #expect(Set(found) == [code], "\(text): \(found)")
  }

  @Test(arguments: [
    ("confirmWithin: 30m", "has 'confirmWithin: 1800 s', 'erp-db' has 'confirmWithin: none' (plan.yaml:"),
    (
      "windows: [{days: [sat], from: \"02:00\", to: \"04:00\", timeZone: Europe/Berlin}]",
      "has 'windows: one', 'erp-db' has 'windows: none' (plan.yaml:"
    ),
  ])
  func groupsAgreeOnMoreThanThePhase(_ line: String, _ words: String) throws {
    let document = Self.second.replacing("phase: synchronized", with: "phase: synchronized, \(line)")
    let text =
      minimal(replacing: "  erp-db-azure:\n", by: "  erp-app: {address: 192.0.2.11}\n  erp-db-azure:\n") + document
      + "groups: {erp: [erp-db, erp-app]}\n"
    let found = read(text).diagnostics
    #expect(found.map(\.code) == ["CMC1272"] && found.first?.message.contains(words) == true, "\(found)")
  }

  @Test func groupsOfDifferentPhasesAreRefused() throws {
    let document = Self.second.replacing("phase: synchronized", with: "phase: cmotion")
    let text =
      minimal(replacing: "  erp-db-azure:\n", by: "  erp-app: {address: 192.0.2.11}\n  erp-db-azure:\n") + document
      + "groups: {erp: [erp-db, erp-app]}\n"
    let found = try #require(read(text).diagnostics.first { $0.code == "CMC1272" })
    #expect(found.message.hasPrefix("group 'erp' can't swing together: 'erp-app' has 'phase: cmotion', 'erp-db' has "))
    #expect(found.message.contains("(plan.yaml:"), "it names the other place: \(found.message)")
    #expect(found.position != nil)
  }
}
