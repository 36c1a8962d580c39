package import AgentProtocol

/// What the control socket asks of an agent: one method a call. Calls block, come from any thread, and may be repeated.
package protocol AgentCalls: Sendable {
  func hello(_ call: HelloCall) throws(AgentFault) -> AgentHello
  func observe(_ call: ObserveCall) throws(AgentFault) -> AgentObservation
  func inspectDevices(_ call: InspectDevicesCall) throws(AgentFault) -> [DeviceReport]
  func acquireLease(_ call: AcquireLeaseCall) throws(AgentFault) -> Lease
  func releaseLease(_ call: ReleaseLeaseCall) throws(AgentFault) -> Done
  func configureSession(_ call: ConfigureSessionCall) throws(AgentFault) -> SessionObservation
  func command(_ call: SessionCommandCall) throws(AgentFault) -> SessionObservation
  func verify(_ call: VerifyCall) throws(AgentFault) -> SessionObservation
  func map(_ call: MapCall) throws(AgentFault) -> ChangedDataMap
  func setHold(_ call: SetHoldCall) throws(AgentFault) -> Done
  func storeApproval(_ call: StoreApprovalCall) throws(AgentFault) -> Done
  func runHook(_ call: RunHookCall) throws(AgentFault) -> HookOutcome
  func readEvidence(_ call: ReadEvidenceCall) throws(AgentFault) -> EvidencePart
  func prepareKey(_ call: PrepareKeyCall) throws(AgentFault) -> AgentKeys
  func useKey(_ call: UseKeyCall) throws(AgentFault) -> AgentKeys
  func provePeer(_ call: ProvePeerCall) throws(AgentFault) -> PeerProof
  func shutdown(_ call: ShutdownCall) throws(AgentFault) -> Done
}

/// From a request line to the line that answers it. Pure but for what the call itself does.
package struct CallTable: Sendable {
  private let calls: any AgentCalls

  package init(_ calls: any AgentCalls) { self.calls = calls }

  /// Whether a call may take long, so that it gets a thread of its own beside the connection's.
  package static func isSlow(method: String) -> Bool {
    [
      RunHookCall.method, InspectDevicesCall.method, SessionCommandCall.method, ConfigureSessionCall.method,
      ReadEvidenceCall.method, VerifyCall.method, ProvePeerCall.method,
    ].contains(method)
  }

  /// The line to send back, nil for a notification.
  package func answer(_ line: [UInt8], head: JSONRPC.RequestHead) -> [UInt8]? {
    switch head.method {
    case HelloCall.method: reply(line, head) { call throws(AgentFault) in try calls.hello(call) }
    case ObserveCall.method: reply(line, head) { call throws(AgentFault) in try calls.observe(call) }
    case InspectDevicesCall.method: reply(line, head) { call throws(AgentFault) in try calls.inspectDevices(call) }
    case AcquireLeaseCall.method: reply(line, head) { call throws(AgentFault) in try calls.acquireLease(call) }
    case ReleaseLeaseCall.method: reply(line, head) { call throws(AgentFault) in try calls.releaseLease(call) }
    case ConfigureSessionCall.method: reply(line, head) { call throws(AgentFault) in try calls.configureSession(call) }
    case SessionCommandCall.method: reply(line, head) { call throws(AgentFault) in try calls.command(call) }
    case VerifyCall.method: reply(line, head) { call throws(AgentFault) in try calls.verify(call) }
    case MapCall.method: reply(line, head) { call throws(AgentFault) in try calls.map(call) }
    case SetHoldCall.method: reply(line, head) { call throws(AgentFault) in try calls.setHold(call) }
    case StoreApprovalCall.method: reply(line, head) { call throws(AgentFault) in try calls.storeApproval(call) }
    case RunHookCall.method: reply(line, head) { call throws(AgentFault) in try calls.runHook(call) }
    case ReadEvidenceCall.method: reply(line, head) { call throws(AgentFault) in try calls.readEvidence(call) }
    case PrepareKeyCall.method: reply(line, head) { call throws(AgentFault) in try calls.prepareKey(call) }
    case UseKeyCall.method: reply(line, head) { call throws(AgentFault) in try calls.useKey(call) }
    case ProvePeerCall.method: reply(line, head) { call throws(AgentFault) in try calls.provePeer(call) }
    case ShutdownCall.method: reply(line, head) { call throws(AgentFault) in try calls.shutdown(call) }
    default:
      head.id.map {
        JSONRPC.faultLine(
          AgentFault(
            .protocolMismatch, "this agent knows no call \"\(head.method)\"; deploy the agent that came with cmcplan"),
          id: $0)
      }
    }
  }

  private func reply<Call: AgentCall>(
    _ line: [UInt8], _ head: JSONRPC.RequestHead, _ perform: (Call) throws(AgentFault) -> Call.Answer
  ) -> [UInt8]? {
    do throws(AgentFault) {
      let answer = try perform(try JSONRPC.parameters(of: line, as: Call.self))
      guard let id = head.id else { return nil }
      return try JSONRPC.answerLine(answer, id: id)
    } catch {
      return head.id.map { JSONRPC.faultLine(error, id: $0) }
    }
  }
}
