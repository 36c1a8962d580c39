package import BlockModel
import CLinux
import Glibc

/// A thread of its own for work that blocks.
package final class PlatformThread: Sendable {
  package static let defaultStackBytes = 512 << 10

  package let name: String
  private let finished = Monitor(false)

  private init(name: String) { self.name = name }

  /// Starts a thread. The kernel shows the first 15 bytes of `name`. `stackBytes` is at least 64 KiB.
  @discardableResult
  package static func start(
    name: String, stackBytes: Int = defaultStackBytes, body: @escaping @Sendable () -> Void
  ) throws(SystemError) -> PlatformThread {
    precondition(stackBytes >= 64 << 10)
    let thread = PlatformThread(name: name)
    let launch = Unmanaged.passRetained(Launch(thread, body))
    let result = cmc_thread_start(
      stackBytes,
      { argument in
        guard let argument else { return nil }
        Launch.run(Unmanaged<Launch>.fromOpaque(argument).takeRetainedValue())
        return nil
      }, launch.toOpaque())
    guard result == 0 else {
      launch.release()
      throw SystemError("start thread \(name)", errorNumber: result, detail: "too many threads, or no memory")
    }
    return thread
  }

  /// Waits until the body has returned; false when `deadline` came first. Never from the thread itself.
  @discardableResult
  package func join(until deadline: MonotonicTime? = nil) -> Bool {
    finished.wait(until: deadline) { $0 ? true : nil } ?? false
  }

  private final class Launch {
    let thread: PlatformThread
    var body: (@Sendable () -> Void)?

    init(_ thread: PlatformThread, _ body: @escaping @Sendable () -> Void) {
      self.thread = thread
      self.body = body
    }

    static func run(_ launch: Launch) {
      cmc_thread_name(launch.thread.name)
      launch.body?()
      // What the body held is let go before anyone who joined goes on.
      launch.body = nil
      launch.thread.finished.change { $0 = true }
    }
  }
}
