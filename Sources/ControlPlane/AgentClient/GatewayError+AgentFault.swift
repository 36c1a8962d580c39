import AgentProtocol
import BlockModel
import Reconciling

extension GatewayError {
  /// What an agent's refusal means to the reconciler.
  init(agentFault fault: AgentFault, host: HostName, method: String) {
    self.init(
      code: fault.code.diagnosticCode, message: "host \(host): \(method): \(fault.message)",
      advice: fault.code.advice, disposition: fault.code.disposition)
  }
}

extension AgentFault.Code {
  /// Agent codes have the block CMC3220 to CMC3239.
  fileprivate var diagnosticCode: String {
    switch self {
    case .protocolMismatch: "CMC3220"
    case .badRequest: "CMC3221"
    case .unknownSession: "CMC3222"
    case .fenced: "CMC3223"
    case .wrongStage: "CMC3224"
    case .inUse: "CMC3225"
    case .notBlank: "CMC3226"
    case .deviceFailed: "CMC3227"
    case .notFound: "CMC3228"
    case .noSpace: "CMC3229"
    case .refused: "CMC3230"
    case .failed: "CMC3231"
    }
  }

  /// Trying again helps where the world moves by itself; a person is needed where something must be freed or allowed.
  fileprivate var disposition: Disposition {
    switch self {
    case .wrongStage, .failed: .retry(afterSeconds: 2)
    case .unknownSession: .retry(afterSeconds: 1)
    case .protocolMismatch, .badRequest: .terminal
    case .fenced, .inUse, .notBlank, .deviceFailed, .notFound, .noSpace, .refused: .needsOperator
    }
  }

  fileprivate var advice: String {
    switch self {
    case .protocolMismatch: "use a cmcplan and an agent of the same release"
    case .badRequest: "this is a fault of cmcplan; keep agent.log and the run's journal"
    case .unknownSession: "apply again: it configures the session anew"
    case .fenced: "another apply holds the migration; wait for it, or look who it is in cmcplan status"
    case .inUse: "stop what uses it, then apply again"
    case .notBlank: "check that this is the right disk; where it is, empty it or use another one"
    case .noSpace: "free space on the host, then cmcplan resume and apply again"
    case .notFound, .deviceFailed: "mend the device or the path in the plan, then apply again"
    case .wrongStage, .refused, .failed: ""
    }
  }
}
