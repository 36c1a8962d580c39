import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import PlanReading
import Testing
import YAMLTree

/// What `init` writes is a plan that means what was answered, whatever was answered.
@Suite struct PlanTemplateTests {
  static let needed: [PlanTemplate.Question: String] = [
    .tenant: "11111111-1111-1111-1111-111111111111", .subscription: "22222222-2222-2222-2222-222222222222",
    .resourceGroup: "erp", .source: "erp-db", .sourceAddress: "192.0.2.10", .destination: "erp-db-azure",
    .destinationAddress: "198.51.100.20", .virtualMachine: "erp-db", .device: "/dev/mapper/vg_erp-data",
  ]

  static let variants: [[PlanTemplate.Question: String]] = [
    [:],
    [.owner: "Ops \"on call\" #1: <ops@example.com>", .operatingSystemLicensed: "true", .applicationLicensed: "true"],
    [.name: "no", .source: "on", .destination: "null", .volume: "012", .sourceUser: "root", .destinationUser: "true"],
    [.source: "1e3", .sourceAddress: "2001:db8::1", .device: "/dev/mapper/a b: c #d \\x20", .zone: "2"],
    [.sku: "PremiumV2_LRS", .zone: "1", .resourceGroup: "0123", .tenant: "example.onmicrosoft.com", .owner: "- ~"],
  ]

  @Test(arguments: variants.indices) func itValidatesAndMeansTheAnswers(_ index: Int) throws {
    let answers = Self.needed.merging(Self.variants[index]) { _, new in new }
    for (question, answer) in answers { #expect(question.fault(of: answer) == nil, "\(question) \(answer)") }
    let text = PlanTemplate(id: "6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11", answers: answers).text()
    let (plan, diagnostics) = read(text)
    #expect(diagnostics.allSatisfy { ["CMC1260", "CMC1247"].contains($0.code) }, "\(diagnostics)\n\(text)")
    let read = try #require(plan)
    #expect(read.metadata.name == answers[.name] ?? "migration")
    #expect(read.metadata.owner == answers[.owner])
    let migration = try #require(read.sortedMigrations.first)
    #expect(migration.source.text == answers[.source])
    #expect(migration.destination.text == answers[.destination])
    #expect(migration.volumes.map(\.device) == [answers[.device]])
    #expect(migration.volumes.map(\.name.text) == [answers[.volume] ?? "data"])
    #expect(migration.cutover.phase.value == .prepared)
    #expect(read.attestations.applicationLicensed == (answers[.applicationLicensed] == "true"))
    // It is laid out as fmt would.
    #expect(try YAMLFormatter.format(text) == text)
  }

  @Test(.enabled(if: SchemaTests.hasValidator, "python3 has no jsonschema or no yaml"))
  func editorsAgree() throws {
    var files: [String] = []
    defer { for file in files { try? FileManager.default.removeItem(atPath: file) } }
    for variant in Self.variants {
      let answers = Self.needed.merging(variant) { _, new in new }
      let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).yaml").path
      let text = PlanTemplate(id: "6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11", answers: answers).text()
      try Data(text.utf8).write(to: URL(filePath: file))
      files.append(file)
    }
    for verdict in try SchemaTests.verdicts(files) { #expect(verdict.hasSuffix("\tvalid"), "\(verdict)") }
  }

  @Test func wrongAnswersAreExplained() {
    #expect(PlanTemplate.Question.subscription.fault(of: "Production")?.message == "'Production' is not a UUID")
    #expect(PlanTemplate.Question.location.fault(of: "West Europe")?.advice == "write 'westeurope'")
    #expect(PlanTemplate.Question.sku.fault(of: "Premium")?.message.contains("not one of") == true)
    #expect(PlanTemplate.Question.device.fault(of: "sdb") != nil)
    #expect(PlanTemplate.Question.tenant.fault(of: "") != nil)
    #expect(PlanTemplate.Question.owner.fault(of: "") == nil)
  }
}
