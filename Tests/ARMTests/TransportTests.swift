import ARMClient
import ARMEmulator
import Foundation
import LinuxPlatform
import Seams
import Testing

/// libcurl's edges, and an emulator that can't start.
@Suite(.timeLimit(.minutes(10))) struct TransportTests {
  static func code(_ request: HTTPRequest) async throws -> HTTPTransportError.Code? {
    let transport = try CurlTransport(CurlSettings(certificateAuthorityFile: nil, environment: [:]))
    do throws(HTTPTransportError) {
      _ = try await transport.send(request)
      return nil
    } catch {
      #expect(!error.message.contains("s3cret"))
      return error.code
    }
  }

  @Test func whatCannotBeSentIsRefusedBeforeItIs() async throws {
    #expect(try await Self.code(HTTPRequest(.get, "http://127.0.0.1:1/a b?s3cret")) == .invalidRequest)
    #expect(try await Self.code(HTTPRequest(.get, "file:///etc/s3cret")) == .invalidRequest)
    let split = HTTPHeader("Authorization", "Bearer s3cret\r\nX: y")
    #expect(try await Self.code(HTTPRequest(.get, "http://127.0.0.1:1/", headers: [split])) == .invalidRequest)
  }

  @Test func aPortWithNobodyBehindItIsSaid() async throws {
    #expect(try await Self.code(HTTPRequest(.post, "http://127.0.0.1:1/s3cret", body: [1])) == .connectFailed)
  }

  @Test func aSlowAnswerEndsAtItsLimitAndACancelledOneAtOnce() async throws {
    try await World.withEmulator { lab in
      try await lab.fault(#"{"match": "openid-configuration", "delay": 30, "times": 2}"#)
      let url = "\(lab.url)/\(EmulatorConfiguration.defaultTenant)/v2.0/.well-known/openid-configuration"
      #expect(try await Self.code(HTTPRequest(.get, url, timeoutSeconds: 0.2)) == .timedOut)
      let cancelled = Task { try await Self.code(HTTPRequest(.get, url)) }
      cancelled.cancel()
      #expect(try await cancelled.value == .cancelled)
    }
  }

  @Test func anEmulatorWithoutAPlaceForItsStateSaysSo() async throws {
    let error = await #expect(throws: EmulatorError.self) { try await World.withEmulator(in: "/proc/nope") { _ in } }
    #expect(error?.message.contains("/proc/nope/state") == true)
    let directory = FileManager.default.temporaryDirectory.path + "/cmc-arm-\(SystemRandom().uuid())"
    defer { try? Files.removeTree(directory) }
    try Files.makeDirectories("\(directory)/state")
    try Files.replace("\(directory)/state/state.json", with: Array("{}".utf8))
    let foreign = await #expect(throws: EmulatorError.self) { try await World.withEmulator(in: directory) { _ in } }
    #expect(foreign?.message.contains("--state") == true)
  }
}
