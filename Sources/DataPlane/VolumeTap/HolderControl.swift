import BlockModel
import LinuxPlatform
import Seams

/// The agent's side of a holder. Calls block for at most `patienceSeconds` each and may be repeated at any time.
///
/// Never call it on a thread that serves the volume's NBD export: `attach` waits for the holder, which waits for the
/// export.
package struct HolderControl: Sendable {
  /// The program that has the `holder` subcommand: the agent's own path.
  package let executable: String
  package static let patienceSeconds = 20.0
  private static let maxAnswerBytes = 64 << 10

  package init(executable: String) { self.executable = executable }

  /// Makes the export a loop device and answers when it is ready for use. A holder that lives already, with the same
  /// settings, is found and left alone. Remains of a dead one (its mount, the loop device bound to its file) are cleaned
  /// first. Errors: `.notPermitted`, `.serverUnreachable`, `.systemFailed`, `.holderFailed`, `.invalid`.
  package func attach(_ settings: HolderSettings) throws(TapError) -> HolderStatus {
    let directory: HolderDirectory
    do throws(SystemError) {
      directory = try HolderDirectory(making: settings.directory)
    } catch {
      throw TapError(.systemFailed, error.description)
    }
    if let record = ask(directory, "status") {
      return try check(record, settings, directory)
    }
    try cleanRemains(directory)
    var settings = settings
    settings.directory = directory.path
    try? Files.remove(directory.logPath)
    let child: RunningChild
    do throws(SystemError) {
      child = try RunningChild.startDetached(
        executable: executable, arguments: HolderProcess.arguments(for: settings), environment: [:],
        logPath: directory.logPath)
    } catch {
      throw TapError(.systemFailed, error.description)
    }
    let deadline = MonotonicTime.now.adding(seconds: Self.patienceSeconds)
    while MonotonicTime.now < deadline {
      if let status = ask(directory, "status")?.status { return status }
      if let ending = child.wait(until: MonotonicTime.now.adding(seconds: 0.02)) {
        throw TapError(
          .holderFailed, "the holder of export \(settings.exportName) ended (\(ending)): \(lastWords(directory))")
      }
    }
    child.signal(ProcessTable.kill)
    _ = child.wait(until: MonotonicTime.now.adding(seconds: Self.patienceSeconds))
    try? cleanRemains(directory)
    throw TapError(
      .holderFailed,
      "the holder of export \(settings.exportName) made no device in \(Int(Self.patienceSeconds)) s: \(lastWords(directory))"
    )
  }

  /// The holder of `directory`, or nil where none lives.
  package func status(directory: String) throws(TapError) -> HolderStatus? {
    guard let directory = HolderDirectory(existing: directory) else { return nil }
    return ask(directory, "status")?.status
  }

  /// Has the device follow an export that grew; answers the size that it has then. Repeating it does no harm. Errors:
  /// `.holderFailed` where none lives, and what the holder could not do.
  package func grow(directory: String) throws(TapError) -> UInt64 {
    guard let directory = HolderDirectory(existing: directory), let outcome = ask(directory, "grow") else {
      throw TapError(.holderFailed, "the holder does not answer")
    }
    if let size = outcome["size"].flatMap({ UInt64($0) }) { return size }
    throw TapError(
      outcome["result"].flatMap(TapError.Code.init(rawValue:)) ?? .holderFailed,
      outcome["message"] ?? "the holder is of an earlier version and can't make its device larger")
  }

  /// Takes the device away: loop device, mount, files, process. Nothing happens where there is none; remains of a dead
  /// holder are cleaned. Errors: `.inUse` says who uses it, and then nothing was changed.
  package func detach(directory: String) throws(TapError) {
    guard let directory = HolderDirectory(existing: directory) else { return }
    guard let status = ask(directory, "status")?.status else { return try removeAll(directory) }
    guard let outcome = ask(directory, "detach") else {
      throw TapError(.holderFailed, "the holder in \(directory.path) did not answer; \(lastWords(directory))")
    }
    if let code = outcome["result"].flatMap(TapError.Code.init(rawValue:)) {
      throw TapError(code, outcome["message"] ?? "the holder refused to detach")
    }
    let deadline = MonotonicTime.now.adding(seconds: Self.patienceSeconds)
    while ProcessTable.isRunning(processID: status.processID, startTime: status.processStartTicks) {
      guard MonotonicTime.now < deadline else {
        throw TapError(.holderFailed, "the holder (process \(status.processID)) detached but does not end")
      }
      pauseThread(milliseconds: 10)
    }
    try removeAll(directory)
  }

  private func removeAll(_ directory: HolderDirectory) throws(TapError) {
    try cleanRemains(directory)
    // Nobody misses a file that stays because it can't be removed.
    try? Files.remove(directory.logPath)
    try? Files.remove(directory.lockPath)
  }

  private func check(
    _ record: HolderRecord, _ settings: HolderSettings, _ directory: HolderDirectory
  ) throws(TapError) -> HolderStatus {
    guard let status = record.status else {
      throw TapError(.holderFailed, "the holder in \(directory.path) answers nonsense")
    }
    guard record["socket"] == settings.agentSocket, record["export"] == settings.exportName,
      record["block"] == "\(settings.logicalBlockBytes)"
    else {
      throw TapError(
        .invalid,
        "\(status.device) in \(directory.path) is held for export \(record["export"] ?? "?") of \(record["socket"] ?? "?"); detach it first"
      )
    }
    return status
  }

  /// Only while no holder lives: its lock says so.
  private func cleanRemains(_ directory: HolderDirectory) throws(TapError) {
    do throws(SystemError) {
      let deadline = MonotonicTime.now.adding(seconds: Self.patienceSeconds)
      while true {
        if let lock = try FileLock.take(directory.lockPath) {
          defer { lock.release() }
          return try directory.cleanRemains()
        }
        guard MonotonicTime.now < deadline else { break }
        pauseThread(milliseconds: 20)
      }
    } catch {
      throw TapError(.systemFailed, error.description)
    }
    throw TapError(.holderFailed, "a holder in \(directory.path) lives but does not answer; \(lastWords(directory))")
  }

  /// Nil where nobody listens.
  private func ask(_ directory: HolderDirectory, _ command: String) -> HolderRecord? {
    guard
      let channel = try? SocketConnector.unix(
        path: directory.controlPath, timeoutSeconds: 1, idleTimeoutSeconds: Self.patienceSeconds)
    else { return nil }
    defer { channel.shutDown() }
    var line = command + "\n"
    guard (try? line.withUTF8 { try channel.write(UnsafeRawBufferPointer($0)) }) != nil else { return nil }
    var answer: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while answer.count < Self.maxAnswerBytes {
      let count = part.withUnsafeMutableBytes { (try? channel.read(into: $0)) ?? 0 }
      if count == 0 { break }
      answer += part[..<count]
    }
    return answer.isEmpty ? nil : HolderRecord(text: String(decoding: answer, as: UTF8.self))
  }

  private func lastWords(_ directory: HolderDirectory) -> String {
    guard let log = try? Files.readText(directory.logPath) else { return "it left no log" }
    let lines = log.split(separator: "\n")
    return lines.last { $0.contains("failed") }.map(String.init) ?? lines.last.map(String.init) ?? "its log is empty"
  }
}
