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

  /// All of a file, or of standard input for "-". `what` is for messages: "the migration plan".
  static func contents(of path: String, what: String) throws -> [UInt8] {
    if path == "-" {
      let data = FileHandle.standardInput.readDataToEndOfFile()
      return try checked([UInt8](data), path: "standard input", what: what)
    }
    let size: Int
    do {
      let facts = try FileManager.default.attributesOfItem(atPath: path)
      size = (facts[.size] as? NSNumber)?.intValue ?? 0
    } catch {
      throw CommandFailure(
        "\(what) can't be read: there is no \(path), or it may not be looked at", advice: "check the path")
    }
    guard size <= sizeLimitBytes else { throw tooLarge(size, path: path, what: what) }
    do {
      return try checked([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))), path: path, what: what)
    } catch let failure as CommandFailure {
      throw failure
    } catch {
      throw CommandFailure("\(what) \(path) can't be read", advice: "check that it is a file that this user may read")
    }
  }

  private static func checked(_ bytes: [UInt8], path: String, what: String) throws -> [UInt8] {
    guard bytes.count <= sizeLimitBytes else { throw tooLarge(bytes.count, path: path, what: what) }
    return bytes
  }

  private static func tooLarge(_ size: Int, path: String, what: String) -> CommandFailure {
    CommandFailure(
      "\(what) \(path) has \(size) bytes; at most \(sizeLimitBytes) are read", advice: "split it into several plans")
  }

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
