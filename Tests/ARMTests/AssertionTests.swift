import ARMClient
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams
import TestSupport
import Testing

@testable import ARMEmulator

/// The emulator in memory as a network that takes no time.
struct EmulatedTransport: HTTPTransport {
  let azure: EmulatorInMemory
  let time: ManualTime
  func send(_ request: HTTPRequest) async throws(HTTPTransportError) -> HTTPResponse {
    let answer = azure.answer(
      request.method.rawValue, request.url, headers: request.headers.map { ($0.name, $0.value) },
      body: request.body ?? [], now: time.wallNow().secondsSince1970)
    return HTTPResponse(
      status: answer.status, headers: answer.headers.map { HTTPHeader($0.name, $0.value) }, body: answer.body)
  }
}

/// Signing in without a secret: the emulator believes a JWT only where the real service would.
@Suite(.timeLimit(.minutes(10))) struct AssertionTests {
  static let now = 1_800_000_000.0
  static let client = EmulatorConfiguration.defaultClientID
  static let tokenURL = "http://127.0.0.1/\(EmulatorConfiguration.defaultTenant)/oauth2/v2.0/token"
  static let issuer = "https://token.actions.githubusercontent.com"
  static let workload = "repo:example/erp:ref:refs/heads/main"

  /// Signs as clients and issuers do, by openssl.
  struct Signer {
    let certificate: SignInTests.Certificate

    func jwt(_ header: [String: Any], _ claims: [String: Any]) throws -> String {
      let parts = try [header, claims].map { part in
        Base64URL.text(Array(try JSONSerialization.data(withJSONObject: part, options: .sortedKeys)))
      }
      let input = parts.joined(separator: ".")
      let directory = certificate.directory
      try Files.replace("\(directory)/to-sign", with: Array(input.utf8))
      let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
      try certificate.openssl(
        ["dgst", "-sha256", "-sign", "\(directory)/key.pem"] + (header["alg"] as? String == "PS256" ? pss : [])
          + ["-out", "\(directory)/signed", "\(directory)/to-sign"])
      return input + "." + Base64URL.text(try Files.read("\(directory)/signed"))
    }

    var registered: RegisteredCertificate {
      get throws {
        try #require(try RegisteredCertificate.read(file: "\(certificate.directory)/certificate.pem").first)
      }
    }

    /// The key set that an issuer publishes.
    func keys() throws -> String {
      let text = try certificate.openssl(["rsa", "-in", "\(certificate.directory)/key.pem", "-noout", "-modulus"])
      let digits = Array(text.split(separator: "=")[1].filter(\.isHexDigit))
      let modulus = stride(from: 0, to: digits.count, by: 2).compactMap {
        UInt8(String(digits[$0...($0 + 1)]), radix: 16)
      }
      let file = "\(certificate.directory)/keys.json"
      let set =
        #"{"keys": [{"kty": "RSA", "kid": "k1", "use": "sig", "n": "\#(Base64URL.text(modulus))", "e": "AQAB"}]}"#
      try Files.replace(file, with: Array(set.utf8))
      return file
    }
  }

  /// What the token endpoint says to an assertion: "" or the text of its refusal.
  static func answer(_ assertion: String, _ change: (inout EmulatorConfiguration) throws -> Void) throws -> String {
    var configuration = EmulatorConfiguration(
      stateDirectory: "/nowhere", machines: [], clientSecret: "s", throttling: false)
    try change(&configuration)
    var cloud = EmulatedCloud(configuration, state: CloudState(), makeUUID: { UUID().uuidString.lowercased() })
    let form =
      "client_id=\(client)&grant_type=client_credentials&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
      + "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
      + "&client_assertion=\(assertion)"
    let reply = cloud.reply(
      to: EmulatorRequest(method: "POST", url: tokenURL, headers: [], body: Array(form.utf8)), now: now)
    if reply.response.status == 200 { return reply.response.body?["access_token"]?.text.map { _ in "" } ?? "no token" }
    return reply.response.body?["error_description"]?.text ?? "no reason"
  }

  static func claims(_ changes: [String: Any] = [:], without: String? = nil) -> [String: Any] {
    var claims: [String: Any] = [
      "aud": tokenURL, "iss": client, "sub": client, "jti": "one", "nbf": Int(now) - 60, "iat": Int(now),
      "exp": Int(now) + 540,
    ]
    claims.merge(changes) { _, new in new }
    if let without { claims[without] = nil }
    return claims
  }

  @Test func aCertificatesAssertionIsBelievedOnlyWhole() throws {
    let own = Signer(certificate: try SignInTests.Certificate())
    let other = Signer(certificate: try SignInTests.Certificate())
    defer { for one in [own, other] { try? Files.removeTree(one.certificate.directory) } }
    var registered = try own.registered
    // It holds in the time of the test too.
    #expect(registered.validUntil - registered.validFrom > 86_400)
    registered = RegisteredCertificate(registered, from: Self.now - 1000, until: Self.now + 1000)
    let new = ["alg": "PS256", "typ": "JWT", "x5t#S256": registered.thumbprint]
    let old = ["alg": "RS256", "typ": "JWT", "x5t": registered.oldThumbprint]
    func said(_ assertion: String, _ certificate: RegisteredCertificate? = nil) throws -> String {
      try Self.answer(assertion) { $0.certificates = [certificate ?? registered] }
    }
    #expect(try said(own.jwt(new, Self.claims())) == "")
    #expect(try said(own.jwt(old, Self.claims())) == "")
    let padded = ["alg": "RS256", "typ": "JWT", "x5t": registered.oldThumbprint + "="]
    #expect(try said(own.jwt(padded, Self.claims())) == "", "as MSAL for Python has it")
    let good = try own.jwt(new, Self.claims())
    let cases: [(String, String, String)] = [
      ("another key under its name", try other.jwt(new, Self.claims()), "AADSTS700027: .*verify the signature failed"),
      (
        "a key that nobody registered",
        try other.jwt(["alg": "PS256", "x5t#S256": other.registered.thumbprint], Self.claims()),
        "AADSTS700027: .*The key was not found"
      ),
      ("the other way to sign", try own.jwt(new.merging(["alg": "RS256"]) { $1 }, Self.claims()), "AADSTS50027"),
      ("no signature", try own.jwt(["alg": "none"], Self.claims()), "AADSTS50027"),
      ("a text that was cut", String(good.dropLast(40)), "AADSTS700027"),
      ("no JWT", "secret", "AADSTS50027: JWT token is invalid"),
      ("another audience", try own.jwt(new, Self.claims(["aud": "https://elsewhere"])), "AADSTS700023"),
      ("another client", try own.jwt(new, Self.claims(["iss": "somebody", "sub": "somebody"])), "AADSTS700021"),
      ("another subject", try own.jwt(new, Self.claims(["sub": "somebody"])), "AADSTS700021"),
      (
        "its end passed", try own.jwt(new, Self.claims(["exp": Int(Self.now) - 301])),
        "AADSTS700024: .*2027-01-15T07:54:59"
      ),
      ("its time to come", try own.jwt(new, Self.claims(["nbf": Int(Self.now) + 301])), "AADSTS700024"),
      ("no end", try own.jwt(new, Self.claims(without: "exp")), "AADSTS700024"),
      ("no id", try own.jwt(new, Self.claims(without: "jti")), "AADSTS50027: .*jti"),
    ]
    for (name, assertion, wanted) in cases {
      let text = try said(assertion)
      #expect(text.range(of: wanted, options: .regularExpression) != nil, "\(name): \(text)")
    }
    let ended = RegisteredCertificate(registered, from: Self.now - 1000, until: Self.now - 1)
    #expect(
      try said(good, ended).contains(
        "AADSTS700027: Client assertion contains an invalid signature. [Reason - The key used is expired."))
    #expect(try Self.answer(good) { _ in }.contains("AADSTS700026"))
  }

  @Test func aWorkloadsTokenIsBelievedOnlyFromItsIssuer() throws {
    let own = Signer(certificate: try SignInTests.Certificate())
    let other = Signer(certificate: try SignInTests.Certificate())
    defer { for one in [own, other] { try? Files.removeTree(one.certificate.directory) } }
    let argument = "issuer=\(Self.issuer),subject=\(Self.workload),keys=\(try own.keys())"
    let credential = try FederatedCredential(argument: argument)
    func token(_ signer: Signer, _ changes: [String: Any] = [:], kid: String? = "k1", alg: String = "RS256") throws
      -> String
    {
      var header = ["alg": alg, "typ": "JWT", "x5t": "as-github-has-it"]
      header["kid"] = kid
      let claims: [String: Any] = ["iss": Self.issuer, "sub": Self.workload, "aud": "api://AzureADTokenExchange"]
      return try signer.jwt(header, Self.claims(claims.merging(changes) { _, new in new }))
    }
    func said(_ assertion: String) throws -> String {
      try Self.answer(assertion) { $0.federatedCredentials = [credential] }
    }
    #expect(try said(token(own)) == "")
    #expect(try said(token(own, ["aud": ["x", "api://AzureADTokenExchange"]], kid: nil)) == "")
    let cases: [(String, String, String)] = [
      (
        "another issuer", try token(own, ["iss": "https://elsewhere"]),
        "AADSTS700211: .*assertion issuer 'https://elsewhere'"
      ),
      (
        "another subject", try token(own, ["sub": "repo:evil/erp"]), "AADSTS700213: .*assertion subject 'repo:evil/erp'"
      ),
      ("another audience", try token(own, ["aud": "sts"]), "AADSTS700212: .*assertion audience 'sts'"),
      ("another key", try token(other), "AADSTS50027: .*failed signature verification"),
      ("a key that the issuer hasn't", try token(own, kid: "k2"), "AADSTS50027: .*failed signature verification"),
      ("another way to sign", try token(own, alg: "PS256"), "AADSTS50027"),
      ("its end passed", try token(own, ["exp": Int(Self.now) - 400]), "AADSTS700024"),
    ]
    for (name, assertion, wanted) in cases {
      let text = try said(assertion)
      #expect(text.range(of: wanted, options: .regularExpression) != nil, "\(name): \(text)")
    }
    for wrong in ["issuer=x,subject=y", "issuer=x,subject=y,keys=/nowhere", "audience", argument + ",colour=red"] {
      #expect(throws: EmulatorError.self) { try FederatedCredential(argument: wrong) }
    }
  }

  @Test func theClientsOwnAssertionIsBelieved() async throws {
    let certificate = try SignInTests.Certificate()
    let stranger = try SignInTests.Certificate()
    defer { for one in [certificate, stranger] { try? Files.removeTree(one.directory) } }
    let registered = try RegisteredCertificate.read(file: "\(certificate.directory)/certificate.pem")
    let time = ManualTime()
    var configuration = EmulatorConfiguration(
      stateDirectory: "", machines: [], clientSecret: World.secretValue, throttling: false)
    configuration.certificates = registered.map { RegisteredCertificate($0, from: 0, until: 9e9) }
    let azure = EmulatorInMemory(configuration, now: time.wallNow().secondsSince1970) { UUID().uuidString.lowercased() }
    func gateway(_ file: String, _ password: SecretReference?) throws -> AzureGateway {
      var integration = World.integration("https://management.azure.com")
      integration.credential = .clientCertificate(clientID: Self.client, certificateFile: file, password: password)
      let services = ClientServices(time: time, random: SeededRandom(seed: 1), pauses: InstantPauses(time)) { _ in }
      return try AzureGateway(
        integration: integration, transport: EmulatedTransport(azure: azure, time: time), services: services,
        environment: ["PFX_PASSWORD": "p4ss"])
    }
    let files = [(certificate.pem, nil), (certificate.pfx, SecretReference.environment("PFX_PASSWORD"))]
    for (file, password) in files { #expect(try await gateway(file, password).machine("none") == nil) }
    let error = await #expect(throws: GatewayError.self) { try await gateway(stranger.pem, nil).machine("none") }
    #expect(error?.message.contains("AADSTS700027") == true)
    #expect(error?.advice.contains("upload its public part") == true)
  }
}

extension RegisteredCertificate {
  /// The same one with other dates: openssl makes none in the time of a simulation.
  init(_ other: RegisteredCertificate, from: Double, until: Double) {
    self = other
    validFrom = from
    validUntil = until
  }
}
