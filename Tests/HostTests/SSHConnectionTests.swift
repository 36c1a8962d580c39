import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams
import Testing

@testable import SSHDeploy

@Suite struct SSHConnectionTests {
  static let target = SSHTarget(
    host: "db", address: "192.0.2.1",
    access: SSHAccess(user: nil, port: nil, identityFile: nil, jump: "bastion", sudo: false))

  private func connections(_ environment: [String: String] = [:]) -> SSHConnections {
    SSHConnections(
      settings: SSHSettings(environment: ["PATH": "/nowhere"].merging(environment) { $1 }),
      children: PosixChildProcesses(), pausing: TaskPause())
  }

  @Test func noTwoConnectionsShareASocket() async throws {
    let connections = connections()
    let access = Self.target.access
    var sockets: [String] = []
    for (host, address) in [("a", "192.0.2.1"), ("b", "192.0.2.2"), ("a", "192.0.2.3"), ("c", "192.0.2.4")] {
      sockets.append(
        try await connections.connection(to: HostName(host), address: address, access: access).socketPath)
    }
    #expect(Set(sockets).count == sockets.count)
    let again = try await connections.connection(to: HostName("c"), address: "192.0.2.4", access: access)
    #expect(again.socketPath == sockets.last)
    await connections.closeAll()
  }

  @Test(arguments: ["ssh/config", "/nowhere/config", "/"]) func aConfigurationThatIsNotThereIsAnError(
    path: String
  ) async throws {
    let connections = connections(["CMCPLAN_SSH_CONFIG": path])
    let error = await #expect(throws: GatewayError.self) {
      try await connections.connection(to: HostName("a"), address: "192.0.2.1", access: Self.target.access)
    }
    #expect(error?.code == "CMC3247")
    #expect(error?.message.contains("CMCPLAN_SSH_CONFIG is \(path)") == true)
    #expect(error?.disposition == .needsOperator)
  }

  @Test func aConfigurationInTheHomeDirectoryIsFound() throws {
    let home = NSTemporaryDirectory() + "cmc-home-" + SystemRandom().uuid()
    defer { try? FileManager.default.removeItem(atPath: home) }
    try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
    let settings = SSHSettings(environment: ["CMCPLAN_SSH_CONFIG": "~/config", "HOME": home])
    #expect(throws: GatewayError.self) { try settings.checkNamedConfiguration() }
    try Data().write(to: URL(fileURLWithPath: home + "/config"))
    try settings.checkNamedConfiguration()
  }

  // MARK: Turns

  @Test func whoWaitsForATurnCanBeCancelledAndTakesNone() async throws {
    let turns = SSHTurns(limit: 1, waitingLimit: 8)
    try await turns.take("jump", for: Self.target)
    let first = Task { try await turns.take("jump", for: Self.target) }
    while await turns.waitingCount("jump") < 1 { await Task.yield() }
    let second = Task { try await turns.take("jump", for: Self.target) }
    while await turns.waitingCount("jump") < 2 { await Task.yield() }
    first.cancel()
    let error = await #expect(throws: GatewayError.self) { try await first.value }
    #expect(error?.code == SSHFault.stopping)
    await turns.give("jump")
    try await second.value
    await turns.give("jump")
    try await turns.take("jump", for: Self.target)
  }

  @Test func noMoreWaitForATurnThanTheLimit() async throws {
    let turns = SSHTurns(limit: 1, waitingLimit: 1)
    try await turns.take("jump", for: Self.target)
    let waiting = Task { try await turns.take("jump", for: Self.target) }
    while await turns.waitingCount("jump") < 1 { await Task.yield() }
    let error = await #expect(throws: GatewayError.self) { try await turns.take("jump", for: Self.target) }
    #expect(error?.code == SSHFault.crowded)
    try await turns.take("another", for: Self.target)
    await turns.give("jump")
    try await waiting.value
  }

  // MARK: Logging in

  /// Logins by a program that never says who it is.
  private func silent(_ directory: String) throws -> SSHConnections {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let program = directory + "/ssh"
    try Data("#!/bin/sh\necho $$ >>\(directory)/began\nexec sleep 60\n".utf8).write(to: URL(fileURLWithPath: program))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    return SSHConnections(
      settings: SSHSettings(environment: ["PATH": directory]), children: PosixChildProcesses(), pausing: TaskPause())
  }

  @Test func aLoginThatNobodyWaitsForAnyMoreEnds() async throws {
    let directory = NSTemporaryDirectory() + "cmc-ssh-" + SystemRandom().uuid()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let connections = try silent(directory)
    let connection = try await connections.connection(
      to: HostName("a"), address: "192.0.2.1", access: Self.target.access)
    let logins = (0..<2).map { _ in Task { try await connection.login() } }
    let began = directory + "/began"
    while (try? String(contentsOfFile: began, encoding: .utf8))?.hasSuffix("\n") != true {
      try await TaskPause().pause(seconds: 0.01)
    }
    for login in logins {
      login.cancel()
      let error = await #expect(throws: GatewayError.self) { try await login.value }
      #expect(error?.code == SSHFault.stopping)
    }
    await connections.closeAll()
    let words = try String(contentsOfFile: began, encoding: .utf8).split(separator: "\n")
    let processID = try #require(words.first.flatMap { Int32($0) })
    #expect(words.count == 1)
    #expect(ProcessTable.startTime(of: processID) == nil)
  }
}
