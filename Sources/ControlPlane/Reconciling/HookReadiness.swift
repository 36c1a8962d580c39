import BlockModel
package import MigrationModel
package import Planning

/// Asks the hosts whether a migration's hooks could begin there: see `HookProbe`. Runs none of them.
package struct HookReadiness: Sendable {
  private let plan: MigrationPlan
  private let hosts: any HostGateway
  /// How long one host may take to look for one program, in seconds.
  package static let limitSeconds = 15.0

  package init(plan: MigrationPlan, hosts: any HostGateway) {
    self.plan = plan
    self.hosts = hosts
  }

  package func checks(of migration: Migration, _ observation: Observation) async -> [ReadinessCheck] {
    let facts = MigrationFacts(migration, in: plan, observation)
    guard !facts.isPastFence, facts.taggedPhase == nil else { return [] }
    var found: [ReadinessCheck] = []
    for probe in HookProbe.probes(of: migration, facts) { found.append(await check(probe)) }
    return found
  }

  private func check(_ probe: HookProbe) async -> ReadinessCheck {
    let name = "hook \(probe.point.rawValue)"
    guard probe.unfilled.isEmpty else {
      return ReadinessCheck(
        name, false, "\(probe.unfilled.joined(separator: ", ")) has no value yet",
        advice: "apply until the disks are attached, then ask again")
    }
    guard let host = plan.hosts[probe.host] else {
      return ReadinessCheck(name, false, "the plan has no host \(probe.host)", advice: "correct the hook's host:")
    }
    do throws(GatewayError) {
      let outcome = try await hosts.run(probe.command, on: host, timeoutSeconds: Self.limitSeconds)
      let said = outcome.output.split(whereSeparator: \.isNewline).last.map(String.init) ?? ""
      guard outcome.exitCode == 0 else {
        let why = outcome.exitCode == nil ? "it could not be looked at in \(Int(Self.limitSeconds)) s" : said
        return ReadinessCheck(
          name, false, "on \(probe.host): \(why)", advice: "mend its run:, or install what it needs")
      }
      return ReadinessCheck(
        name, true, "it could begin on \(probe.host)\(said.isEmpty ? "" : ": \(said)"); it was not run")
    } catch {
      return ReadinessCheck(name, false, error.message, advice: error.advice)
    }
  }
}
