import Diagnostics
import Foundation
import MigrationModel
import PlanReading

/// A plan that is right, for tests to change in one place.
let minimalPlan = """
  apiVersion: cmcplan/v1
  kind: MigrationPlan
  metadata:
    id: 6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11
    name: erp-to-azure
  integrations:
    corp:
      azure:
        tenantId: 11111111-1111-1111-1111-111111111111
        subscriptionId: 22222222-2222-2222-2222-222222222222
        resourceGroup: erp
        location: westeurope
  attestations: {operatingSystemLicensed: true, applicationLicensed: true}
  hosts:
    erp-db:
      address: 192.0.2.10
    erp-db-azure:
      address: 198.51.100.20
      azureVirtualMachine: erp-db
  migrations:
    erp-db:
      source: erp-db
      destination: erp-db-azure
      volumes:
        data:
          device: /dev/mapper/vg_erp-data
          disk: {sku: Premium_LRS}
      cutover:
        phase: synchronized

  """

func minimal(replacing old: String, by new: String) -> String {
  precondition(minimalPlan.contains(old), "the minimal plan has no '\(old)'")
  return minimalPlan.replacing(old, with: new, maxReplacements: 1)
}

func read(_ text: String, variables: [String: String] = [:]) -> (plan: MigrationPlan?, diagnostics: [Diagnostic]) {
  PlanReader.read(text: text, file: "plan.yaml", variables: variables)
}

/// Codes with the line: "12 CMC1101".
func codes(_ diagnostics: [Diagnostic]) -> [String] {
  diagnostics.map { "\($0.position?.line ?? 0) \($0.code)" }
}

enum Files {
  static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// The good golden cases and the examples.
  static func goodPlans() throws -> [(name: String, text: String)] {
    let cases = package.appending(path: "Tests/GoldenTests/cases/reading")
    let names = try FileManager.default.contentsOfDirectory(atPath: cases.path).filter { $0.hasPrefix("good-") }
    var files = names.map { cases.appending(path: "\($0)/plan.yaml") }
    let examples = package.appending(path: "examples")
    let walker = FileManager.default.enumerator(atPath: examples.path)
    while let path = walker?.nextObject() as? String {
      if path.hasSuffix("/plan.yaml") { files.append(examples.appending(path: path)) }
    }
    return try files.sorted { $0.path < $1.path }.map {
      ($0.deletingLastPathComponent().lastPathComponent, String(decoding: try Data(contentsOf: $0), as: UTF8.self))
    }
  }
}
