import BlockModel
import MigrationModel
import Planning
import Reconciling
import Seams

/// A plan that was read, and the world that it is about: how nearly every command begins.
struct OpenedPlan {
  let document: PlanDocument
  let world: World

  var plan: MigrationPlan { document.plan }

  /// `withClouds` false: only hosts are reached. `isEmergency`: see `PlanDocument.load`.
  static func open(
    _ options: PlanFileOptions, _ console: Console, withClouds: Bool = true, isEmergency: Bool = false
  ) throws -> OpenedPlan {
    let document = try PlanDocument.load(options, console: console, isEmergency: isEmergency)
    return OpenedPlan(
      document: document,
      world: try World.make(
        document, withClouds: withClouds, journal: nil, console: console, report: console.complaining))
  }

  /// `prunes`: whatever may still have something of what left the document is looked at, too.
  func observe(only: Set<MigrationName>? = nil, prunes: Bool = false) async -> Observation {
    await ObserveRun(plan: plan, gateways: world.gateways, services: world.services)
      .observe(only: only, includingFinished: prunes, includingUnused: prunes)
  }

  /// As of now, with all guardrails: whoever looks must see what apply would.
  func planning(
    only: Set<MigrationName>? = nil, overwrite: Set<VolumeKey> = [], replace: Set<VolumeKey> = [],
    maxMoves: Int? = nil, origin: ChangeSetOrigin = .planned
  ) -> PlanningOptions {
    PlanningOptions(
      only: only, overwrite: overwrite, replace: replace, maxMoves: maxMoves, guardrails: document.guardrails?.limits,
      origin: origin, now: world.services.time.wallNow(), digest: sha256)
  }

  var operations: MigrationOperations {
    MigrationOperations(plan: plan, gateways: world.gateways, services: world.services, who: world.who)
  }
}
