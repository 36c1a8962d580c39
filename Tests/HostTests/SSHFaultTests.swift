import MigrationModel
import Reconciling
import Testing

@testable import SSHDeploy

/// Against what OpenSSH 9 prints.
@Suite struct SSHFaultTests {
  static let target = SSHTarget(
    host: "db", address: "192.0.2.1",
    access: SSHAccess(user: "migrate", port: 2222, identityFile: "/k/my key", jump: "root@bastion", sudo: true))

  private func error(_ said: String, timedOut: Bool = false, fingerprint: String? = nil) -> GatewayError {
    SSHFault.error(said, target: Self.target, timedOut: timedOut, fingerprint: fingerprint)
  }

  @Test func anUnknownKeyShowsItsFingerprintAndHowToAcceptIt() {
    let error = error(
      """
      No ED25519 host key is known for [192.0.2.1]:2222 and you have requested strict checking.\r
      Host key verification failed.\r\n
      """, fingerprint: "ssh-ed25519 SHA256:abc")
    #expect(error.code == "CMC3240")
    #expect(error.message.contains("[192.0.2.1]:2222 isn't known yet. It shows ssh-ed25519 SHA256:abc."))
    #expect(error.advice.hasSuffix("ssh -p 2222 -i '/k/my key' -J root@bastion migrate@192.0.2.1 true"))
    #expect(error.disposition == .needsOperator)
  }

  @Test func aChangedKeyIsAnAlarmThatNamesTheFile() {
    let error = error(
      """
      @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
      The fingerprint for the ED25519 key sent by the remote host is\r
      SHA256:new.\r
      Add correct host key in /home/me/.ssh/known_hosts to get rid of this message.\r
      Offending ED25519 key in /home/me/.ssh/known hosts:3\r
      Host key for [192.0.2.1]:2222 has changed and you have requested strict checking.\r
      Host key verification failed.\r
      """)
    #expect(error.code == "CMC3241")
    #expect(error.message.contains("SHA256:new, not the one in /home/me/.ssh/known hosts:3"))
    #expect(error.advice.contains("ssh-keygen -R '[192.0.2.1]:2222' -f '/home/me/.ssh/known hosts'"))
  }

  @Test(arguments: [
    ("migrate@192.0.2.1: Permission denied (publickey).", "CMC3242", Disposition.needsOperator),
    ("ssh: Could not resolve hostname db: Name or service not known", "CMC3243", .needsOperator),
    ("ssh: connect to host 192.0.2.1 port 2222: Connection timed out", "CMC3244", .retry(afterSeconds: 5)),
    ("ssh: connect to host 192.0.2.1 port 2222: No route to host", "CMC3244", .retry(afterSeconds: 5)),
    ("Timeout, server 192.0.2.1 not responding.", "CMC3244", .retry(afterSeconds: 5)),
    ("ssh: connect to host 192.0.2.1 port 2222: Connection refused", "CMC3245", .retry(afterSeconds: 5)),
    ("kex_exchange_identification: Connection closed by remote host", "CMC3246", .retry(afterSeconds: 2)),
    ("/home/me/.ssh/config: line 3: Bad configuration option: foo", "CMC3247", .needsOperator),
    ("something new", "CMC3248", .retry(afterSeconds: 2)),
  ])
  func othersAreToldApart(said: String, code: String, disposition: Disposition) {
    let error = error(said)
    #expect(error.code == code)
    #expect(error.disposition == disposition)
    #expect(error.message.contains("db") && !error.advice.isEmpty)
  }

  @Test func aLoginThatHangsIsCalledUnreachable() {
    #expect(error("", timedOut: true).code == "CMC3244")
  }

  @Test func theFingerprintIsOfTheHostThatWasRefused() {
    let said = """
      debug1: Server host key: ssh-ed25519 SHA256:jump\r
      debug1: Server host key: ssh-ed25519 SHA256:target\r
      Host key verification failed.\r
      """
    #expect(SSHFault.fingerprint(inVerbose: said) == "ssh-ed25519 SHA256:target")
  }

  @Test func sudoNamesTheLineToAdd() throws {
    let login = try #require(SSHLogin(line: "cmcplan:login 1000 no /home/migrate"))
    #expect(SSHFault.sudo(login, target: Self.target).advice.contains("migrate ALL=(root) NOPASSWD: ALL"))
  }

  @Test func theClientGetsNothingOfTheEnvironmentButWhatItNeeds() {
    let settings = SSHSettings(environment: [
      "PATH": "/usr/bin", "HOME": "/home/me", "SSH_AUTH_SOCK": "/s", "AZURE_CLIENT_SECRET": "hush",
    ])
    #expect(settings.environment["SSH_AUTH_SOCK"] == "/s")
    #expect(!settings.environment.values.contains("hush"))
    #expect(settings.configuration.contains("Include ~/.ssh/config"))
    let named = SSHSettings(environment: ["CMCPLAN_SSH_CONFIG": "/a b/config"])
    #expect(named.configuration.contains("Include \"/a b/config\""))
  }
}
