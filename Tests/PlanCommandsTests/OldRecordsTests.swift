import BlockModel
import Foundation
import Testing

@testable import PlanCommands

@Suite struct OldRecordsTests {
  @Test func onlyRecordsThatAreOldAreFound() throws {
    let files = FileManager.default
    let place = files.temporaryDirectory.appendingPathComponent("cmc-records-\(UUID().uuidString)")
    defer { try? files.removeItem(at: place) }
    func put(_ path: String, agedDays days: Double) throws {
      let file = place.appendingPathComponent(path)
      try files.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data("{}\n".utf8).write(to: file)
      try files.setAttributes([.modificationDate: Date.now.addingTimeInterval(-86_400 * days)], ofItemAtPath: file.path)
    }
    try put("runs/old/journal.jsonl", agedDays: 100)
    try put("runs/new/journal.jsonl", agedDays: 1)
    try put("applied/SHA256-old", agedDays: 100)
    try put("applied/SHA256-new", agedDays: 1)
    try put("notifications.json", agedDays: 100)
    let limit = WallTime(secondsSince1970: Date.now.timeIntervalSince1970 - 90 * 86_400)
    #expect(OldRecords(directory: place.path).olderThan(limit).map(\.name) == ["runs/old", "applied/SHA256-old"])
    #expect(OldRecords(directory: place.path + "/nothing").olderThan(limit) == [])
  }
}
