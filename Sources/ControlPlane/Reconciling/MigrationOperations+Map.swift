package import AgentProtocol
package import BlockModel
import MigrationModel

extension MigrationOperations {
  /// How much of a volume differs now between its copies, as the source's agent knows it. `length` nil: to its end.
  package func map(
    _ name: MigrationName, volume: VolumeName, offset: UInt64, length: UInt64?, cells: Int
  ) async throws(GatewayError) -> ChangedDataMap {
    guard let target = plan.migrations[name] else {
      throw GatewayError(
        code: ApplyCode.notInPlan, message: "the plan has no migration \(name)", advice: "look at migrations:",
        disposition: .terminal)
    }
    do throws(GatewayError) {
      let id = performer.session(target)
      let seen = try await performer.pool.observation(of: target.source).sessions.first {
        $0.session == id && $0.role == .source
      }
      guard let seen else {
        throw GatewayError(
          code: ApplyCode.sessionMissing, message: "migration \(name) has no session on \(target.source) yet",
          advice: "cmcplan apply starts it", disposition: .needsOperator)
      }
      // The agent's own name of it, where the plan calls it otherwise by now.
      let own = seen.heldAs?.volumes.first { $0.planned == volume }?.name ?? volume
      let call = MapCall(session: id, volume: own, offset: offset, length: length, cells: cells)
      let map = try await performer.pool.call(call, on: target.source)
      await performer.pool.closeAll()
      return map
    } catch {
      await performer.pool.closeAll()
      throw error
    }
  }
}
