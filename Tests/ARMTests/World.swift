import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Seams
import Synchronization
import TestSupport

/// Lets time pass at once, and remembers how much and why.
final class InstantPauses: Pausing {
  let time: ManualTime
  private let waited = Mutex<[Double]>([])
  init(_ time: ManualTime) { self.time = time }
  var seconds: [Double] { waited.withLock { $0 } }
  func pause(seconds: Double) async throws(CancellationError) {
    if Task.isCancelled { throw CancellationError() }
    waited.withLock { $0.append(seconds) }
    time.advance(seconds: max(0, seconds))
  }
}

/// Answers from a script, in order, and remembers what was asked.
final class ScriptedTransport: HTTPTransport {
  typealias Step = @Sendable (HTTPRequest) throws(HTTPTransportError) -> HTTPResponse
  private let steps: Mutex<[Step]>
  private let asked = Mutex<[HTTPRequest]>([])

  init(_ steps: [Step]) { self.steps = Mutex(steps) }

  var requests: [HTTPRequest] { asked.withLock { $0 } }
  var isUsedUp: Bool { steps.withLock { $0.isEmpty } }

  func send(_ request: HTTPRequest) async throws(HTTPTransportError) -> HTTPResponse {
    asked.withLock { $0.append(request) }
    let step = steps.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    guard let step else {
      throw HTTPTransportError(
        .closed, "the script has no answer to \(request.method) \(request.url)", mayHaveArrived: false)
    }
    return try step(request)
  }

  static func answer(_ status: Int, _ body: String = "", _ headers: [(String, String)] = []) -> Step {
    { _ in HTTPResponse(status: status, headers: headers.map { HTTPHeader($0.0, $0.1) }, body: Array(body.utf8)) }
  }
  static let token = answer(200, #"{"token_type":"Bearer","expires_in":3599,"access_token":"scripted-token"}"#)
  static func fail(_ code: HTTPTransportError.Code, mayHaveArrived: Bool) -> Step {
    { (_) throws(HTTPTransportError) in
      throw HTTPTransportError(code, "https://scripted: it failed", mayHaveArrived: mayHaveArrived)
    }
  }
}

/// What an operator was shown.
final class Waits: Sendable {
  private let seen = Mutex<[AzureWait]>([])
  func note(_ wait: AzureWait) { seen.withLock { $0.append(wait) } }
  var all: [AzureWait] { seen.withLock { $0 } }
}

enum World {
  static let secretValue = "s3cret-of-the-test"
  static let plan = PlanID("6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11")

  static func integration(
    _ base: String, tenant: String = EmulatorConfiguration.defaultTenant, authorityFile: String? = nil
  )
    -> AzureIntegration
  {
    AzureIntegration(
      name: "lab", cloud: .custom(authority: base, resourceManager: base, certificateAuthorityFile: authorityFile),
      tenantID: tenant, subscriptionID: EmulatorConfiguration.defaultSubscription, resourceGroup: "rehearsal",
      location: "westeurope",
      credential: .clientSecret(clientID: EmulatorConfiguration.defaultClientID, secret: .environment("LAB_SECRET")),
      tags: [:], position: nil)
  }

  static func tags(migration: String = "erp-db", volume: String = "data", plan: PlanID = plan) -> [String: String] {
    ["cmcplan-id": plan.text, "cmcplan-migration": migration, "cmcplan-volume": volume, "cmcplan-state": "prepared"]
  }

  static func request(
    _ name: String, sku: String = "Premium_LRS", sizeGiB: Int = 1, zone: String? = nil, tags: [String: String] = tags()
  )
    -> DiskRequest
  {
    DiskRequest(
      name: name, resourceGroup: "rehearsal", location: "westeurope", sku: sku, sizeGiB: sizeGiB, zone: zone, iops: nil,
      megabytesPerSecond: nil, encryptionSet: nil, networkAccess: nil, tags: tags)
  }

