package import ArgumentParser
import Foundation

/// `cmcplan emulator`: Azure without its cost.
package struct EmulatorCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "emulator",
    abstract: "Run an emulator of Azure Resource Manager on this machine.",
    discussion: """
      Serves the token endpoint, managed disks, virtual machines and block blobs over HTTP (or HTTPS with a certificate \
      authority of its own, written to DIR/ca.pem). Attaching a disk to a machine that has a root makes \
      ROOT/dev/disk/azure/scsi1/lunN. Runs until it gets SIGINT or SIGTERM; state survives in DIR.
      """)

  @Option(help: "Address and port to listen on; port 0 lets the system choose.")
  package var listen = "127.0.0.1:0"

  @Flag(help: "Serve HTTPS.")
  package var https = false

  @Option(help: ArgumentHelp("Directory that keeps disks and state.", valueName: "dir"))
  package var state: String

  @Option(
    help: ArgumentHelp(
      "A virtual machine: NAME[,size=Standard_D4s_v5][,zone=1][,root=DIR][,device=file|loop][,qmp=SOCKET]; repeatable.",
      valueName: "machine"))
  package var machine: [String] = []

  @Option(help: ArgumentHelp("Run operations and rate limits N times faster than Azure does.", valueName: "n"))
  package var timeScale = 1.0

  @Option(help: ArgumentHelp("Client id that may sign in.", valueName: "id"))
  package var clientId = EmulatorConfiguration.defaultClientID

  @Option(help: ArgumentHelp("Environment variable that holds the client's secret.", valueName: "name"))
  package var clientSecretEnv = "CMC_EMULATOR_CLIENT_SECRET"

  @Option(
    help: ArgumentHelp(
      "PEM file of certificates that the client may sign in with, public part. May be given many times.",
      valueName: "file"))
  package var clientCertificate: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      A workload that may sign in as the client: issuer=URL,subject=TEXT,keys=FILE[,audience=TEXT], where FILE is the \
      issuer's key set (JWKS). May be given many times.
      """, valueName: "credential"))
  package var federatedCredential: [String] = []

  @Option(help: ArgumentHelp("Tenant id.", valueName: "id"))
  package var tenant = EmulatorConfiguration.defaultTenant

  @Option(help: ArgumentHelp("Subscription id.", valueName: "id"))
  package var subscription = EmulatorConfiguration.defaultSubscription

  @Option(help: ArgumentHelp("The resource group that exists.", valueName: "name"))
  package var resourceGroup = "rehearsal"

  @Option(help: ArgumentHelp("Region of the machines.", valueName: "name"))
  package var location = "westeurope"

  @Option(help: ArgumentHelp("File that gets the base URL once the emulator listens.", valueName: "file"))
  package var readyFile: String?

  @Flag(help: "Answer as fast as asked: no 429.")
  package var noThrottling = false

  @Option(
    help: ArgumentHelp(
      "Seconds that the guest of a machine with qmp=SOCKET has to let go of a disk before its detach fails.",
      valueName: "seconds"))
  package var guestSeconds = 15.0

  @Option(help: ArgumentHelp("A disk encryption set that exists. May be given many times.", valueName: "name"))
  package var encryptionSet: [String] = []

  @Option(
    help: ArgumentHelp("A SKU of disks or machines that this subscription may not have here.", valueName: "sku"))
  package var restrict: [String] = []

  @Option(
    help: ArgumentHelp(
      "An action that the client has no role for, such as Microsoft.Compute/disks/write.", valueName: "action"))
  package var deny: [String] = []

  @Option(help: ArgumentHelp("A usage's limit: NAME=N, such as PremiumDiskCount=10.", valueName: "quota"))
  package var quota: [String] = []

  @Option(help: ArgumentHelp("Storage account that serves block blobs, at URL/NAME/CONTAINER.", valueName: "name"))
  package var storageAccount = "rehearsal"

  @Option(help: ArgumentHelp("A container of the storage account. May be given many times.", valueName: "name"))
  package var container: [String] = []

  @Option(
    help: ArgumentHelp(
      "A fault from the start, as JSON of POST /cmc-emulator/faults. May be given many times.", valueName: "json"))
  package var fault: [String] = []

  package init() {}

  /// The options, checked and typed; `environment` holds the secret.
  package func emulatorConfiguration(environment: [String: String]) throws(EmulatorError) -> EmulatorConfiguration {
    guard let colon = listen.lastIndex(of: ":"), let port = UInt16(listen[listen.index(after: colon)...]) else {
      throw EmulatorError("--listen '\(listen)' is not ADDRESS:PORT, such as 127.0.0.1:8443")
    }
    guard let secret = environment[clientSecretEnv], !secret.isEmpty else {
      throw EmulatorError(
        "environment variable \(clientSecretEnv) is not set: put the secret there that the client will send, "
          + "or name another variable with --client-secret-env")
    }
    guard timeScale >= 0.01, timeScale <= 100_000 else {
      throw EmulatorError("--time-scale \(timeScale) is out of range: 0.01 to 100000")
    }
    guard guestSeconds >= 0, guestSeconds <= 3600 else {
      throw EmulatorError("--guest-seconds \(guestSeconds) is out of range: 0 to 3600")
    }
    var machines: [EmulatorConfiguration.Machine] = []
    for argument in machine {
      let one = try EmulatorConfiguration.Machine(argument: argument)
      guard !machines.contains(where: { $0.name.lowercased() == one.name.lowercased() }) else {
        throw EmulatorError("machine '\(one.name)' is given twice")
      }
      machines.append(one)
    }
    var configuration = EmulatorConfiguration(
      host: listen[..<colon].trimmingCharacters(in: CharacterSet(charactersIn: "[]")), port: Int(port), https: https,
      stateDirectory: state, machines: machines,
      timeScale: timeScale, clientID: clientId, clientSecret: secret, tenant: tenant, subscription: subscription,
      resourceGroup: resourceGroup, location: location, throttling: !noThrottling)
    guard AzureRegions.all[configuration.location] != nil else {
      throw EmulatorError(
        "--location '\(location)' is unknown here; one of \(AzureRegions.all.keys.sorted().joined(separator: ", "))")
    }
    configuration.encryptionSets = Set(encryptionSet.map { $0.lowercased() })
    configuration.restrictedSKUs = Set(restrict.map { $0.lowercased() })
    configuration.deniedActions = Set(deny.map { $0.lowercased() })
    configuration.quotas = try quotas()
    configuration.storageAccount = storageAccount
    configuration.containers = Set(container)
    configuration.faults = fault
    configuration.guestSeconds = guestSeconds
    for file in clientCertificate { configuration.certificates += try RegisteredCertificate.read(file: file) }
    for argument in federatedCredential {
      configuration.federatedCredentials.append(try FederatedCredential(argument: argument))
    }
    for text in fault where Fault.read(json: text) == nil {
      throw EmulatorError("--fault '\(text)' is not understood: \(Fault.form)")
    }
    return configuration
  }

  private func quotas() throws(EmulatorError) -> [String: Int] {
    var found: [String: Int] = [:]
    for text in quota {
      guard let equals = text.lastIndex(of: "="), let limit = Int(text[text.index(after: equals)...]), limit >= 0 else {
        throw EmulatorError("--quota '\(text)' is not NAME=N, such as PremiumDiskCount=10")
      }
      found[text[..<equals].lowercased()] = limit
    }
    return found
  }

  package func validate() throws {
    do {
      _ = try emulatorConfiguration(environment: [clientSecretEnv: "present"])
    } catch {
      throw ValidationError(error.message)
    }
  }

  package func run() async throws {
    let configuration = try emulatorConfiguration(environment: ProcessInfo.processInfo.environment)
    try await EmulatorServer.runUntilSignalled(configuration, readyFile: readyFile) { line in
      // Not `print`: behind a pipe that would keep the line until the end.
      FileHandle.standardOutput.write(Data((line + "\n").utf8))
    }
  }
}
