import Foundation
import Testing

/// The rules of the house that a compiler does not check. Each names the file and line that breaks it.
@Suite struct HouseRulesTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  struct SourceFile {
    let path: String
    let lines: [Substring]

    /// Numbered lines whose code (not comment) contains `text`.
    func lines(containing text: String) -> [Int] {
      lines.indices.filter { index in
        let line = lines[index]
        let code = line.range(of: "//").map { line[..<$0.lowerBound] } ?? line
        return code.contains(text)
      }
    }
  }

  static func swiftFiles(_ folder: String) -> [SourceFile] {
    let base = root.appendingPathComponent(folder)
    let names = (FileManager.default.enumerator(atPath: base.path)?.allObjects as? [String]) ?? []
    return names.filter { $0.hasSuffix(".swift") }.sorted().compactMap { name in
      guard let text = try? String(contentsOf: base.appendingPathComponent(name), encoding: .utf8) else { return nil }
      return SourceFile(
        path: "\(folder)/\(name)", lines: text.split(separator: "\n", omittingEmptySubsequences: false))
    }
  }

  @Test func sourcesExist() {
    #expect(Self.swiftFiles("Sources").count > 20)
  }

  @Test func noFileIsLongerThan600Lines() {
    for file in Self.swiftFiles("Sources") + Self.swiftFiles("Tests") {
      #expect(file.lines.count <= 620, "\(file.path) has \(file.lines.count) lines")
    }
  }

  @Test(arguments: ["try!", "fatalError(", " as!", "-Ounchecked", "TODO", "FIXME"])
  func sourcesNeverSay(_ forbidden: String) {
    for file in Self.swiftFiles("Sources") {
      for index in file.lines(containing: forbidden) {
        Issue.record("\(file.path):\(index + 1) says \(forbidden)")
      }
    }
  }

  @Test(arguments: ["@unchecked Sendable", "nonisolated(unsafe)"])
  func uncheckedClaimsCarryTheirProof(_ claim: String) {
    for file in Self.swiftFiles("Sources") {
      for index in file.lines(containing: claim) {
        let near = file.lines[max(0, index - 6)...index].joined()
        #expect(near.contains("//"), "\(file.path):\(index + 1) claims \(claim) without the sentence that proves it")
      }
    }
  }

  /// Rooms that the agent links: no Foundation (FoundationEssentials for JSON at most), no curl, no libyaml.
  @Test func theAgentStaysLean() {
    for floor in ["Sources/Base", "Sources/DataPlane", "Sources/Programs/cmcagent"] {
      for file in Self.swiftFiles(floor) {
        for index in file.lines.indices {
          let words = file.lines[index].split(separator: " ")
          guard let at = words.firstIndex(of: "import"), at + 1 < words.count else { continue }
          #expect(
            !["Foundation", "CCurl", "CYAML"].contains(String(words[at + 1])),
            "\(file.path):\(index + 1) imports \(words[at + 1])")
        }
      }
    }
  }

  /// Engines make no syscall: they may not even see the C library.
  @Test func enginesSeeNoOperatingSystem() {
    let engines = [
      "Base/BlockModel", "Base/Seams", "Base/Diagnostics", "DataPlane/AgentProtocol", "DataPlane/H2HProtocol",
      "DataPlane/Replication", "DataPlane/NBDServer", "ControlPlane/MigrationModel", "ControlPlane/Planning",
      "Rehearsal/Simulation",
    ]
    for engine in engines {
      for file in Self.swiftFiles("Sources/\(engine)") {
        for index in file.lines.indices {
          let line = file.lines[index]
          #expect(
            !line.contains("import Glibc") && !line.contains("import CLinux") && !line.contains("import Dispatch"),
            "\(file.path):\(index + 1) imports the operating system")
        }
      }
    }
  }

  @Test func everyRoomSaysWhyItIs() throws {
    for floor in ["Base", "ControlPlane", "DataPlane", "Rehearsal"] {
      let base = Self.root.appendingPathComponent("Sources/\(floor)")
      for room in try FileManager.default.contentsOfDirectory(atPath: base.path).sorted() where !room.hasPrefix(".") {
        let readme = base.appendingPathComponent("\(room)/README.md")
        #expect(FileManager.default.fileExists(atPath: readme.path), "Sources/\(floor)/\(room) has no README.md")
      }
    }
  }
}