  static func gateway(
    _ base: String, secret: String = secretValue, waits: Waits = Waits(),
    tenant: String = EmulatorConfiguration.defaultTenant, authorityFile: String? = nil
  )
    throws -> AzureGateway
  {
    try AzureGateway(
      integration: integration(base, tenant: tenant, authorityFile: authorityFile), time: SystemTime(),
      random: SystemRandom(),
      environment: ["LAB_SECRET": secret], onWait: { waits.note($0) })
  }

  static func isAccepted(_ base: String) -> Bool { (try? gateway(base)) != nil }

  /// A gateway over a script, with time that passes at once.
  static func scripted(_ steps: [ScriptedTransport.Step], waits: Waits = Waits()) throws -> (
    AzureGateway, ScriptedTransport, InstantPauses
  ) {
    let time = ManualTime()
    let pauses = InstantPauses(time)
    let transport = ScriptedTransport(steps)
    let services = ClientServices(time: time, random: SeededRandom(seed: 7), pauses: pauses) { waits.note($0) }
    let gateway = try AzureGateway(
      integration: integration("https://scripted"), transport: transport, services: services,
      environment: ["LAB_SECRET": secretValue])
    return (gateway, transport, pauses)
  }

  /// An emulator in this process and a directory for it, both gone afterwards.
  static func withEmulator<Value: Sendable>(
    machines: [String] = ["erp-db", "other"], https: Bool = false, timeScale: Double = 500, throttling: Bool = true,
    _ body: @escaping @Sendable (Lab) async throws -> Value
  ) async throws -> Value {
    let directory = FileManager.default.temporaryDirectory.path + "/cmc-arm-" + SystemRandom().uuid()
    defer { try? Files.removeTree(directory) }
    return try await withEmulator(
      in: directory, machines: machines, https: https, timeScale: timeScale, throttling: throttling, body)
  }

  static func withEmulator<Value: Sendable>(
    in directory: String, machines: [String] = ["erp-db", "other"], https: Bool = false, timeScale: Double = 500,
    throttling: Bool = true,
    _ body: @escaping @Sendable (Lab) async throws -> Value
  ) async throws -> Value {
    let configuration = EmulatorConfiguration(
      https: https, stateDirectory: directory + "/state",
      machines: machines.map { EmulatorConfiguration.Machine(name: $0, root: "\(directory)/\($0)") },
      timeScale: timeScale,
      clientSecret: secretValue, throttling: throttling)
    return try await EmulatorServer.withServer(configuration) { url in
      try await body(Lab(url: url, directory: directory, authorityFile: https ? "\(directory)/state/ca.pem" : nil))
    }
  }
}

/// A running emulator, from outside.
struct Lab: Sendable {
  let url: String
  let directory: String
  let authorityFile: String?

  func gateway(
    secret: String = World.secretValue, waits: Waits = Waits(), tenant: String = EmulatorConfiguration.defaultTenant
  ) throws -> AzureGateway {
    try World.gateway(url, secret: secret, waits: waits, tenant: tenant, authorityFile: authorityFile)
  }

  func control(_ method: HTTPRequest.Method, _ path: String, _ body: String? = nil) async throws -> HTTPResponse {
    let transport = try CurlTransport(CurlSettings(certificateAuthorityFile: authorityFile, environment: [:]))
    return try await transport.send(
      HTTPRequest(
        method, "\(url)/cmc-emulator/\(path)", headers: [HTTPHeader("Content-Type", "application/json")],
        body: body.map { Array($0.utf8) }))
  }

  func fault(_ json: String) async throws {
    let answer = try await control(.post, "faults", json)
    guard answer.status == 201 else {
      throw EmulatorError("fault refused: \(String(decoding: answer.body, as: UTF8.self))")
    }
  }

  private struct Log: Decodable {
    struct Line: Decodable {
      var method: String
      var path: String
      var status: Int
    }
    var value: [Line]
  }

  /// "POST 200" of every request whose path holds `part`.
  func requests(_ part: String) async throws -> [String] {
    let answer = try await control(.get, "requests")
    return try JSONDecoder().decode(Log.self, from: Data(answer.body)).value
      .filter { $0.path.lowercased().contains(part.lowercased()) }.map { "\($0.method) \($0.status)" }
  }
}
