internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Seams

extension LinkDialer.Target {
  init(_ configuration: SessionConfiguration) {
    self.init(
      address: configuration.link.address, port: configuration.link.port, lanes: configuration.link.lanes,
      linkLossTimeoutSeconds: configuration.linkLossTimeoutSeconds, isInside: configuration.isWithinAgent)
  }
}

/// Brings a session's end of the link up, whichever way it is opened, and keeps at it.
enum LinkKeeper {
  /// `isCurrent` ends a waiting for a port once the session wants another or none.
  static func open(
    _ configuration: SessionConfiguration, owner: any LinkOwner, resources: SessionResources,
    dialer: Monitor<LinkDialer?>, opening: @escaping @Sendable (Link) -> Void,
    trouble: @escaping @Sendable (String) -> Void, isCurrent: @escaping @Sendable (LinkConfiguration) -> Bool
  ) {
    let link = configuration.link
    if link.listens, configuration.isWithinAgent { return resources.ports.listenInside(for: owner) }
    if link.listens {
      keepListening(link, owner, resources, trouble, isCurrent)
      return
    }
    let target = LinkDialer.Target(configuration)
    if let dialer = dialer.withLock({ $0 }) { return dialer.change(to: target) }
    do throws(SystemError) {
      let made = try LinkDialer(
        target: target, transport: resources.transport, ports: resources.ports, random: resources.random,
        versions: resources.versions,
        owner: owner, register: opening)
      dialer.withLock { $0 = made }
    } catch {
      trouble(error.description)
    }
  }

  /// Where the port is taken now (by an agent that is about to end, say), it is tried again for as long as it is wanted.
  private static func keepListening(
    _ link: LinkConfiguration, _ owner: any LinkOwner, _ resources: SessionResources,
    _ trouble: @escaping @Sendable (String) -> Void, _ isCurrent: @escaping @Sendable (LinkConfiguration) -> Bool
  ) {
    do throws(SystemError) {
      return try resources.ports.listen(address: link.address, port: link.port, for: owner)
    } catch {
      trouble(error.description)
    }
    _ = try? PlatformThread.start(name: "listen") {
      while true {
        pauseThread(milliseconds: 1000)
        guard isCurrent(link) else { return }
        do throws(SystemError) {
          return try resources.ports.listen(address: link.address, port: link.port, for: owner)
        } catch {
          trouble(error.description)
        }
      }
    }
  }
}
