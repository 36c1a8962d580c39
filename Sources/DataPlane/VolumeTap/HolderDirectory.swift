import LinuxPlatform

/// The files of one holder, and what they say.
struct HolderDirectory: Sendable {
  static let fileSystemSource = "cmc-holder"

  let path: String

  /// Makes the directory (0700). Links are resolved, so that names can be compared with what the kernel says.
  init(making path: String) throws(SystemError) {
    try Files.makeDirectories(path, mode: 0o700)
    self.path = try Files.resolve(path)
  }

  /// Nil where there is no such directory.
  init?(existing path: String) {
    guard let resolved = try? Files.resolve(path) else { return nil }
    self.path = resolved
  }

  var lockPath: String { path + "/holder.lock" }
  var statePath: String { path + "/holder.state" }
  var logPath: String { path + "/holder.log" }
  var controlPath: String { path + "/holder.sock" }
  var mountPoint: String { path + "/mount" }
  var filePath: String { mountPoint + "/" + FuseVolume.fileName }

  /// All but the lock, which its owner lets go last, and the log, which explains what happened.
  func removeFiles() {
    // What is left over is cleaned by the next attach.
    try? Files.remove(controlPath)
    try? Files.remove(statePath)
    try? Files.removeTree(mountPoint)
  }

  /// Whether our file system is mounted here.
  func isMounted() throws(SystemError) -> Bool {
    try MountTable.mounts().contains { $0.mountPoint == mountPoint && $0.source == Self.fileSystemSource }
  }

  /// Loop devices over our file, alive or dead. `recorded` is the one that the state file names: its backing has lost
  /// its path when somebody unmounted beneath it.
  func loopDevices(recorded: String?) throws(SystemError) -> [LoopDevice] {
    var found: [LoopDevice] = []
    for name in try Files.list("/sys/block") where name.hasPrefix("loop") {
      let device = LoopDevice(path: "/dev/" + name)
      guard let backing = device.backingPath() else { continue }
      let isOurs = backing == filePath || backing == filePath + " (deleted)"
      let isOrphan = device.path == recorded && backing == "/" + FuseVolume.fileName
      if isOurs || isOrphan { found.append(device) }
    }
    return found
  }

  /// Removes what a dead holder left. The caller holds the lock, so that none lives here.
  func cleanRemains() throws(SystemError) {
    let recorded = (try? Files.readText(statePath)).map(HolderRecord.init(text:))?["device"]
    // First the devices: once the file system is unmounted, the kernel no longer tells which file is beneath.
    for device in try loopDevices(recorded: recorded) { try device.detach() }
    while try isMounted() { try Mounting.unmount(mountPoint, lazily: true) }
    removeFiles()
  }
}

/// "key=value", a line each: the state file and the answers on the control socket.
struct HolderRecord: Sendable {
  private(set) var values: [(key: String, value: String)] = []

  init() {}

  init(text: String) {
    for line in text.split(separator: "\n") {
      guard let equals = line.firstIndex(of: "=") else { continue }
      values.append((String(line[..<equals]), String(line[line.index(after: equals)...])))
    }
  }

  subscript(key: String) -> String? {
    get { values.first { $0.key == key }?.value }
    set {
      values.removeAll { $0.key == key }
      guard let newValue else { return }
      // A line break in a value would forge another key.
      values.append((key, String(newValue.map { $0.isNewline ? " " : $0 })))
    }
  }

  var text: String { values.map { "\($0.key)=\($0.value)\n" }.joined() }

  /// Nil where a value is missing or no number.
  var status: HolderStatus? {
    guard let processID = self["pid"].flatMap({ Int32($0) }), let start = self["start"].flatMap({ UInt64($0) }),
      let device = self["device"], let size = self["size"].flatMap({ UInt64($0) })
    else { return nil }
    return HolderStatus(
      processID: processID, processStartTicks: start, device: device, sizeBytes: size,
      isConnected: self["connected"] == "true", unansweredRequests: self["unanswered"].flatMap { Int($0) } ?? 0,
      reconnections: self["reconnections"].flatMap { Int($0) } ?? 0, canGrow: self["grows"] == "true")
  }
}
