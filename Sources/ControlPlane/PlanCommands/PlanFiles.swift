import Foundation
import LinuxPlatform

/// Files that the user names, and directories that stand for the `.yaml` files in them.
enum PlanFiles {
  /// The largest file that is read, in bytes.
  static let sizeLimitBytes = 256 << 20

  /// The files to read, in order, and whether each was found in a directory. Nothing named: the plan in this directory.
  static func find(_ named: [String]) throws -> [(file: String, isOfDirectory: Bool)] {
    if named.isEmpty {
      if let found = PlanFileOptions.defaultNames.first(where: { FileManager.default.fileExists(atPath: $0) }) {
        return [(found, false)]
      }
      throw CommandFailure(
        "there is no \(PlanFileOptions.defaultNames.joined(separator: " or ")) in this directory",
        advice: "name the migration plan with --file PLAN, or write one with 'cmcplan init'")
    }
    var result: [(String, Bool)] = []
    for path in named {
      var isDirectory: ObjCBool = false
      guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), isDirectory.boolValue else {
        result.append((path, false))
        continue
      }
      let names = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        .filter { !$0.hasPrefix(".") && ($0.hasSuffix(".yaml") || $0.hasSuffix(".yml")) }
      guard !names.isEmpty else {
        throw CommandFailure(
          "there is no .yaml file in the directory \(path), or it may not be read",
          advice: "name the migration plan with --file PLAN")
      }
      result += names.map { ("\(path.hasSuffix("/") ? String(path.dropLast()) : path)/\($0)", true) }
    }
    return result
  }

  /// All of a file, or of standard input for "-". `what` is for messages: "the migration plan"; `split` says what to do
  /// where it is too large.
  static func contents(
    of path: String, what: String, limitBytes: Int = sizeLimitBytes, split: String = "split it into several plans"
  ) throws -> [UInt8] {
    guard path == "-" || FileManager.default.fileExists(atPath: path) else {
      throw CommandFailure(
        "\(what) can't be read: there is no \(path), or it may not be looked at", advice: "check the path")
    }
    let file = path == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: path)
    guard let file, let bytes = try? read(file, upTo: limitBytes + 1) else {
      throw CommandFailure("\(what) \(path) can't be read", advice: "check that it is a file that this user may read")
    }
    guard bytes.count <= limitBytes else {
      throw CommandFailure(
        "\(what) \(path == "-" ? "on standard input" : path) has more than \(limitBytes) bytes, the most that is read",
        advice: split)
    }
    return bytes
  }

  /// What there is, but no more than so many bytes: a pipe or a device says nothing of its size, and may never end.
  static func read(_ file: FileHandle, upTo limitBytes: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < limitBytes,
      let more = try file.read(upToCount: min(chunkBytes, limitBytes - bytes.count)), !more.isEmpty
    {
      bytes += more
    }
    return bytes
  }

  private static let chunkBytes = 4 << 20

  /// Replaces a file in one step, keeping its permissions.
  static func replace(_ path: String, with text: String) throws {
    do {
      // A link's target is replaced, not the link.
      let target = URL(fileURLWithPath: path).resolvingSymlinksInPath()
      let permissions = try FileManager.default.attributesOfItem(atPath: target.path)[.posixPermissions]
      try Data(text.utf8).write(to: target, options: .atomic)
      if let permissions {
        try FileManager.default.setAttributes([.posixPermissions: permissions], ofItemAtPath: target.path)
      }
    } catch {
      throw CommandFailure("\(path) can't be written", advice: "check its permissions, and the space of its directory")
    }
  }
}
