import AgentProtocol
package import BlockModel
package import MigrationModel

/// What can be told of a hook before it is run. It is never run for that: nobody but its author knows what a command does
/// when it is asked to do nothing. Its placeholders are filled, the shell reads it, and its program is looked for. Pure.
package struct HookProbe: Sendable, Equatable {
  package var point: HookPoint
  package var host: HostName
  /// A command for the hook's host that ends with 0 where the hook could begin, and says why where it could not.
  package var command: String
  /// Placeholders that have no value now, as they are written.
  package var unfilled: [String]

  /// Of all hooks of the migration, in the order in which they run.
  package static func probes(of migration: Migration, _ facts: MigrationFacts) -> [HookProbe] {
    HookPoint.allCases.compactMap { point in
      guard let hook = migration.cutover.hooks[point] else { return nil }
      var unfilled: [String] = []
      let filled = fill(hook.run) { word, volume in
        let value = facts.value(of: word, volume, for: migration.role(ofHook: point))
        if value == nil { unfilled.append("{\(word):\(volume)}") }
        return value
      }
      return HookProbe(
        point: point, host: migration.host(ofHook: point), command: script(for: filled), unfilled: unfilled)
    }
  }

  private static func script(for command: String) -> String {
    var lines = ["/bin/sh -n -c \(quoted(command)) || exit 1"]
    if let program = program(of: command) {
      lines.append("command -v \(quoted(program)) || { echo \(quoted("there is no program \(program)")); exit 1; }")
    }
    return lines.joined(separator: "\n")
  }

  /// The first word that is no assignment; nil where only the shell could tell what it is.
  static func program(of command: String) -> String? {
    for word in command.split(whereSeparator: \.isWhitespace) {
      let name = word.prefix { $0 != "=" }
      let isAssignment =
        name.count < word.count && !name.isEmpty
        && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
      if isAssignment { continue }
      return word.allSatisfy { $0.isLetter || $0.isNumber || "/._-+".contains($0) } ? String(word) : nil
    }
    return nil
  }

  /// `{device:VOLUME}` and `{lun:VOLUME}` by what `value` gives; what it doesn't know stays as it is written.
  private static func fill(_ text: String, _ value: (String, VolumeName) -> String?) -> String {
    var result = ""
    var rest = Substring(text)
    while let start = rest.firstIndex(of: "{") {
      let after = rest[start...]
      guard let end = after.firstIndex(of: "}"), let colon = after[..<end].firstIndex(of: ":") else { break }
      let word = String(after[after.index(after: start)..<colon])
      guard word == "device" || word == "lun" else {
        result += rest[...start]
        rest = rest[rest.index(after: start)...]
        continue
      }
      let volume = VolumeName(String(after[after.index(after: colon)..<end]))
      result += rest[..<start] + (value(word, volume).map(quoted) ?? String(after[...end]))
      rest = rest[rest.index(after: end)...]
    }
    return result + rest
  }

  private static func quoted(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }
}

extension MigrationFacts {
  fileprivate func value(of word: String, _ name: VolumeName, for role: Role) -> String? {
    guard let volume = migration.volume(name) else { return nil }
    if word == "lun" { return disks[name].flatMap(lun(of:)).map(String.init) }
    guard role == .source else { return destinationPath(of: volume) }
    return sourceSession?.volumes.first { $0.name == name }?.tapDevice ?? volume.device
  }
}
