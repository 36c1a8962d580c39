import Foundation
import LinuxPlatform
import Seams
import Testing

@testable import PlanCommands

@Suite struct SupportBundleTests {
  @Test func aSecretIsTakenOutHoweverItIsWritten() throws {
    let redaction = Redaction(["pa\"ss/word €", "short"])
    let json = String(decoding: try JSONEncoder().encode(["at": "pa\"ss/word €"]), as: UTF8.self)
    let url = "https://example.com/?key=pa%22ss%2Fword%20%E2%82%AC&x=1"
    let text = "raw pa\"ss/word €, \(json), \(url), short"
    let redacted = String(decoding: redaction.redacted(Array(text.utf8)), as: UTF8.self)
    #expect(
      redacted == "raw (secret), {\"at\":\"(secret)\"}, https://example.com/?key=(secret)&x=1, short")
  }

  @Test func variablesWhoseNameSaysSoAreSecret() {
    let redaction = Redaction(
      nil, environment: ["ARM_CLIENT_SECRET": "hunter2hunter2", "PATH": "/usr/bin", "GITHUB_TOKEN": "ghs_abcdef"])
    let redacted = redaction.redacted(Array("hunter2hunter2 ghs_abcdef /usr/bin".utf8))
    #expect(String(decoding: redacted, as: UTF8.self) == "(secret) (secret) /usr/bin")
  }

  @Test func whatDoesNotFitIsNamed() {
    var bundle = SupportBundle(redaction: Redaction([]), totalLimitBytes: 10)
    bundle.add("first", "1234567")
    bundle.add("second", "12345")
    bundle.add("third", "123")
    #expect(bundle.files.map(\.name) == ["first", "third"])
    #expect(bundle.leftOut == ["second"])
  }

  @Test func noHalfOfASecretIsLeftWhereAFileIsCut() {
    var bundle = SupportBundle(redaction: Redaction(["hunter2hunter2"]))
    // The cut would go through its middle.
    let end = String(repeating: "x", count: SupportBundle.fileLimitBytes - 7)
    bundle.add("log", "hunter2hunter2" + end)
    #expect(bundle.files.first.map { !String(decoding: $0.bytes, as: UTF8.self).contains("hunter2") } == true)
  }

  @Test func bytesThatAreNoTextStayAsTheyAre() {
    #expect(Redaction(["something"]).redacted([0xff, 0, 0xfe]) == [0xff, 0, 0xfe])
  }

  @Test(
    .enabled(
      if: FileManager.default.fileExists(atPath: "/usr/bin/tar") || FileManager.default.fileExists(atPath: "/bin/tar")))
  func tarReadsWhatIsWritten() async throws {
    var bundle = SupportBundle(redaction: Redaction(["secret-value"]))
    let long = String(repeating: "d", count: 90) + "/" + String(repeating: "f", count: 90)
    bundle.add("empty", "")
    bundle.add("a/block", [UInt8](repeating: 65, count: 512))
    bundle.add(long, "the secret-value is gone")
    bundle.add("large", [UInt8](repeating: 66, count: SupportBundle.fileLimitBytes + 5))
    let place = FileManager.default.temporaryDirectory.appendingPathComponent("cmc-tar-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: place) }
    let file = place.appendingPathComponent("b.tar")
    try Data(bundle.archive(in: "top", at: 1_795_406_400)).write(to: file)
    let result = try await onBlockingThread {
      try PosixChildProcesses().run(
        ChildCommand(
          executable: "/bin/sh", arguments: ["-c", "tar -C \"$1\" -xf \"$2\"", "sh", place.path, file.path],
          environment: ["PATH": "/usr/bin:/bin"], timeoutSeconds: 60))
    }
    #expect(result.ending == .exited(0), "\(String(decoding: result.errorOutput, as: UTF8.self))")
    #expect(result.errorOutput == [])
    func contents(_ name: String) throws -> Data { try Data(contentsOf: place.appendingPathComponent("top/\(name)")) }
    #expect(try contents("empty").isEmpty)
    #expect(try contents("a/block") == Data(repeating: 65, count: 512))
    #expect(try contents(long) == Data("the (secret) is gone".utf8))
    #expect(try contents("large").count == SupportBundle.fileLimitBytes, "the end of it")
    let mode = try FileManager.default.attributesOfItem(atPath: place.appendingPathComponent("top/empty").path)
    #expect((mode[.posixPermissions] as? Int).map { $0 & 0o077 } == 0)
  }
}
