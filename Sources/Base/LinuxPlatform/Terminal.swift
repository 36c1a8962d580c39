import Glibc

/// What is known of the terminal behind a standard stream.
package enum Terminal {
  package enum Stream: Sendable {
    case input
    case output
    case error
    var number: Int32 {
      switch self {
      case .input: STDIN_FILENO
      case .output: STDOUT_FILENO
      case .error: STDERR_FILENO
      }
    }
  }

  package static func isTerminal(_ stream: Stream) -> Bool { isatty(stream.number) == 1 }

  /// Width in characters; nil where the stream is no terminal, or doesn't say.
  package static func columns(of stream: Stream) -> Int? { size(of: stream)?.columns }

  /// Columns and rows now (a window may be resized at any time); nil where the stream is no terminal, or doesn't say.
  package static func size(of stream: Stream) -> (columns: Int, rows: Int)? {
    var size = winsize()
    guard ioctl(stream.number, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return nil }
    return (Int(size.ws_col), Int(size.ws_row))
  }
}
