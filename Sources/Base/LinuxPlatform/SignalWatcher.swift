package import BlockModel
import CLinux
import Glibc
import Synchronization

/// Turns signals into values that a thread can wait for. One watcher a process at a time.
package final class SignalWatcher: Sendable {
  package static let interrupt = SIGINT
  package static let terminate = SIGTERM
  package static let hangUp = SIGHUP

  /// Whether whoever started this process has it ignore the signal, as nohup(1) does with SIGHUP.
  package static func isIgnored(_ signal: Int32) -> Bool { cmc_signal_is_ignored(signal) != 0 }

  private let signals: [Int32]
  private let pipe: SignalPipe
  private let stop: CancelSignal
  private let isCancelled = Atomic<Bool>(false)

  /// Takes over `signals` until `cancel`; throws EBUSY where another watcher is at work.
  package init(_ signals: [Int32]) throws(SystemError) {
    pipe = try SignalPipe.shared.get()
    stop = try CancelSignal()
    self.signals = signals
    guard
      signalTarget.compareExchange(expected: -1, desired: pipe.writing.number, ordering: .sequentiallyConsistent)
        .exchanged
    else {
      isCancelled.store(true, ordering: .relaxed)
      throw SystemError("watch for signals", errorNumber: EBUSY, detail: "another watcher is at work")
    }
    for signal in signals { _ = try check(cmc_install_handler(signal, noteSignal), "watch for signal \(signal)") }
  }

  deinit { cancel() }

  /// Waits for the next signal. Nil after `cancel` or at the deadline.
  package func next(until deadline: MonotonicTime? = nil) throws(SystemError) -> Int32? {
    guard try Poll.wait(pipe.reading.number, for: .reading, cancel: stop, until: deadline) == .ready else { return nil }
    var number: UInt8 = 0
    _ = try check(cmc_read(pipe.reading.number, &number, 1), "read a signal")
    return Int32(number)
  }

  /// Calls `body` for each signal on a thread of its own, until `cancel`.
  @discardableResult
  package func forEach(_ body: @escaping @Sendable (Int32) -> Void) throws(SystemError) -> PlatformThread {
    try PlatformThread.start(name: "signals", stackBytes: 128 << 10) {
      while let number = try? self.next() { body(number) }
    }
  }

  /// Gives the signals back to their default actions and ends every wait.
  package func cancel() {
    guard !isCancelled.exchange(true, ordering: .acquiringAndReleasing) else { return }
    for signal in signals { _ = cmc_default_handler(signal) }
    signalTarget.store(-1, ordering: .sequentiallyConsistent)
    stop.cancel()
  }
}

/// Made once and never closed: a handler may run on another thread while a watcher goes away.
private struct SignalPipe: Sendable {
  var reading: FileDescriptor
  var writing: FileDescriptor

  static let shared: Result<SignalPipe, SystemError> = Result { () throws(SystemError) in
    var ends: (Int32, Int32) = (-1, -1)
    let result = withUnsafeMutableBytes(of: &ends) { raw in
      cmc_pipe(raw.assumingMemoryBound(to: Int32.self).baseAddress)
    }
    _ = try check(result, "make a pipe")
    let pipe = SignalPipe(reading: FileDescriptor(owning: ends.0), writing: FileDescriptor(owning: ends.1))
    _ = try check(cmc_set_nonblocking(ends.1), "use a pipe")
    return pipe
  }
}

/// Where the handler writes; -1 for nowhere. The watcher touches it before it installs the handler, so that the handler
/// never runs its initialization.
private let signalTarget = Atomic<Int32>(-1)

/// Runs in signal context: an atomic load and write(2), nothing else, and errno is put back.
private func noteSignal(_ number: Int32) {
  let saved = errno
  var byte = UInt8(truncatingIfNeeded: number)
  let descriptor = signalTarget.load(ordering: .sequentiallyConsistent)
  if descriptor >= 0 { _ = cmc_write(descriptor, &byte, 1) }
  errno = saved
}
