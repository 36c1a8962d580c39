import BlockModel
import Diagnostics
package import MigrationModel

/// What changed in the world against the document, apart from what the document wants next: what would have to be done to
/// hold everything where it is by now. A migration of which nothing is there yet has nothing that could have changed, one
/// past its fence can't stay where it is, and neither is told of.
package func drift(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) -> ChangeSet {
  var still = plan
  var options = options
  var told: Set<MigrationName> = []
  let own = OwnDisks(plan, observation)
  for entry in diff(plan, observation, options: options).migrations {
    guard let migration = plan.migrations[entry.migration] else { continue }
    let facts = MigrationFacts(migration, in: plan, observation, own)
    switch entry.reached {
    case .pastFence: continue
    // A half of it that is left over has lost the other: what it takes to have both copies in step again.
    case .nothing:
      if facts.sourceSession == nil, facts.destinationSession == nil { continue }
      still.migrations[entry.migration]?.cutover.phase.value = min(migration.cutover.phase.value, .synchronized)
    // Why it can't be seen is what has to be said.
    case .unknown: break
    case .reached(let phase), .tombstoned(let phase):
      still.migrations[entry.migration]?.cutover.phase.value = phase
    }
    told.insert(entry.migration)
  }
  options.only = told
  return diff(still, observation, options: options)
}
