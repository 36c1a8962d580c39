import BlockModel
import LinuxPlatform
import Seams
import TLSChannel
import Testing

@Suite struct AgentIdentityTests {
  private func withStore(_ body: (DirectoryStateStore, String) throws -> Void) throws {
    let path = "/tmp/cmc-identity-\(SystemRandom().uuid().prefix(8))"
    defer { try? Files.removeTree(path) }
    try body(try DirectoryStateStore(path: path), path)
  }

  @Test func anAgentKeepsItsKey() throws {
    try withStore { store, path in
      let first = try AgentIdentity.loadOrMake(in: store)
      #expect(try AgentIdentity.loadOrMake(in: store).fingerprint == first.fingerprint)
      #expect(try Files.facts("\(path)/agent.key").mode == 0o600)
      #expect(first.fingerprint.text.wholeMatch(of: /SHA256:[0-9a-f]{64}/) != nil)
    }
  }

  @Test func theFingerprintIsWhatOpenSSLComputes() throws {
    try withStore { store, path in
      let identity = try AgentIdentity.loadOrMake(in: store)
      let command = ChildCommand(
        executable: "/bin/sh",
        arguments: ["-c", "openssl pkey -in '\(path)/agent.key' -pubout -outform DER | sha256sum"],
        environment: ["PATH": "/usr/bin:/bin"], timeoutSeconds: 60)
      let output = String(decoding: try PosixChildProcesses().run(command).output, as: UTF8.self)
      #expect(identity.fingerprint.text == "SHA256:\(output.prefix(64))")
    }
  }

  @Test func aLostCertificateIsMadeAgainForTheSameKey() throws {
    try withStore { store, _ in
      let first = try AgentIdentity.loadOrMake(in: store)
      try store.remove("agent.crt")
      #expect(try AgentIdentity.loadOrMake(in: store).fingerprint == first.fingerprint)
      try store.replace("agent.crt", with: try #require(try AgentIdentity.make().certificatePEM()))
      #expect(try AgentIdentity.loadOrMake(in: store).fingerprint == first.fingerprint)
      #expect(try store.read("agent.crt") != nil)
    }
  }

  @Test func aDamagedKeyIsNeverReplaced() throws {
    try withStore { store, _ in
      try store.replace("agent.key", with: Array("-----BEGIN PRIVATE KEY-----\nrubbish\n".utf8))
      #expect { try AgentIdentity.loadOrMake(in: store) } throws: { "\($0)".contains("agent.key is damaged") }
      #expect(try store.read("agent.key")?.count == 36)
    }
  }

  @Test func pemGoesThereAndBack() throws {
    let made = try AgentIdentity.make(commonName: "somewhere")
    let key = try #require(made.privateKeyPEM())
    let certificate = try #require(made.certificatePEM())
    #expect(try AgentIdentity.read(keyPEM: key, certificatePEM: certificate).fingerprint == made.fingerprint)
    let other = try #require(try AgentIdentity.make().certificatePEM())
    #expect { try AgentIdentity.read(keyPEM: key, certificatePEM: other) } throws: { "\($0)".contains("another key") }
    #expect(throws: TLSError.self) { try AgentIdentity.read(keyPEM: [], certificatePEM: certificate) }
  }

  @Test func digestsAreSHA256() {
    // FIPS 180-4's example, at once and piece by piece; a hasher begins anew after each digest.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    #expect(Digests.hex(Digests.sha256(Array("abc".utf8))) == expected)
    let hasher = SHA256Hasher()
    for _ in 0..<2 {
      for byte in "abc".utf8 { hasher.update([byte]) }
      #expect(Digests.hex(hasher.finish()) == expected)
    }
    #expect(Digests.hex(Digests.sha256([])).hasPrefix("e3b0c442"))
  }
}
