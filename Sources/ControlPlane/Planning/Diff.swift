package import BlockModel
package import MigrationModel

/// Answers a digest of a text, "SHA256:" and hexadecimal digits. Injected: no cryptography in the pure rooms.
package typealias DigestFunction = @Sendable (String) -> String

/// What a person asked for beside the plan.
package struct PlanningOptions: Sendable {
  /// Only these migrations; nil: all.
  package var only: Set<MigrationName>?
  /// Volumes whose destination may be overwritten though it is neither blank nor ours.
  package var overwrite: Set<VolumeKey>
  /// What the windows and expiries are compared with.
  package var now: WallTime
  package var digest: DigestFunction
  package init(
    only: Set<MigrationName>? = nil, overwrite: Set<VolumeKey> = [], now: WallTime, digest: @escaping DigestFunction
  ) {
    self.only = only
    self.overwrite = overwrite
    self.now = now
    self.digest = digest
  }
}

/// What differs between the plan and the world, and why. Pure.
package func diff(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) -> ChangeSet {
  ChangeSet(
    plan: plan.metadata.id, planName: plan.metadata.name, observedAt: observation.observedAt, migrations: [],
    unmanaged: [], diagnostics: [])
}

/// Digest of everything about a migration that an approval is bound to: all but its phase and description.
package func configurationDigest(
  of migration: Migration, in plan: MigrationPlan, digest: DigestFunction
) -> String { "" }
