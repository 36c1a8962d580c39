internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams

/// Opening, closing and taking away the taps, and what that means for the marks.
extension SourceSession {
  /// How long marks may take to become durable, in seconds.
  static let noteSeconds = 30.0

  func openTap() throws(AgentFault) {
    if !taps.isServing, !state.withLock({ $0.entry.tapIsOpen }) { try checkUse() }
    try ask(.openTap)
    try serveTap()
    if !state.withLock({ $0.entry.tapIsOpen }) { try save { $0.tapIsOpen = true } }
    try taps.attach(telling: self)
  }

  /// What is mounted without the tap would be written behind its back.
  private func checkUse() throws(AgentFault) {
    let topology = DeviceTopology(host: resources.host, agentRoot: resources.root.path)
    for (volume, configured) in zip(volumes, configuration.volumes) where !taps.staysInUse(configured) {
      guard let status = resources.host.status(volume.path) else { continue }
      let users = topology.users(of: status, path: volume.path)
      guard users.isEmpty else {
        throw AgentFault(
          .inUse,
          "volume \(volume.name): \(volume.path) is mounted at \(users.joined(separator: ", ")), where writes would bypass the tap; stop the application, unmount it, open the tap, and mount the tap's device in its place"
        )
      }
    }
  }

  private func serveTap() throws(AgentFault) {
    try taps.serve { index, volume in
      TapExport(
        name: volume.name.text, sizeBytes: volume.sizeBytes, device: volumes[index].device,
        changedData: { [weak self] range, limit in
          self?.state.withLock { $0.machine.changedDataMap(of: index, in: range, limit: limit) }
            ?? [SourceMachine.MapRun(range: range, differs: true)]
        }
      ) {
        [weak self] operation, request, payload, completion in
        guard let self else { return completion(.failure(.shutdown)) }
        application(volume: index, operation, request, payload, completion)
      }
    }
  }

  /// After a restart, before anything else: holders and clients wait for the socket.
  func reopenTap() {
    state.withLock { $0.isBringingTapBack = true }
    do throws(AgentFault) {
      try ask(.openTap)
      try serveTap()
    } catch {
      journal.append("tapNotOpen", error.message)
      resources.log("the tap of session \(session) can't be opened again: \(error)")
    }
    submit(local) { [self] in
      defer { state.withLock { $0.isBringingTapBack = false } }
      // A command that came first may have closed it.
      commands.withLock { _ in
        guard state.withLock({ $0.entry.tapIsOpen }) else { return }
        do throws(AgentFault) { try taps.attach(telling: self) } catch {
          journal.append("tapNotAttached", error.message)
        }
      }
    }
  }

  // MARK: Closing

  func closeTap() throws(AgentFault) {
    do throws(AgentFault) {
      try taps.close(.sealed, telling: self)
      try ask(.closeTap)
    } catch {
      try putBack(after: error)
    }
    try save { $0.tapIsOpen = false }
  }

  /// A closing that failed half-way leaves no volume without its tap. Throws the failure in any case.
  private func putBack(after failure: AgentFault) throws(AgentFault) {
    if state.withLock({ $0.entry.tapIsOpen }) {
      do throws(AgentFault) {
        try serveTap()
        try taps.attach(telling: self)
      } catch {
        lostTrack("the tap could not be put back: \(error.message)")
        throw AgentFault(
          failure.code, "\(failure.message); and the tap could not be put back: \(error.message); open it again")
      }
    }
    throw failure
  }

  /// A host that was started anew has forgotten the seal. Whatever was written since is marked, or who uses the volume
  /// is named.
  func sealAgain() throws(AgentFault) {
    if isClosed { try taps.close(.sealed, telling: self) }
  }

  var isClosed: Bool { [.tapClosed, .proving, .proven].contains(state.withLock { $0.machine.stage }) }

  /// After a restart of a source that was closed, wherever authority goes: sooner is better, and the proof insists.
  func closeAgain() {
    commands.withLock { _ in
      // A command that came first may have opened it, or given it up.
      let isGivenUp = state.withLock { $0.entry.tapIsOpen || $0.machine.stage == .cancelled }
      if isGivenUp { return }
      do throws(AgentFault) { try taps.close(.sealed, telling: self) } catch {
        journal.append("notSealed", error.message)
      }
    }
  }

