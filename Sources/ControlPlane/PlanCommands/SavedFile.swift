import BlockModel
import Foundation
import Planning

/// A saved change set as a file: one JSON object a line. The first says what it is, its version, and the digest of the
/// second line's bytes, by which the content is addressed and a torn or edited file is found out.
struct SavedFile {
  /// The largest file that is read, and so the largest that is written, in bytes.
  static let sizeLimitBytes = 1 << 30
  private static let kind = "SavedChangeSet"

  private struct Head: Codable {
    var kind: String
    var formatVersion: Int
    var digest: String
    var noChanges: Bool
  }

  let content: SavedChangeSet
  /// "SHA256:…" of the content.
  let digest: String

  static func write(
    _ content: SavedChangeSet, to path: String, limitBytes: Int = sizeLimitBytes
  ) throws -> SavedFile {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let body = String(decoding: try encoder.encode(content), as: UTF8.self)
    let digest = sha256(body)
    let head = Head(
      kind: kind, formatVersion: SavedChangeSet.currentVersion, digest: digest, noChanges: content.noChanges)
    let text = String(decoding: try encoder.encode(head), as: UTF8.self) + "\n" + body + "\n"
    guard text.utf8.count <= limitBytes else {
      throw CommandFailure(
        "the change set takes \(text.utf8.count) bytes, more than \(limitBytes)",
        advice: "take fewer migrations at once, with --only or --shard")
    }
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CommandFailure("the change set can't be written to \(path)", advice: "check the directory and its space")
    }
    return SavedFile(content: content, digest: digest)
  }

  static func read(_ path: String) throws -> SavedFile {
    let data = Data(
      try PlanFiles.contents(
        of: path, what: "the change set", limitBytes: sizeLimitBytes,
        split: "save a change set of fewer migrations with --only"))
    let lines = data.split(separator: UInt8(ascii: "\n"), maxSplits: 2)
    let decoder = JSONDecoder()
    guard lines.count == 2, let head = try? decoder.decode(Head.self, from: Data(lines[0])), head.kind == kind else {
      throw CommandFailure("\(path) is no saved change set", advice: "make one with cmcplan plan --out FILE")
    }
    guard head.formatVersion == SavedChangeSet.currentVersion else {
      throw CommandFailure(
        "\(path) has format \(head.formatVersion), and this cmcplan reads \(SavedChangeSet.currentVersion)",
        advice: "use the cmcplan that made it, or make it anew with plan --out")
    }
    let body = String(decoding: lines[1], as: UTF8.self)
    guard sha256(body) == head.digest else {
      throw CommandFailure(
        "\(path) was changed after it was saved, or is torn: its digest is not \(head.digest)",
        advice: "make it anew with cmcplan plan --out FILE")
    }
    do {
      return SavedFile(content: try decoder.decode(SavedChangeSet.self, from: Data(lines[1])), digest: head.digest)
    } catch {
      throw CommandFailure("\(path) can't be understood: \(error)", advice: "make it anew with cmcplan plan --out FILE")
    }
  }

  // MARK: Whether it was applied

  /// When and by which run it was applied, as far as the record beside the plan goes; nil where nothing says so.
  static func application(of digest: String, in directory: String) -> String? {
    try? String(contentsOfFile: markPath(digest, directory), encoding: .utf8)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// A record, as all in `.cmcplan`: what stands in the way of applying it twice is that its steps are done.
  static func noteApplication(of digest: String, in directory: String, _ text: String) {
    let path = markPath(digest, directory)
    let parent = (path as NSString).deletingLastPathComponent
    try? FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    try? Data("\(text)\n".utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
  }

  private static func markPath(_ digest: String, _ directory: String) -> String {
    "\(directory)/.cmcplan/applied/\(digest.replacingOccurrences(of: ":", with: "-"))"
  }
}
