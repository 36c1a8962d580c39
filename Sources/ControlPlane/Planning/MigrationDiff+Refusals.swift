import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

// MARK: What is refused, and what is only said

extension MigrationDiff {
  mutating func isRefused() -> Bool {
    let position = migration.cutover.phase.position
    if let phase = reached.phase, phase >= .finalized || reached == .pastFence, target < .finalized {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.backwards, at: position,
          "\(migration.name) is \(reached.word); phase: \(target.rawValue) lies behind it and can't be reached any more",
          advice: "write phase: \(phase == .retired ? "retired" : "finalized"), or remove the migration"))
      return true
    }
    refuseRename()
    if facts.isPastFence || (reached.phase ?? .prepared) >= .finalized { refuseReplacingFinished() }
    if result.diagnostics.hasErrors { return true }
    if case .tombstoned(.retired) = reached { return false }
    if reached.phase == .finalized, target == .finalized { return false }
    refuseUnseen()
    refuseDocument()
    if result.diagnostics.hasErrors { return true }
    if (reached.phase ?? .prepared) < .finalized, reached != .pastFence {
      let replaced = Set(self.replaced.map { VolumeKey(migration.name, $0.name) })
      result.diagnostics += preflight(facts, overwrite: options.overwrite, replace: replaced)
      refuseReplacing()
      refuseEdits()
      refuseShrunk()
    }
    noteTroubles()
    return result.diagnostics.hasErrors
  }

  mutating func refuseUnseen() {
    for (host, fault) in facts.unseenHosts {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.hostNotObserved, at: facts.plan.hosts[host]?.position ?? migration.position,
          "\(migration.name): host \(host) could not be observed" + (fault.map { ": \($0.message)" } ?? ""),
          advice: fault?.advice ?? "check its address and access"))
    }
    guard !migration.diskVolumes.isEmpty else { return }
    guard let integration = migration.integration(in: facts.plan) else {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.noIntegration, at: migration.position,
          "\(migration.name) has disks but no integration to make them in",
          advice: "name one of the plan's integrations"))
      return
    }
    for fault in facts.cloudFaults {
      let volume = fault.volume.flatMap { migration.volume($0) }
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.cloudNotObserved,
          at: fault.field.flatMap { facts.position($0, volume) } ?? integration.position,
          "\(migration.name): \(fault.part) of integration \(integration.name) could not be observed: \(fault.message)",
          advice: fault.advice))
    }
    if facts.isCloudSeen, facts.machine == nil {
      let named = facts.machineReference.map { "there is no virtual machine \($0)" }
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.noVirtualMachine, at: facts.position(.machine),
          "\(migration.name): " + (named ?? "host \(migration.destination) names no azureVirtualMachine")
            + " in resource group \(integration.resourceGroup) of subscription \(integration.subscriptionID)"
            + facts.machineAnswer,
          advice: "say in azureVirtualMachine which virtual machine \(migration.destination) is; one that was deleted "
            + "has to be made again under this name first"))
    }
  }

  mutating func refuseDocument() {
    let attestations = facts.plan.attestations
    if attestations.operatingSystemLicensed != true {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.operatingSystemNotAttested, at: migration.position,
          "\(migration.name): nobody attests that the operating system at the destination is licensed",
          advice: "add attestations: {operatingSystemLicensed: true} once it is"))
    }
    if attestations.applicationLicensed != true {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.applicationNotAttested, at: migration.position,
          "\(migration.name): nobody attests that the application's licence allows the destination",
          advice: "add attestations: {applicationLicensed: true} once it does"))
    }
    if target == .cmotion, !facts.canSwing {
      let volumes = migration.volumes.filter { facts.tracking(of: $0) == .checksum }
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.trackingCannotSwing, at: migration.cutover.phase.position,
          "\(migration.name): cMotion needs a tap, and \(volumes.map(\.name.text).joined(separator: ", ")) can only be tracked by checksum",
          advice: "write tracking: tap where the host can, or phase: finalized"))
    }
    if listenerName(of: migration, in: facts.plan) == nil {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.noListenerAddress, at: migration.position,
          "\(migration.name): nobody says at which address \(migration.host(migration.connection.listener)) listens",
          advice: "add address: to the host, or to the migration's connection"))
    }
    for (point, hook) in migration.cutover.hooks.sorted(by: { $0.key < $1.key }) {
      if let host = hook.host, host != migration.source, host != migration.destination {
        result.diagnostics.append(
          Diagnostic(
            code: PlanningCode.hookHost, at: hook.position,
            "\(migration.name): hook \(point.rawValue) names host \(host), which is neither its source nor its destination",
            advice: "write \(migration.source) or \(migration.destination)"))
      }
    }
    for window in migration.cutover.windows + migration.iqos.schedule.map(\.window)
    where !WindowOpening.knows(timeZone: window.timeZone) {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.unknownTimeZone, at: window.position,
          "\(migration.name): time zone \(window.timeZone) is not known here", advice: "write one like Europe/Berlin"))
    }
  }

  /// Edits of a live migration that would copy onto, or from, the wrong thing.
  mutating func refuseEdits() {
    guard let old = facts.sourceSession, old.stage != .prepared, old.stage != .cancelled else { return }
    for volume in migration.volumes {
      guard let configured = old.configuration.volumes.first(where: { $0.name == volume.name }) else {
        refuseEdit("volume \(volume.name) was added after data was moved", at: volume.position)
        continue
      }
      if let changed = facts.changedDevice(of: volume), !isReplaceAsked(volume), !facts.isReplacementBegun(of: volume) {
        refuseEdit(changed, at: volume.position, else: facts.replacingAdvice(of: volume))
      }
      if let tracking = facts.tracking(of: volume), tracking.rawValue != configured.tracking {
        refuseEdit(
          "the tracking of \(volume.name) changed from \(configured.tracking) to \(tracking.rawValue)",
          at: volume.position)
      }
    }
    for configured in old.configuration.volumes where migration.volume(configured.name) == nil {
      refuseEdit("volume \(configured.name) was removed after data was moved", at: migration.position)
    }
  }

  mutating func refuseEdit(_ what: String, at position: SourcePosition?, else advice: String = "") {
    result.diagnostics.append(
      Diagnostic(
        code: PlanningCode.sourceChanged, at: position, "\(migration.name): \(what)",
        advice: "take the edit back; or give the copy up first: apply the former plan with phase: prepared, then edit"
          + advice))
  }

  mutating func noteTroubles() {
    result.diagnostics += noteDetached(facts) + noteUnnamedLUNs(facts) + noteClocks(facts)
    var seen: [String] = []
    for (role, session) in [(Role.source, facts.sourceSession), (.destination, facts.destinationSession)] {
      guard let error = session?.lastError, !seen.contains(error.message) else { continue }
      seen.append(error.message)
      result.diagnostics.append(
        Diagnostic(
          .warning, code: PlanningCode.sessionError, at: migration.position,
          "\(migration.name): the agent on \(migration.host(role)) reports: \(error.message)"))
    }
    if let forecast = facts.forecast(at: options.now), !forecast.converges, target >= .synchronized {
      result.diagnostics.append(
        Diagnostic(
          .warning, code: PlanningCode.willNotConverge, at: migration.position,
          "\(migration.name) will not converge: \(forecast.text)",
          advice: "raise its iQoS level or networkLimit, give it a faster link, or a quieter hour by iqos.schedule"))
    }
    if facts.sourceSession?.authority == .destinationOnly {
      result.diagnostics.append(
        Diagnostic(
          .warning, code: PlanningCode.sourceCopyLost, at: migration.position,
          "\(migration.name): the source's copy is lost; the destination's is the only one",
          advice: "mend the source's device, or go on to finalized"))
    }
  }
}
