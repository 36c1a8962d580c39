package import BlockModel
package import MigrationModel

/// The steps of one round and what each needs first.
package struct ActionGraph: Sendable, Equatable {
  package struct Node: Sendable, Equatable {
    package var action: Action
    /// Nodes that must have succeeded.
    package var requires: [Int]
    /// Nodes that must have ended, whichever way.
    package var after: [Int]
    /// For whom it is done.
    package var migrations: [MigrationName]
  }
  package var nodes: [Node]
}

/// Orders what can be done now. Pure.
package func schedule(_ changes: ChangeSet, plan: MigrationPlan) -> ActionGraph { ActionGraph(nodes: []) }
