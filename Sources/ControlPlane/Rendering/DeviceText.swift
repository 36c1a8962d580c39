/// One block device as `discover` shows it. Sizes in bytes, rates in bytes a second or a day.
package struct DeviceRow: Sendable {
  package var path: String
  package var type: String
  package var sizeBytes: UInt64
  package var content: String
  package var use: String
  package var readBytesPerSecond: Double
  package var writtenBytesPerSecond: Double
  package var writtenBytesPerDay: Double
  /// Which tracking it could have, or why none.
  package var verdict: String
  package init(
    path: String, type: String, sizeBytes: UInt64, content: String, use: String, readBytesPerSecond: Double,
    writtenBytesPerSecond: Double, writtenBytesPerDay: Double, verdict: String
  ) {
    self.path = path
    self.type = type
    self.sizeBytes = sizeBytes
    self.content = content
    self.use = use
    self.readBytesPerSecond = readBytesPerSecond
    self.writtenBytesPerSecond = writtenBytesPerSecond
    self.writtenBytesPerDay = writtenBytesPerDay
    self.verdict = verdict
  }
}

/// A table of a host's devices.
package func renderDevices(_ host: String, _ devices: [DeviceRow], style: TextStyle) -> String {
  var rows = [["DEVICE", "TYPE", "SIZE", "CONTENT", "MOUNTED AT", "READ", "WRITTEN", "A DAY", "TRACKING"]]
  for device in devices {
    rows.append(
      [
        device.path, device.type, Quantity.bytes(device.sizeBytes), device.content, device.use,
        "\(Quantity.bytes(UInt64(device.readBytesPerSecond)))/s",
        "\(Quantity.bytes(UInt64(device.writtenBytesPerSecond)))/s",
        Quantity.bytes(UInt64(device.writtenBytesPerDay)), device.verdict,
      ].map { $0.isEmpty ? "-" : safe($0) })
  }
  return style.paint("host \(safe(host))", .bold) + "\n" + table(rows, style)
}
