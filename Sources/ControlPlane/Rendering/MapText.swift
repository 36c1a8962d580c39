package import AgentProtocol
package import BlockModel

/// Where a volume's copies differ, as a field of characters, each so many bytes.
package func renderMap(
  _ map: ChangedDataMap, of migration: MigrationName, volume: VolumeName, style: TextStyle
) -> String {
  let columns = mapColumns(style)
  let name = safe("\(migration)/\(volume)")
  var text = style.paint(name, .bold)
  text += ": \(Quantity.bytes(map.differsBytes)) of \(Quantity.bytes(map.length)) differ\n"
  let levels = map.runs.flatMap { run in Array(repeating: run.level, count: min(run.cells, MapCall.mostCells)) }
  var offset = map.offset
  for start in stride(from: 0, to: levels.count, by: columns) {
    let row = levels[start..<min(start + columns, levels.count)]
    let label = Quantity.bytes(offset)
    text += String(repeating: " ", count: max(0, mapLabelWidth - label.count)) + label + " "
    text += painted(row, style) + "\n"
    offset += UInt64(columns) * map.cellBytes
  }
  text += "A character is \(Quantity.bytes(map.cellBytes)): · equal, ░▒▓ differs in part, █ all of it.\n"
  return text
}

private let mapLabelWidth = 10
private let mapRows = 16

/// A power of two, so that rows begin at round numbers.
private func mapColumns(_ style: TextStyle) -> Int {
  var columns = 16
  while columns * 2 <= min(style.width, 200) - mapLabelWidth - 1 { columns *= 2 }
  return columns
}

/// As many cells as are drawn.
package func mapCells(_ style: TextStyle) -> Int { mapColumns(style) * mapRows }

/// Neighbours of one colour share its codes.
private func painted(_ row: ArraySlice<Int>, _ style: TextStyle) -> String {
  var text = ""
  var run = ""
  var ink = Ink.dim
  for level in row {
    let next: Ink = level == 0 ? .dim : level >= ChangedDataMap.fullLevel ? .bad : .change
    if next != ink {
      text += style.paint(run, ink)
      run = ""
      ink = next
    }
    run.append(character(level))
  }
  return text + style.paint(run, ink)
}

private func character(_ level: Int) -> Character {
  switch level {
  case ...0: "·"
  case 1...2: "░"
  case 3...5: "▒"
  case 6..<ChangedDataMap.fullLevel: "▓"
  default: "█"
  }
}

/// One versioned JSON object on one line.
package func renderMapJSON(_ map: ChangedDataMap, of migration: MigrationName, volume: VolumeName) -> String {
  encoded(MapDocument(migration: migration.text, volume: volume.text, map)) + "\n"
}

private struct MapDocument: Encodable {
  struct Run: Encodable {
    var cells: Int
    var level: Int
  }
  var kind = "ChangedDataMap"
  var formatVersion = 1
  var migration: String
  var volume: String
  var sizeBytes: UInt64
  var offset: UInt64
  var length: UInt64
  var cellBytes: UInt64
  var blockBytes: UInt64
  var differsBytes: UInt64
  var fullLevel = ChangedDataMap.fullLevel
  var runs: [Run]

  init(migration: String, volume: String, _ map: ChangedDataMap) {
    self.migration = migration
    self.volume = volume
    sizeBytes = map.sizeBytes
    offset = map.offset
    length = map.length
    cellBytes = map.cellBytes
    blockBytes = map.blockBytes
    differsBytes = map.differsBytes
    runs = map.runs.map { Run(cells: $0.cells, level: $0.level) }
  }
}
