import BlockModel
import Glibc
import LinuxPlatform
package import NBDServer
import Seams

/// Where one thread waits for others, for `NBDServer`.
package final class ThreadParking: NBDParking {
  private let permit = Monitor(false)

  package init() {}

  package func park() {
    _ = permit.wait { permit -> Bool? in
      guard permit else { return nil }
      permit = false
      return true
    }
  }

  package func unpark() {
    permit.withLock { $0 = true }
    permit.notifyOne()
  }
}

extension NBDServer {
  /// A server that waits as threads of this platform do.
  package convenience init(limits: NBDLimits = .standard) {
    self.init(
      limits: limits, makeParking: { ThreadParking() },
      startThread: { body in
        do throws(SystemError) {
          try PlatformThread.start(name: "tap-replies", body: body)
          return true
        } catch {
          return false
        }
      })
  }
}

/// Accepts NBD clients on a Unix socket, a thread for each. Only this process's own user and root are let in.
package final class TapListener: Sendable {
  package let path: String
  private let listener: SocketListener
  private let server: NBDServer
  private let thread = Monitor<PlatformThread?>(nil)
  private let clients = Monitor(0)

  /// Listens at `path` (mode 0600) from now on. Errors: `.systemFailed`.
  package init(path: String, server: NBDServer) throws(TapError) {
    self.path = path
    self.server = server
    do throws(SystemError) {
      listener = try SocketListener.unix(path: path)
      let accepting = try PlatformThread.start(name: "tap-accept") { [weak self] in
        while self?.acceptOne() == true {}
      }
      thread.withLock { $0 = accepting }
    } catch {
      throw TapError(.systemFailed, error.description)
    }
  }

  deinit { listener.cancel() }

  private func acceptOne() -> Bool {
    do throws(SystemError) {
      guard let channel = try listener.accept() else { return false }
      let peer = try channel.peerCredentials()
      guard peer.userID == 0 || peer.userID == geteuid() else { return true }
      let local = try LocalChannel(channel)
      clients.change { $0 += 1 }
      do throws(SystemError) {
        try PlatformThread.start(name: "tap-client") { [server, clients] in
          server.serve(channel: local)
          clients.change { $0 -= 1 }
        }
      } catch {
        clients.change { $0 -= 1 }
        throw error
      }
      return true
    } catch {
      // Out of descriptors or threads: this client is dropped, the next may fare better.
      if listener.isCancelled { return false }
      pauseThread(milliseconds: 10)
      return true
    }
  }

  /// Lets nobody in any more, has the server finish, and waits until every client's thread has left. A client that takes
  /// longer than `graceSeconds` to take its replies is cut off; what the export has in flight is waited for in any case.
  package func stop(graceSeconds: Double = 2) {
    listener.cancel()
    server.shutDown()
    _ = thread.withLock { $0 }?.join()
    if clients.wait(until: MonotonicTime.now.adding(seconds: graceSeconds), { $0 == 0 ? true : nil }) == nil {
      server.hangUp()
      _ = clients.wait { $0 == 0 ? true : nil }
    }
  }
}
