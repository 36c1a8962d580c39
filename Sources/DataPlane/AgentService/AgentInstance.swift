package import AgentProtocol
package import BlockModel
package import H2HProtocol
internal import LinuxPlatform
internal import Seams
internal import TLSChannel
package import VolumeTap

/// Everything of one running agent, put together from the host's real seams: what `cmcagent run` starts.
package final class AgentInstance: Sendable {
  package static let version = "0.1.0"
  /// For a child that an ending agent just started, in seconds.
  private static let lockPatienceSeconds = 1.0

  package let agent: Agent
  package let root: AgentRoot
  private let keys: KeyRing
  private let lock: FileLock
  private let control: ControlServer

  /// What a test may put in place of the host's own.
  package struct Overrides: Sendable {
    package var openDevice: DeviceOpener = OpenedDevice.openPlainly
    package var fence: (any SourceFence)?
    /// The program that holders are made with; nil for none.
    package var executable: String?
    package var tapOffer: TapOffer?
    package var tapKernel: any TapKernel = HostTapKernel()
    package var bootID: String?
    package var host: (any HostView)?
    package var linkVersions = H2HVersions.own
    package init() {}
  }

  /// Takes the root (one agent each), makes or loads the key, brings every session back, taps first, and then listens
  /// for calls. `root` is an existing or missing directory, absolute.
  package init(
    root path: String, overrides: Overrides, log: @escaping @Sendable (String) -> Void
  ) throws(AgentFault) {
    root = AgentRoot(path: path)
    do {
      try Files.makeDirectories(root.path, mode: 0o700)
      guard let lock = try FileLock.take(root.lock, patienceSeconds: Self.lockPatienceSeconds) else {
        throw AgentFault(.inUse, "another agent runs in \(root.path); stop that one, or choose another --root")
      }
      self.lock = lock
      let state = try DirectoryStateStore(path: root.state)
      keys = try KeyRing(store: state)
      let catalogue = Catalogue(state: state, tombstones: try DirectoryStateStore(path: root.tombstones))
      let time = SystemTime()
      let host: any HostView = overrides.host ?? SystemHost()
      let bootID = try overrides.bootID ?? ProcessSetup.bootID()
      let transport = TLSTransport(keys: keys)
      let offer = TapOffer.current().without(fuseLoop: overrides.executable == nil)
      let resources = SessionResources(
        root: root, catalogue: catalogue, time: time, random: SystemRandom(), host: host,
        ports: LinkPorts(transport: transport, versions: overrides.linkVersions, log: log), transport: transport,
        versions: overrides.linkVersions, bootID: bootID,
        executable: overrides.executable, tapOffer: overrides.tapOffer ?? offer, tapKernel: overrides.tapKernel,
        openDevice: overrides.openDevice,
        log: log)
      let fence = overrides.fence ?? HostFence(catalogue: catalogue, host: host, children: PosixChildProcesses())
      let inspector = DeviceInspector(host: host, root: root, offer: overrides.tapOffer ?? offer)
      let hooks = HookRunner(
        children: PosixChildProcesses(), time: time, catalogue: catalogue,
        path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        home: ProcessSetup.environment("HOME") ?? "/")
      agent = try Agent(
        card: AgentIdentityCard(
          version: Self.version, bootID: bootID, processID: ProcessSetup.processID, startedAt: time.wallNow(),
          capabilities: (overrides.tapOffer ?? offer).methods.map(\.rawValue) + [
            AgentHello.renames, AgentHello.latencyBounds, AgentHello.grows,
            AgentHello.withinAgent,
          ]),
        keys: keys, catalogue: catalogue, time: time, hooks: hooks,
        factory: SessionMaker(resources: resources, fence: fence),
        inspector: { inspector.reports(on: $0) }, log: log)
      agent.start()
      let agent = agent
      try PlatformThread.start(name: "late-sessions") { agent.startLateSessions() }
      control = try ControlServer(path: root.socket, table: CallTable(agent), log: log)
    } catch let fault as AgentFault {
      throw fault
    } catch {
      throw AgentFault(.failed, "the agent can't start in \(path): \(error)")
    }
  }

  /// Of the key that this agent shows now.
  package var fingerprint: KeyFingerprint { keys.fingerprint }

  /// Stops answering calls, parks every session and gives the root back.
  package func stop() {
    control.stop()
    agent.park()
    lock.release()
  }

  /// The end of a process: calls stop and records are durable, and the taps end with the process, so that no client is
  /// told of an error: holders wait for the next agent and send again what was not answered.
  package func leave() { control.stop() }

  /// The same where the host goes down with it: taps are taken out first, for nobody could answer their requests any more.
  package func leaveHost() {
    control.stop()
    agent.leaveHost()
  }
}
