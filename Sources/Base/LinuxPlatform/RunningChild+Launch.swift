import CLinux
import Glibc

/// A child and the pipe ends that its starter may want one by one.
struct LaunchedChild {
  var child: RunningChild
  var input: FileDescriptor?
  var output: FileDescriptor?
  var state: ChildState
}

extension RunningChild {
  static let reaperStackBytes = 128 << 10

  /// Opens the streams and starts the child on a thread of its own. `splitsPipes`: the caller takes input and output
  /// as they are, and no channel is made.
  static func launch(
    executable: String, arguments: [String], environment: [String: String], workingDirectory: String?,
    _ options: Options, label: String, splitsPipes: Bool = false
  ) throws(SystemError) -> LaunchedChild {
    ProcessSetup.ignoreBrokenPipes()
    let input = try StreamEnds(options.input, isInput: true, inheriting: 0)
    let output = try StreamEnds(options.output, isInput: false, inheriting: 1)
    let errorOutput = try StreamEnds(options.errorOutput, isInput: false, inheriting: 2)
    let state = try ChildState()
    var channel: PipeChannel?
    if !splitsPipes, let toChild = input.ours, let fromChild = output.ours {
      channel = try PipeChannel(input: fromChild, output: toChild, label: label, isOwned: true)
    }
    let outcome = Monitor<Result<Int32, SystemError>?>(nil)
    // Handed over, so that the thread does not keep the child's ends of the pipes open while the child lives.
    let order = Monitor<SpawnOrder?>(
      SpawnOrder(
        executable: executable, arguments: [executable] + arguments,
        environment: environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" },
        workingDirectory: workingDirectory, input: input.theirs, output: output.theirs,
        errorOutput: errorOutput.theirs, options: options))
    try PlatformThread.start(name: "child \(label)", stackBytes: reaperStackBytes) {
      guard let result = order.withLock({ $0.take() })?.spawn() else { return }
      outcome.change { $0 = result }
      if case .success(let processID) = result { state.awaitEnd(of: processID) }
    }
    // The thread always answers, for exec either happens or fails.
    guard let result = outcome.wait({ $0 }) else { throw SystemError("run \(executable)", errorNumber: EAGAIN) }
    let processID = try result.get()
    let child = RunningChild(
      command: executable, processID: processID, startTime: ProcessTable.startTime(of: processID), channel: channel,
      errorOutput: errorOutput.ours, state: state)
    return LaunchedChild(child: child, input: input.ours, output: output.ours, state: state)
  }
}

/// Both ends of a standard stream. The child's lies above 2, so that arranging the three can't clobber one.
private struct StreamEnds {
  var theirs: FileDescriptor
  var ours: FileDescriptor?

  init(_ stream: RunningChild.Stream, isInput: Bool, inheriting number: Int32) throws(SystemError) {
    switch stream {
    case .null:
      theirs = try FileDescriptor.open("/dev/null", isInput ? O_RDONLY : O_WRONLY).duplicate()
    case .log(let path):
      theirs = try FileDescriptor.open(path, O_WRONLY | O_APPEND | O_CREAT).duplicate()
    case .inherited:
      theirs = FileDescriptor(owning: Int32(try check(cmc_duplicate(number), "hand on a standard stream")))
    case .pipe:
      var ends: (Int32, Int32) = (-1, -1)
      let result = withUnsafeMutableBytes(of: &ends) { raw in
        cmc_pipe(raw.assumingMemoryBound(to: Int32.self).baseAddress)
      }
      _ = try check(result, "make a pipe")
      let reading = FileDescriptor(owning: ends.0)
      let writing = FileDescriptor(owning: ends.1)
      theirs = try (isInput ? reading : writing).duplicate()
      ours = isInput ? writing : reading
    }
  }
}

/// Everything that the code between vfork and exec needs, as C wants it.
private struct SpawnOrder: Sendable {
  var executable: String
  var arguments: [String]
  var environment: [String]
  var workingDirectory: String?
  var input: FileDescriptor
  var output: FileDescriptor
  var errorOutput: FileDescriptor
  var options: RunningChild.Options

  func spawn() -> Result<Int32, SystemError> {
    let argumentList = CStringList(arguments)
    let environmentList = CStringList(environment)
    let path = CStringList([executable, workingDirectory].compactMap { $0 })
    let result = withExtendedLifetime((argumentList, environmentList, path, self)) {
      var request = cmc_spawn_request()
      request.executable = UnsafePointer(path.pointers[0])
      request.working_directory = workingDirectory == nil ? nil : UnsafePointer(path.pointers[1])
      request.arguments = UnsafePointer(argumentList.pointers.baseAddress)
      request.environment = UnsafePointer(environmentList.pointers.baseAddress)
      request.input = input.number
      request.output = output.number
      request.error_output = errorOutput.number
      request.new_session = options.isNewSession ? 1 : 0
      request.death_signal = options.diesWithParent ? SIGKILL : 0
      return cmc_spawn(&request)
    }
    guard result >= 0 else {
      let place = workingDirectory.map { " in \($0)" } ?? ""
      return .failure(SystemError("run \(executable)\(place)", errorNumber: Int32(-result)))
    }
    return .success(Int32(result))
  }
}

/// A NULL-terminated array of C strings.
private final class CStringList {
  let pointers: UnsafeMutableBufferPointer<UnsafeMutablePointer<CChar>?>

  init(_ texts: [String]) {
    pointers = .allocate(capacity: texts.count + 1)
    pointers.initialize(repeating: nil)
    for (index, text) in texts.enumerated() { pointers[index] = strdup(text) }
  }

  deinit {
    for pointer in pointers { free(pointer) }
    pointers.deallocate()
  }
}
