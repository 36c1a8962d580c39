package import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Seams
internal import TLSChannel

/// Replacing the agent's key, a step a call; cmcplan leads. Each may be repeated, and none disturbs a link that stands.
extension Agent {
  private var fingerprints: AgentKeys { AgentKeys(current: keys.fingerprint, next: keys.nextFingerprint) }

  package func prepareKey(_ call: PrepareKeyCall) throws(AgentFault) -> AgentKeys {
    do throws(TLSError) { try keys.prepareNext() } catch { throw AgentFault(.failed, "\(error)") }
    return fingerprints
  }

  package func useKey(_ call: UseKeyCall) throws(AgentFault) -> AgentKeys {
    let isUsed: Bool
    do throws(TLSError) { isUsed = try keys.useNext(call.fingerprint) } catch { throw AgentFault(.failed, "\(error)") }
    guard isUsed else {
      throw AgentFault(.notFound, "this agent has no key \(call.fingerprint) to use; rotate its key again")
    }
    note("key \(call.fingerprint) is this agent's from now on")
    return fingerprints
  }

  package func provePeer(_ call: ProvePeerCall) throws(AgentFault) -> PeerProof {
    let session = try find(call.session)
    let begin = MonotonicTime.now
    let own = keys.fingerprint
    try session.prove(peer: call.peer)
    guard keys.fingerprint == own else {
      throw AgentFault(.failed, "\(call.session): this agent's key changed while it was proven; repeat")
    }
    return PeerProof(own: own, seconds: MonotonicTime.now.seconds(since: begin))
  }
}
