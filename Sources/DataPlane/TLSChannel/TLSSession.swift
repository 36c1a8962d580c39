import BlockModel
import COpenSSL
import LinuxPlatform
import Seams
import Synchronization

/// Decides about the peer's key while the handshake runs, and remembers the verdict.
final class PeerJudge: Sendable {
  struct Verdict: Sendable {
    var fingerprint: KeyFingerprint?
    var isAdmitted = false
  }
  private let admits: @Sendable (KeyFingerprint) -> Bool
  private let verdict = Mutex(Verdict())

  init(_ admits: @escaping @Sendable (KeyFingerprint) -> Bool) { self.admits = admits }

  func judge(_ fingerprint: KeyFingerprint?) -> Bool {
    let isAdmitted = fingerprint.map(admits) ?? false
    verdict.withLock { $0 = Verdict(fingerprint: fingerprint, isAdmitted: isAdmitted) }
    return isAdmitted
  }

  var outcome: Verdict { verdict.withLock { $0 } }
}

/// What one call into OpenSSL came to.
enum TLSStep {
  case moved(Int)
  case wait(Poll.Direction)
  case failed(ChannelError)
}

/// The SSL object. Not for two threads at once: `TLSChannel` keeps it under a lock.
final class TLSSession {
  private let tls: OpaquePointer
  private let judge: PeerJudge
  private let label: String
  private var failure: ChannelError?

  /// Bytes fetched by one system call at most, ahead of what was asked for.
  static let readAheadBytes = 128 << 10

  private static var cipherSuites: String {
    let aes = "TLS_AES_128_GCM_SHA256"
    let chaCha = "TLS_CHACHA20_POLY1305_SHA256"
    return ProcessSetup.hasAESInstructions ? "\(aes):\(chaCha)" : "\(chaCha):\(aes)"
  }

  init(
    identity: AgentIdentity, isServer: Bool, descriptor: Int32, judge: PeerJudge, label: String
  ) throws(ChannelError) {
    self.judge = judge
    self.label = label
    ERR_clear_error()
    guard let context = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else {
      throw ChannelError(.broken, "cannot set up TLS: \(TLSError.libraryReason())")
    }
    // The SSL object holds a reference of its own.
    defer { SSL_CTX_free(context) }
    // The judge lives as long as this session, which frees the SSL object before it goes.
    cmc_tls_verify_with(
      context,
      { store, argument in
        guard let store, let argument else { return 0 }
        let judge = Unmanaged<PeerJudge>.fromOpaque(argument).takeUnretainedValue()
        let certificate = X509_STORE_CTX_get0_cert(store)
        let isAdmitted = judge.judge(certificate.flatMap { KeyFingerprint.of(certificate: $0) })
        if !isAdmitted { X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED) }
        return isAdmitted ? 1 : 0
      }, Unmanaged.passUnretained(judge).toOpaque())
    guard cmc_tls_restrict(context, Self.cipherSuites) == 1,
      SSL_CTX_use_certificate(context, identity.certificate) == 1,
      SSL_CTX_use_PrivateKey(context, identity.key) == 1, let tls = SSL_new(context)
    else { throw ChannelError(.broken, "cannot set up TLS: \(TLSError.libraryReason())") }
    self.tls = tls
    guard cmc_tls_attach(tls, descriptor, Self.readAheadBytes) == 1 else {
      throw ChannelError(.broken, "cannot set up TLS: \(TLSError.libraryReason())")
    }
    if isServer { SSL_set_accept_state(tls) } else { SSL_set_connect_state(tls) }
  }

  deinit { SSL_free(tls) }

  func handshake() -> TLSStep {
    if let failure { return .failed(failure) }
    var systemError: Int32 = 0
    return step(cmc_tls_handshake(tls, &systemError), moved: 0, systemError)
  }

  /// Reads what is there: one record, and more as long as read-ahead bytes wait.
  func read(into buffer: UnsafeMutableRawBufferPointer) -> TLSStep {
    if let failure { return .failed(failure) }
    var filled = 0
    repeat {
      var moved = 0
      var systemError: Int32 = 0
      let outcome = cmc_tls_read(
        tls, buffer.baseAddress.map { $0 + filled }, buffer.count - filled, &moved, &systemError)
      let step = step(outcome, moved: moved, systemError)
      guard case .moved(let count) = step else { return filled > 0 ? .moved(filled) : step }
      filled += count
    } while filled < buffer.count && cmc_tls_has_bytes(tls) == 1
    return .moved(filled)
  }

  /// Writes at most one record.
  func write(_ buffer: UnsafeRawBufferPointer) -> TLSStep {
    if let failure { return .failed(failure) }
    var moved = 0
    var systemError: Int32 = 0
    let outcome = cmc_tls_write(tls, buffer.baseAddress, buffer.count, &moved, &systemError)
    return step(outcome, moved: moved, systemError)
  }

  /// Says goodbye, if the socket takes it at once.
  func sayClosed() {
    guard failure == nil, SSL_is_init_finished(tls) == 1 else { return }
    ERR_clear_error()
    _ = SSL_shutdown(tls)
  }

  var cipherName: String { SSL_get_cipher_name(tls) }

  private func step(_ outcome: Int32, moved: Int, _ systemError: Int32) -> TLSStep {
    switch outcome {
    case SSL_ERROR_NONE: return .moved(moved)
    case SSL_ERROR_WANT_READ: return .wait(.reading)
    case SSL_ERROR_WANT_WRITE: return .wait(.writing)
    default:
      let error = describe(outcome, systemError)
      failure = error
      return .failed(error)
    }
  }

  private func describe(_ outcome: Int32, _ systemError: Int32) -> ChannelError {
    if outcome == SSL_ERROR_ZERO_RETURN { return ChannelError(.closed, "\(label) closed the connection") }
    if outcome == SSL_ERROR_SYSCALL {
      let reason = systemError == 0 ? "it ended without a goodbye" : SystemError.text(of: systemError)
      return ChannelError(.broken, "TLS connection with \(label) broke: \(reason)")
    }
    let reason = cmc_tls_error_reason(cmc_tls_first_error())
    if reason == CMC_TLS_VERIFY_FAILED || reason == CMC_TLS_NO_PEER_CERTIFICATE {
      let shown = judge.outcome.fingerprint.map { "its key is \($0.text)" } ?? "it showed no key"
      return ChannelError(
        .untrustedPeer, "\(label) is not a paired agent: \(shown); run cmcplan apply to pair the agents again")
    }
    if Self.refusals.contains(reason - CMC_TLS_ALERT_BASE) {
      return ChannelError(
        .untrustedPeer, "\(label) refused this agent's key; run cmcplan apply to pair the agents again")
    }
    if reason == CMC_TLS_UNEXPECTED_EOF {
      return ChannelError(.broken, "TLS connection with \(label) broke: it ended without a goodbye")
    }
    return ChannelError(.broken, "TLS with \(label) failed: \(TLSError.libraryReason())")
  }

  /// Alerts about our certificate (RFC 8446 section 6.2): bad_certificate to unknown_ca, access_denied,
  /// certificate_required.
  private static let refusals: Set<Int32> = [42, 43, 44, 45, 46, 48, 49, 116]
}

private func SSL_get_cipher_name(_ tls: OpaquePointer) -> String {
  SSL_CIPHER_get_name(SSL_get_current_cipher(tls)).map { String(cString: $0) } ?? "none"
}
