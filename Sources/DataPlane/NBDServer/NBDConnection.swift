import Seams

final class NBDConnection: Sendable {
  init(channel: any ByteChannel, server: NBDServer, parking: any NBDParking) {}
  func run() {}
  func retire(exportName: String) {}
  func shutDown() {}
  var chosenExportName: String? { nil }
}
