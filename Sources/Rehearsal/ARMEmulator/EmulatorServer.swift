import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import LinuxPlatform
import Logging
import NIOCore
import Seams

/// The emulator as a running server.
package enum EmulatorServer {
  /// Serves until SIGINT or SIGTERM. `report` gets a line for the operator when it listens and when it stops.
  package static func runUntilSignalled(
    _ configuration: EmulatorConfiguration, readyFile: String?, report: @escaping @Sendable (String) -> Void
  ) async throws {
    let server = try await EmulatorApplication(configuration) { url in
      if let readyFile {
        try await onBlockingThread { try Files.replace(readyFile, with: Array((url + "\n").utf8), mode: 0o644) }
      }
      report("The emulator of Azure Resource Manager listens at \(url)")
      if configuration.https {
        report("Its certificate authority is in \(configuration.stateDirectory)/ca.pem")
      }
    }
    do {
      try await server.application.runService()
    } catch let error as IOError {
      throw EmulatorError(
        "can't listen on \(configuration.host):\(configuration.port): \(error); choose another port with --listen")
    }
    try await server.finish()
    report("The emulator stopped.")
  }

  /// Serves in this process for as long as `body` runs, which gets the base URL.
  package static func withServer<Value: Sendable>(
    _ configuration: EmulatorConfiguration, _ body: @escaping @Sendable (String) async throws -> Value
  ) async throws -> Value {
    let (urls, continuation) = AsyncStream.makeStream(of: String.self)
    let server = try await EmulatorApplication(configuration) { continuation.yield($0) }
    return try await withThrowingTaskGroup(of: Value?.self) { group in
      group.addTask {
        defer { continuation.finish() }
        try await server.application.run()
        return nil
      }
      group.addTask {
        for await url in urls { return try await body(url) }
        throw EmulatorError("the emulator ended before it listened")
      }
      defer { group.cancelAll() }
      for try await value in group {
        if let value { return value }
      }
      throw EmulatorError("the emulator ended early")
    }
  }
}

/// Hummingbird around an `EmulatorService`.
private struct EmulatorApplication: Sendable {
  let application: Application<EmulatorResponder>
  private let readiness: Readiness

  /// What went wrong while the server reported that it listens.
  private actor Readiness {
    var failure: (any Error)?
    func note(_ error: any Error) { failure = error }
  }

  init(
    _ configuration: EmulatorConfiguration, ready: @escaping @Sendable (_ url: String) async throws -> Void
  ) async throws {
    var configuration = configuration
    if !configuration.stateDirectory.hasPrefix("/") {
      configuration.stateDirectory = FileManager.default.currentDirectoryPath + "/" + configuration.stateDirectory
    }
    for index in configuration.machines.indices {
      if let root = configuration.machines[index].root, !root.hasPrefix("/") {
        configuration.machines[index].root = FileManager.default.currentDirectoryPath + "/" + root
      }
    }
    let settings = configuration
    let service = try await onBlockingThread {
      try EmulatorService.open(settings, time: SystemTime(), random: SystemRandom())
    }
    let server: HTTPServerBuilder = try await settings.https ? .tls(tlsConfiguration: Self.tls(settings)) : .http1()
    let scheme = settings.https ? "https" : "http"
    let readiness = Readiness()
    self.readiness = readiness
    var logger = Logger(label: "emulator")
    // A client that went away is no event here.
    logger.logLevel = .critical
    application = Application(
      responder: EmulatorResponder(service: service, scheme: scheme, host: settings.host),
      server: server,
      configuration: ApplicationConfiguration(address: .hostname(settings.host, port: settings.port)),
      onServerRunning: { channel in
        let port = channel.localAddress?.port ?? settings.port
        do {
          let host = settings.host.contains(":") ? "[\(settings.host)]" : settings.host
          try await ready("\(scheme)://\(host):\(port)")
        } catch {
          await readiness.note(error)
        }
      }, logger: logger)
  }

  func finish() async throws {
    if let failure = await readiness.failure { throw failure }
  }

  private static func tls(_ configuration: EmulatorConfiguration) async throws -> TLSConfiguration {
    let files = try await onBlockingThread {
      try EmulatorCertificates(
        directory: configuration.stateDirectory, host: configuration.host, now: SystemTime().wallNow())
    }
    return TLSConfiguration.makeServerConfiguration(
      certificateChain: try NIOSSLCertificate.fromPEMFile(files.certificateFile).map { .certificate($0) },
      privateKey: .privateKey(try NIOSSLPrivateKey(file: files.keyFile, format: .pem)))
  }
}

/// Turns HTTP into the service's own requests and back.
private struct EmulatorResponder: HTTPResponder {
  typealias Context = BasicRequestContext
  let service: EmulatorService
  let scheme: String
  let host: String

  static let bodyLimitBytes = 4 << 20

  struct Dropped: Error {}

  func respond(to request: Request, context: BasicRequestContext) async throws -> Response {
    let message: EmulatorRequest
    do {
      message = try await read(request)
    } catch {
      return Response(status: .contentTooLarge)
    }
    let service = service
    let reply = try await onBlockingThread { service.reply(to: message) }
    if reply.delaySeconds > 0 { try await TaskPause().pause(seconds: reply.delaySeconds) }
    let response = write(reply)
    return request.method == .head ? response.createHeadResponse() : response
  }

  private func read(_ request: Request) async throws -> EmulatorRequest {
    let buffer = try await request.body.collect(upTo: Self.bodyLimitBytes)
    return EmulatorRequest(
      method: request.method.rawValue, target: request.uri.string,
      headers: request.headers.map { ($0.name.canonicalName, $0.value) }, body: Array(buffer.readableBytesView),
      baseURL: "\(scheme)://\(request.head.authority ?? host)")
  }

  private func write(_ reply: EmulatedCloud.Reply) -> Response {
    var headers = HTTPFields()
    for header in reply.response.headers {
      guard let name = HTTPField.Name(header.name) else { continue }
      headers.append(HTTPField(name: name, value: header.value))
    }
    let bytes = reply.response.bytes
    if !bytes.isEmpty { headers[.contentType] = reply.response.contentType }
    let status = HTTPResponse.Status(code: reply.response.status)
    if reply.dropsConnection {
      // A length is promised and never sent: the server closes the connection.
      return Response(
        status: status, headers: headers, body: ResponseBody(contentLength: 1 << 20) { _ in throw Dropped() })
    }
    return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }
}
