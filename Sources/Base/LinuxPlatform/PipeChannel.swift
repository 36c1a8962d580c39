import BlockModel
import CLinux
import Glibc
package import Seams

/// Two one-way descriptors (pipes, or a process's standard streams) as one byte channel.
package final class PipeChannel: ByteChannel {
  package let label: String
  package let idleTimeoutSeconds: Double
  private let input: FileDescriptor
  private let output: FileDescriptor
  private let writing = Monitor(Turn())
  private let stop: CancelSignal
  /// Largest write that can't block once poll said that there is room: PIPE_BUF where the descriptor may block.
  private let writeLimitBytes: Int

  /// `isOwned` says that no other process uses the same open files, so that they may be made non-blocking; standard
  /// streams are shared with whoever started this process and must stay as they are.
  package init(
    input: FileDescriptor, output: FileDescriptor, label: String, isOwned: Bool,
    idleTimeoutSeconds: Double = .infinity
  ) throws(SystemError) {
    ProcessSetup.ignoreBrokenPipes()
    self.label = label
    self.idleTimeoutSeconds = idleTimeoutSeconds
    self.input = input
    self.output = output
    stop = try CancelSignal()
    writeLimitBytes = isOwned ? .max : 4096
    if isOwned {
      _ = try check(cmc_set_nonblocking(input.number), "use the input of \(label)")
      _ = try check(cmc_set_nonblocking(output.number), "use the output of \(label)")
    }
  }

  /// This process's standard input and output.
  package static func standardStreams() throws(SystemError) -> PipeChannel {
    let input = FileDescriptor(owning: Int32(try check(cmc_duplicate(0), "use standard input")))
    let output = FileDescriptor(owning: Int32(try check(cmc_duplicate(1), "use standard output")))
    return try PipeChannel(input: input, output: output, label: "standard streams", isOwned: false)
  }

  package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) -> Int {
    precondition(!buffer.isEmpty)
    while true {
      try wait(input, .reading)
      let count = cmc_read(input.number, buffer.baseAddress, buffer.count)
      if count > 0 { return count }
      if count == 0 { throw ChannelError(.closed, "\(label) ended") }
      if count != -Int(EAGAIN) { throw broken(Int32(-count)) }
    }
  }

  package func write(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    try writing.withLock { _ throws(ChannelError) in
      var sent = 0
      while sent < buffer.count {
        try wait(output, .writing)
        let length = min(buffer.count - sent, writeLimitBytes)
        let count = cmc_write(output.number, buffer.baseAddress.map { $0 + sent }, length)
        if count >= 0 { sent += count } else if count != -Int(EAGAIN) { throw broken(Int32(-count)) }
      }
    }
  }

  package func shutDown() {
    stop.cancel()
    output.close()
    // Who goes on writing to us gets an error in place of a pipe that fills up.
    input.close()
  }

  /// Closes the output: the reader at its other end sees the end of the stream. Reading goes on.
  package func finishWriting() { output.close() }

  private func wait(_ descriptor: FileDescriptor, _ direction: Poll.Direction) throws(ChannelError) {
    let readiness: Readiness
    do {
      let deadline = MonotonicTime.afterNow(seconds: idleTimeoutSeconds)
      readiness = try Poll.wait(descriptor.number, for: direction, cancel: stop, until: deadline)
    } catch {
      throw ChannelError(.broken, "\(label) broke: \(error)")
    }
    switch readiness {
    case .ready: return
    case .cancelled: throw ChannelError(.broken, "\(label) was shut down from this end")
    case .timedOut: throw ChannelError(.timedOut, "\(label) moved nothing for \(idleTimeoutSeconds) s")
    }
  }

  private func broken(_ number: Int32) -> ChannelError {
    ChannelError(.broken, "\(label) broke: \(SystemError.text(of: number))")
  }
}
