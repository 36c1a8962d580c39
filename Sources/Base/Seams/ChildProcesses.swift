/// What a finished child process left. Output past `outputLimitBytes` was read and dropped, and `outputTruncated` set.
package struct ChildResult: Sendable, Equatable {
  package enum Ending: Sendable, Equatable {
    case exited(Int32)
    case signalled(Int32)
    case timedOut
  }
  package var ending: Ending
  package var output: [UInt8]
  package var errorOutput: [UInt8]
  package var outputTruncated: Bool
  package init(ending: Ending, output: [UInt8], errorOutput: [UInt8], outputTruncated: Bool) {
    self.ending = ending
    self.output = output
    self.errorOutput = errorOutput
    self.outputTruncated = outputTruncated
  }
  package var succeeded: Bool { ending == .exited(0) }
}

/// What to run. There is no shell: `arguments` reach the program as they are. The environment is exactly `environment`.
package struct ChildCommand: Sendable, Equatable {
  package var executable: String
  package var arguments: [String]
  package var environment: [String: String]
  package var workingDirectory: String?
  package var input: [UInt8]
  package var timeoutSeconds: Double
  package var outputLimitBytes: Int
  package init(
    executable: String, arguments: [String], environment: [String: String], workingDirectory: String? = nil,
    input: [UInt8] = [], timeoutSeconds: Double, outputLimitBytes: Int = 1 << 20
  ) {
    self.executable = executable
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.input = input
    self.timeoutSeconds = timeoutSeconds
    self.outputLimitBytes = outputLimitBytes
  }
}

package struct ChildError: Error, Sendable, Equatable, CustomStringConvertible {
  package let message: String
  package init(_ message: String) { self.message = message }
  package var description: String { message }
}

/// Runs children to their end. Blocks the calling thread; a timeout kills the child's whole process group.
package protocol ChildProcesses: Sendable {
  func run(_ command: ChildCommand) throws(ChildError) -> ChildResult
}
