@testable import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import MigrationModel
import Reconciling
import TestSupport
import Testing

/// Records go to a container of blobs, and come back alike; what is refused says why and what to do.
@Suite(.timeLimit(.minutes(10))) struct BlobStoreTests {
  private static let base = "https://storage.example.com"

  /// The emulator with one container, on a clock of its own.
  private static func emulated(_ change: (inout EmulatorConfiguration) -> Void = { _ in }) -> SimulatedWorld {
    SimulatedWorld(seed: 7, machines: [], throttling: false) {
      $0.containers = ["records"]
      change(&$0)
    }
  }

  private static func store(
    _ world: SimulatedWorld, _ path: String = "/rehearsal/records/a/b"
  ) throws -> BlobStore {
    let address = try #require(BlobAddress(base + path))
    return try BlobStore.make(
      address, integration: World.integration(base), sas: nil,
      transport: SimulatedTransport(azure: world.azure, loop: world.loop),
      services: ClientServices(
        time: world.loop, random: world.loop.random, pauses: LoopPauses(loop: world.loop), onWait: { _ in }),
      environment: [:], sources: [SimulatedTokens(azure: world.azure, loop: world.loop, isForStorage: true)])
  }

  private static func run<Value: Sendable>(
    _ world: SimulatedWorld, _ body: @escaping @Sendable () async throws(GatewayError) -> Value
  ) throws -> Result<Value, GatewayError> {
    let result = world.loop.run { () -> Result<Value, GatewayError> in
      do throws(GatewayError) { return .success(try await body()) } catch { return .failure(error) }
    }
    return try #require(result)
  }

  @Test("what is put is there, below the prefix, and can be listed page by page")
  func roundTrip() throws {
    let world = Self.emulated()
    let store = try Self.store(world)
    let bytes: [UInt8] = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let names = try Self.run(world) { () async throws(GatewayError) -> [String] in
      #expect(try await store.get("x/receipt") == nil)
      try await store.put(bytes, at: "x/receipt")
      try await store.put([], at: "x/empty")
      try await store.put(bytes, at: "x/receipt")
      #expect(try await store.get("x/receipt") == bytes)
      #expect(try await store.get("x/empty") == [])
      return try await store.list("x/").map { "\($0.name) \($0.sizeBytes)" }
    }.get()
    #expect(names == ["x/empty 0", "x/receipt 5000"])
    #expect(world.azure.requests("/rehearsal/records/a/b/x/receipt").count == 4)
  }

  @Test("a list goes on where a page ends")
  func pages() async throws {
    let first =
      "<?xml version=\"1.0\"?><EnumerationResults><Blobs><Blob><Name>a/b/x/1</Name><Properties><Content-Length>3"
      + "</Content-Length></Properties></Blob></Blobs><NextMarker>m&amp;1</NextMarker></EnumerationResults>"
    let second =
      "<EnumerationResults><Blobs><Blob><Name>a/b/x/2</Name><Properties><Content-Length>4</Content-Length></Properties>"
      + "</Blob></Blobs><NextMarker /></EnumerationResults>"
    let transport = ScriptedTransport([
      ScriptedTransport.token, ScriptedTransport.answer(200, first), ScriptedTransport.answer(200, second),
    ])
    let store = try Self.scripted(transport)
    let items = try await store.list("x/")
    #expect(items.map(\.name) == ["x/1", "x/2"] && items.map(\.sizeBytes) == [3, 4])
    #expect(transport.requests.last?.url.hasSuffix("&prefix=a%2Fb%2Fx%2F&marker=m%261") == true)
  }

  private static func scripted(
    _ transport: ScriptedTransport, sas: SecretReference? = nil, environment: [String: String] = [:],
    at url: String = base + "/rehearsal/records/a/b"
  ) throws -> BlobStore {
    let time = ManualTime()
    return try BlobStore.make(
      try #require(BlobAddress(url)), integration: World.integration(base), sas: sas, transport: transport,
      services: ClientServices(
        time: time, random: SeededRandom(seed: 1), pauses: InstantPauses(time), onWait: { _ in }),
      environment: environment.merging(["LAB_SECRET": World.secretValue]) { first, _ in first })
  }

  @Test("requests carry what the service documents, and ask for the storage audience")
  func headers() async throws {
    let transport = ScriptedTransport([ScriptedTransport.token, ScriptedTransport.answer(201)])
    try await Self.scripted(transport).put([1, 2], at: "x/receipt")
    let form = String(decoding: transport.requests[0].body ?? [], as: UTF8.self)
    #expect(form.contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default"))
    let put = transport.requests[1]
    #expect(put.method == .put && put.url == "https://storage.example.com/rehearsal/records/a/b/x/receipt")
    let headers = Dictionary(put.headers.map { ($0.name.lowercased(), $0.value) }) { first, _ in first }
    #expect(headers["authorization"] == "Bearer scripted-token")
    #expect(headers["x-ms-blob-type"] == "BlockBlob" && headers["x-ms-version"] == "2023-11-03")
    #expect(headers["x-ms-date"]?.hasSuffix(" GMT") == true && headers["x-ms-client-request-id"] != nil)
  }

  @Test("a signature is in the query and nowhere else, and nothing else is taken for one")
  func signature() async throws {
    let sas = "?sv=2023-11-03&sp=rcwl&sig=s3cret%3D"
    let transport = ScriptedTransport([
      ScriptedTransport.answer(201),
      ScriptedTransport.answer(
        403, "<Error><Code>AuthenticationFailed</Code><Message>Signature did not match.\nTime:x</Message></Error>",
        [("x-ms-error-code", "AuthenticationFailed")]),
    ])
    let store = try Self.scripted(transport, sas: .environment("SAS"), environment: ["SAS": sas])
    try await store.put([1], at: "x")
    #expect(transport.requests[0].url == "https://storage.example.com/rehearsal/records/a/b/x\(sas)")
    #expect(!transport.requests[0].headers.contains { $0.name == "Authorization" })
    let error = await #expect(throws: GatewayError.self) { try await store.put([1], at: "x") }
    #expect(error?.code == ApplyCode.archiveDenied && error?.message.contains("Signature did not match.") == true)
    #expect(error?.description.contains("s3cret") == false)
    let wrong = try Self.scripted(
      ScriptedTransport([]), sas: .environment("SAS"), environment: ["SAS": "a-s3cret-of-something-else"])
    let refused = await #expect(throws: GatewayError.self) { try await wrong.put([1], at: "x") }
    #expect(refused?.code == AzureFaultCode.secretMissing && refused?.description.contains("s3cret") == false)
  }

  @Test("a refusal says what to do")
  func refusals() throws {
    let denied = Self.emulated {
      $0.deniedActions = ["microsoft.storage/storageaccounts/blobservices/containers/blobs/write"]
    }
    let error = try Self.refusal(of: Self.store(denied), denied)
    #expect(error?.code == ApplyCode.archiveDenied && error?.advice.contains("Storage Blob Data Contributor") == true)
    #expect(error?.message.contains("AuthorizationPermissionMismatch") == true)

    let world = Self.emulated()
    let missing = try Self.refusal(of: Self.store(world, "/rehearsal/nothing"), world)
    #expect(missing?.code == ApplyCode.archiveFailed && missing?.advice.contains("make the container nothing") == true)
  }

  /// Of a write; nil where it was carried out.
  private static func refusal(of store: BlobStore, _ world: SimulatedWorld) throws -> GatewayError? {
    let result = try run(world) { () async throws(GatewayError) -> Void in try await store.put([1], at: "x") }
    if case .failure(let error) = result { return error }
    return nil
  }

  @Test("a token that was given back is fetched anew, and a service that is unwell is asked again")
  func troubles() throws {
    let world = Self.emulated()
    let store = try Self.store(world)
    #expect(world.azure.fault(#"{"match": "put /rehearsal", "times": 2, "status": 503, "code": "ServerBusy"}"#))
    #expect(world.azure.fault(#"{"match": "get /rehearsal", "times": 1, "expireTokens": true}"#))
    #expect(world.azure.fault(#"{"match": "put /rehearsal", "times": 1, "drop": "after"}"#))
    let kept = try Self.run(world) { () async throws(GatewayError) -> [UInt8]? in
      try await store.put([1, 2, 3], at: "x")
      return try await store.get("x")
    }.get()
    #expect(kept == [1, 2, 3])
    #expect(world.azure.requests("/rehearsal/records").contains("GET 401"))
  }

  @Test(
    "the emulator refuses what the service refuses",
    arguments: [
      ("PUT", "/rehearsal/records/x", ["x-ms-version": "2023-11-03"], "token", 400, "MissingRequiredHeader"),
      (
        "PUT", "/rehearsal/records/x", ["x-ms-version": "2023-11-03", "x-ms-blob-type": "PageBlob"], "token", 400,
        "InvalidHeaderValue"
      ),
      ("GET", "/rehearsal/records/x", [:], "token", 400, "MissingRequiredHeader"),
      ("GET", "/rehearsal/records/x", ["x-ms-version": "2015-04-05"], "token", 400, "InvalidHeaderValue"),
      ("GET", "/rehearsal/records/x", ["x-ms-version": "2023-11-03"], "token", 404, "BlobNotFound"),
      ("GET", "/rehearsal/other/x", ["x-ms-version": "2023-11-03"], "token", 404, "ContainerNotFound"),
      ("GET", "/rehearsal/records/x", ["x-ms-version": "2023-11-03"], "", 401, "NoAuthenticationInformation"),
      ("GET", "/rehearsal/records/x", ["x-ms-version": "2023-11-03"], "wrong", 401, "InvalidAuthenticationInfo"),
      ("GET", "/rehearsal/records/x?sv=1&sig=2", ["x-ms-version": "2023-11-03"], "", 403, "AuthenticationFailed"),
    ])
  func emulatorRefuses(
    _ method: String, _ path: String, _ headers: [String: String], _ bearer: String, _ status: Int, _ code: String
  ) throws {
    let world = Self.emulated()
    let now = world.loop.wallNow().secondsSince1970
    var all = headers.map { ($0.key, $0.value) } + [("Content-Length", "1")]
    if bearer == "wrong" { all.append(("Authorization", "Bearer \(world.azure.token(now: now).value)")) }
    if bearer == "token" {
      all.append(("Authorization", "Bearer \(world.azure.token(forStorage: true, now: now).value)"))
    }
    let answer = world.azure.answer(method, Self.base + path, headers: all, body: [1], now: now)
    #expect(answer.status == status)
    let shown = answer.headers.first { $0.name == "x-ms-error-code" }?.value
    #expect(shown == code && String(decoding: answer.body, as: UTF8.self).contains("<Code>\(code)</Code>"))
    // The same token is none for the resource manager.
    guard bearer == "token" else { return }
    let other = world.azure.answer(
      "GET", Self.base + "/subscriptions?api-version=2022-12-01", headers: all, body: [], now: now)
    #expect(other.status == 401)
  }

  @Test(
    "an address is a container's, or none",
    arguments: [
      ("https://erp.blob.core.windows.net/records", "records", ""),
      ("https://ERP.blob.core.windows.net/records/a/b/", "records", "a/b"),
      ("https://erp.blob.core.chinacloudapi.cn/records", "records", ""),
      ("http://127.0.0.1:10000/account/records/a", "records", "a"),
      ("https://erp.blob.local.azurestack.example/records", "records", ""),
      ("https://erp.blob.core.windows.net", nil, ""), ("https://erp.blob.core.windows.net/", nil, ""),
      ("https://erp.blob.core.windows.net/records?sv=1&sig=2", nil, ""), ("http://erp.example.com/a/records", nil, ""),
      ("https://erp.blob.core.windows.net/Records", nil, ""),
      ("https://erp.blob.core.windows.net/records/../x", nil, ""),
      ("https://storage.example.com/records", nil, ""), ("https://erp.blob.core.windows.net/re--cords", nil, ""),
    ])
  func addresses(_ url: String, _ container: String?, _ prefix: String) {
    let address = BlobAddress(url)
    #expect(address?.container == container)
    if container != nil { #expect(address?.prefix == prefix) }
    #expect((address?.cloud == .public) == (container != nil && url.contains(".core.windows.net")))
  }
}
