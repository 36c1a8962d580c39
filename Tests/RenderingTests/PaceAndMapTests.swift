import AgentProtocol
import BlockModel
import MigrationModel
import Rendering
import Testing

@Suite struct MapTextTests {
  private let map = ChangedDataMap(
    volume: VolumeName("data"), sizeBytes: 1 << 30, offset: 0, length: 1 << 30, cellBytes: 1 << 20,
    differsBytes: 71 << 20, blockBytes: 65536,
    runs: [
      .init(cells: 100, level: 0), .init(cells: 3, level: 1), .init(cells: 2, level: 4), .init(cells: 1, level: 7),
      .init(cells: 70, level: 8), .init(cells: 848, level: 0),
    ])

  private func lines(_ style: TextStyle) -> [Substring] {
    renderMap(map, of: MigrationName("erp-db"), volume: VolumeName("data"), style: style)
      .split(separator: "\n")
  }

  @Test func aMapIsDrawnInEightyColumnsWithRoundNumbersAtItsRows() {
    let lines = lines(.plain)
    #expect(lines.allSatisfy { $0.count <= 80 })
    #expect(lines.count == 18)
    #expect(lines[0] == "erp-db/data: 71 MiB of 1 GiB differ")
    #expect(lines[1] == "       0 B " + String(repeating: "·", count: 64))
    let second = String(repeating: "·", count: 36) + "░░░▒▒▓" + String(repeating: "█", count: 22)
    #expect(lines[2] == "    64 MiB " + second)
    #expect(lines[3] == "   128 MiB " + String(repeating: "█", count: 48) + String(repeating: "·", count: 16))
    #expect(lines[16].hasPrefix("   960 MiB "))
    #expect(lines[17].hasPrefix("A character is 1 MiB: "))
    #expect(mapCells(.plain) == 1024)
  }

  @Test func coloursAreOnlyWhereTheyAreWanted() {
    #expect(!lines(.plain).joined().contains("\u{1b}"))
    let coloured = lines(TextStyle(colours: true, width: 80, live: true))
    #expect(coloured[1].contains("\u{1b}["))
    let bare = coloured[1].split(separator: "\u{1b}").map { $0.drop { $0 != "m" }.dropFirst() }.joined()
    #expect(bare.count(where: { $0 == "·" }) == 64)
  }

  @Test func aNarrowTerminalGetsFewerColumnsAndAWideOneMore() {
    #expect(mapCells(TextStyle(colours: false, width: 40, live: false)) == 16 * 16)
    #expect(mapCells(TextStyle(colours: false, width: 200, live: false)) == 128 * 16)
    #expect(mapCells(TextStyle(colours: false, width: 200, live: false)) <= MapCall.mostCells)
  }

  @Test func jsonIsOneVersionedObjectWithTheRuns() {
    let text = renderMapJSON(map, of: MigrationName("erp-db"), volume: VolumeName("data"))
    #expect(text.count(where: { $0 == "\n" }) == 1)
    for part in [
      "\"kind\":\"ChangedDataMap\"", "\"formatVersion\":1", "\"differsBytes\":74448896", "\"fullLevel\":8",
      "{\"cells\":100,\"level\":0}",
    ] { #expect(text.contains(part), "\(text)") }
  }
}
