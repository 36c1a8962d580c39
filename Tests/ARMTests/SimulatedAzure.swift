import ARMClient
import ARMEmulator
import BlockModel
import MigrationModel
import Reconciling
import Seams
import TestSupport

/// Pauses of a `VirtualLoop`.
struct LoopPauses: Pausing {
  let loop: VirtualLoop
  func pause(seconds: Double) async throws(CancellationError) {
    if Task.isCancelled { throw CancellationError() }
    await loop.pause(seconds: seconds)
    if Task.isCancelled { throw CancellationError() }
  }
}

/// The emulator in memory as a network of virtual time: each request takes a while, and a broken connection breaks.
struct SimulatedTransport: HTTPTransport {
  let azure: EmulatorInMemory
  let loop: VirtualLoop

  func send(_ request: HTTPRequest) async throws(HTTPTransportError) -> HTTPResponse {
    try await travel()
    let answer = azure.answer(
      request.method.rawValue, request.url,
      headers: request.headers.map { ($0.name, $0.value) } + [("Content-Length", String(request.body?.count ?? 0))],
      body: request.body ?? [], now: loop.wallNow().secondsSince1970)
    if answer.delaySeconds > request.timeoutSeconds {
      await loop.pause(seconds: request.timeoutSeconds)
      throw HTTPTransportError(.timedOut, "simulated: no answer in time", mayHaveArrived: true)
    }
    await loop.pause(seconds: answer.delaySeconds)
    try await travel()
    guard !answer.isDropped else {
      throw HTTPTransportError(.dropped, "simulated: the connection broke", mayHaveArrived: true)
    }
    return HTTPResponse(
      status: answer.status, headers: answer.headers.map { HTTPHeader($0.name, $0.value) }, body: answer.body)
  }

  private func travel() async throws(HTTPTransportError) {
    await loop.pause(seconds: 0.01 + Double(loop.random.below(40)) / 1000)
    if Task.isCancelled { throw HTTPTransportError(.cancelled, "the request was cancelled", mayHaveArrived: true) }
  }
}

struct SimulatedTokens: TokenSource {
  let name = "simulated"
  let azure: EmulatorInMemory
  let loop: VirtualLoop
  var isForStorage = false
  func fetch() async throws(TokenFailure) -> AccessToken {
    await loop.pause(seconds: 0.1)
    let token = azure.token(forStorage: isForStorage, now: loop.wallNow().secondsSince1970)
    return AccessToken(value: Secret(token.value), lifetimeSeconds: token.lifetimeSeconds)
  }
}

/// The real client over the real emulator, both on one virtual clock.
struct SimulatedWorld {
  let loop: VirtualLoop
  let azure: EmulatorInMemory

  init(
    seed: UInt64, machines: [EmulatorConfiguration.Machine], throttling: Bool,
    _ change: (inout EmulatorConfiguration) -> Void = { _ in }
  ) {
    let loop = VirtualLoop(seed: seed)
    self.loop = loop
    var configuration = EmulatorConfiguration(
      stateDirectory: "", machines: machines, clientSecret: World.secretValue, throttling: throttling)
    change(&configuration)
    azure = EmulatorInMemory(configuration, now: loop.wallNow().secondsSince1970) { loop.random.uuid() }
  }

  /// A client of its own: what one run of cmcplan has. The cloud is the public one, with its documented limits.
  func gateway(waits: Waits = Waits()) throws(GatewayError) -> AzureGateway {
    var integration = World.integration("https://management.azure.com")
    integration.cloud = .public
    let services = ClientServices(time: loop, random: loop.random, pauses: LoopPauses(loop: loop)) { waits.note($0) }
    return try AzureGateway(
      integration: integration, transport: SimulatedTransport(azure: azure, loop: loop), services: services,
      environment: [:], sources: [SimulatedTokens(azure: azure, loop: loop)])
  }
}