  // MARK: The host's end

  /// Local file systems were unmounted by now, so that nobody writes any more: devices are sealed as they get their own
  /// tables back, and nothing goes past the tap. A volume that is in use all the same is given back open, which is noted
  /// first: a tap that nobody serves would keep whoever uses it from ending, and with them the host.
  func leaveHost() {
    // The process ends next: what became of its taps is on disk before.
    defer { journal.close() }
    commands.withLock { _ in
      guard state.withLock({ $0.entry.tapIsOpen }) else { return }
      let used = taps.withdraw(.sealed, from: volumes.map(\.name), telling: self)
      // A device that the application was pointed to is the tap; there is nothing else to give back.
      let inserted = configuration.volumes.filter(taps.staysInUse).map(\.name)
      for (name, fault) in used where !inserted.contains(name) { leftInPlace(fault) }
      let open = used.filter { inserted.contains($0.0) }
      guard let first = open.first else { return }
      do throws(AgentFault) {
        try giveBack(open.map(\.0), because: first.1.message)
      } catch {
        leftInPlace(error)
      }
    }
  }

  private func leftInPlace(_ why: AgentFault) {
    journal.append("tapLeftInPlace", why.message)
    resources.log("session \(session) keeps its tap in place, and what uses it waits: \(why)")
  }

  private func giveBack(_ names: [VolumeName], because why: String) throws(AgentFault) {
    // What is written from then on reaches this host's copy alone, which must be the one that counts.
    let stoodIn = authority == .standIn
    if stoodIn { try revertAndWait() }
    guard authority == .source else {
      throw AgentFault(.wrongStage, "\(session): its data is at the destination only; \(why)")
    }
    let cause = "the host went down while it was in use (\(why))"
    let hold = Hold(cause: .failure, who: "cmcagent", why: cause, at: resources.time.wallNow())
    try save { entry in
      entry.untracked = cause
      if stoodIn { entry.hold = entry.hold ?? hold }
    }
    if let left = taps.withdraw(.free, from: names, telling: self).first { throw left.1 }
  }

  private func revertAndWait() throws(AgentFault) {
    try ask(.revert)
    try waitFor("the revert") { $0.authority == .source }
  }

  private var authority: CopyAuthority {
    let now = resources.time.monotonicNow()
    return state.withLock { $0.machine.observation(at: now).authority }
  }

  // MARK: Giving up

  func cancel() throws(AgentFault) {
    if authority == .standIn { try revertAndWait() }
    // A device with the tap beneath it lets go of it only once its requests are answered.
    if !taps.isServing, state.withLock({ $0.entry.tapIsOpen }) { try openTap() }
    do throws(AgentFault) {
      try taps.close(.free, telling: self)
      try ask(.cancel)
    } catch {
      try putBack(after: error)
    }
    if state.withLock({ $0.entry.tapIsOpen }) { try save { $0.tapIsOpen = false } }
    try waitFor("the cancellation") { $0.stage == .cancelled }
  }
}

extension SourceSession: TapWatcher {
  func willInsert() throws(AgentFault) {
    if state.withLock({ $0.entry.untracked }) == nil {
      try save { $0.untracked = "the agent ended while the tap was being put in place" }
    }
  }

  func lostTrack(_ why: String) {
    journal.append("untracked", why)
    // At once, so that nothing is handed over while the disk is written.
    post(.untracked(why: why), from: .lane)
    change { $0.untracked = why }
  }

  func regainedTrack() throws(AgentFault) {
    let until = MonotonicTime.now.adding(seconds: Self.noteSeconds)
    while !state.withLock({ $0.machine.isLossNoted }) {
      guard MonotonicTime.now < until else {
        throw AgentFault(
          .failed,
          "\(session): what may have been written past the tap could not be noted in \(resources.root.state) within \(Int(Self.noteSeconds)) s; free space there, then repeat"
        )
      }
      pauseThread(milliseconds: 10)
    }
    if state.withLock({ $0.entry.untracked }) != nil { try save { $0.untracked = nil } }
    post(.tracked, from: .lane)
  }
}
