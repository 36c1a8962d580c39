package import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Seams

/// Proves both ends' keys over a connection of its own. Nothing is said on it: the link that stands goes on, whichever
/// keys it was opened with, and no application waits.
enum PeerProving {
  static func prove(
    _ peer: KeyFingerprint, _ configuration: SessionConfiguration, _ transport: any LinkTransport
  ) throws(AgentFault) {
    let link = configuration.link
    guard !configuration.isWithinAgent else {
      throw AgentFault(.badRequest, "\(configuration.session): both halves are this agent's, so that no key is shown")
    }
    guard !link.listens else {
      throw AgentFault(.badRequest, "\(configuration.session): the other agent opens the link; ask that one")
    }
    guard let address = SocketAddress(numeric: link.address, port: UInt16(clamping: link.port)) else {
      throw AgentFault(.badRequest, "\(link.address) is no numeric address")
    }
    let deadline = MonotonicTime.now.adding(seconds: LinkLimits.handshakeSeconds)
    do {
      let socket = try SocketConnector.tcp(
        address, timeoutSeconds: LinkLimits.handshakeSeconds, cancel: try CancelSignal())
      let guardian = Deadline(deadline) { socket.shutDown() }
      defer { guardian.cancel() }
      try transport.open(socket, to: [peer], until: deadline).shutDown()
    } catch {
      throw AgentFault(
        .failed,
        "\(configuration.session): the other agent's key \(peer) is not proven at \(link.address) port \(link.port): \(error)"
      )
    }
  }
}

extension LinkConfiguration {
  /// What to look at where the two ends of a link don't meet; `self` is one of them.
  package var firewallHint: String {
    if withinAgent == true { return "both halves are one agent's: its log says more" }
    let place = listens ? "this host" : "the other host (\(address))"
    return "the listener is \(place): check that address, and let TCP port \(port) in there (firewall-cmd"
      + " --permanent --add-port=\(port)/tcp && firewall-cmd --reload, or ufw allow \(port)/tcp; for an Azure machine a"
      + " rule of its network security group, too)"
  }
}

extension SourceSession {
  func prove(peer: KeyFingerprint) throws(AgentFault) {
    try PeerProving.prove(peer, configuration, resources.transport)
    journal.append("peerProven", peer.text)
  }
}

extension DestinationSession {
  func prove(peer: KeyFingerprint) throws(AgentFault) {
    try PeerProving.prove(peer, configuration, resources.transport)
    journal.append("peerProven", peer.text)
  }
}
