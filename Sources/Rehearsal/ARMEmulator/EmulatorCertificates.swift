import BlockModel
import Foundation
import LinuxPlatform
import Seams

/// The emulator's own certificate authority and the certificate it signs for the server. Blocks.
struct EmulatorCertificates: Sendable {
  static let lifetimeDays = 397
  /// New ones are made when the old are older than this.
  static let renewalSeconds: Int64 = 300 * 86_400
  static let commandSeconds = 30.0

  let authorityFile: String
  let certificateFile: String
  let keyFile: String

  /// Makes them in `directory`, or takes those of an earlier run. The authority's key is thrown away once it has signed.
  init(directory: String, host: String, now: WallTime) throws(EmulatorError) {
    let tls = "\(directory)/tls"
    authorityFile = "\(directory)/ca.pem"
    certificateFile = "\(tls)/server.pem"
    keyFile = "\(tls)/server.key"
    let hostFile = "\(tls)/host"
    do {
      if let facts = try? Files.facts(keyFile), Files.exists(authorityFile), Files.exists(certificateFile),
        Int64(now.secondsSince1970) - facts.modifiedSecondsSince1970 < Self.renewalSeconds,
        (try? Files.readText(hostFile)) == host
      {
        return
      }
      try Files.makeDirectories(tls, mode: 0o700)
      let authorityKey = "\(tls)/authority.key"
      let newKey = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
      try Self.run(
        newKey + [
          "-keyout", authorityKey, "-out", authorityFile, "-days", String(Self.lifetimeDays), "-subj",
          "/CN=cmcplan emulator authority", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext",
          "keyUsage=critical,keyCertSign,cRLSign",
        ])
      let isAddress = host.allSatisfy { $0.isNumber || $0 == "." } || host.contains(":")
      let names = "DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1,\(isAddress ? "IP" : "DNS"):\(host)"
      try Self.run(
        newKey + [
          "-keyout", keyFile, "-out", certificateFile, "-CA", authorityFile, "-CAkey", authorityKey, "-days",
          String(Self.lifetimeDays), "-subj", "/CN=localhost", "-addext", "subjectAltName=\(names)", "-addext",
          "extendedKeyUsage=serverAuth", "-addext", "basicConstraints=critical,CA:FALSE", "-addext",
          "keyUsage=critical,digitalSignature",
        ])
      try Files.remove(authorityKey)
      try Files.setMode(keyFile, 0o600)
      try Files.replace(hostFile, with: Array(host.utf8))
    } catch {
      throw EmulatorError("the certificate for HTTPS can't be made: \(error)")
    }
  }

  private static func run(_ arguments: [String]) throws {
    let command = ChildCommand(
      executable: "/usr/bin/openssl", arguments: arguments, environment: ["PATH": "/usr/bin:/bin"],
      timeoutSeconds: commandSeconds)
    let result = try PosixChildProcesses().run(command)
    guard result.succeeded else {
      throw EmulatorError(
        "openssl \(arguments[0]): \(result.ending), \(String(decoding: result.errorOutput.suffix(500), as: UTF8.self))")
    }
  }
}
