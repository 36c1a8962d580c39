import AgentProtocol
import FoundationEssentials

/// What the probe script found. Pure: read from its lines; what can't be understood is left out.
struct HostProbe: Sendable {
  var installedDigest: String?
  var running: (processID: Int, digest: String)?
  /// Its files were removed under it: nobody reaches it any more.
  var runningIsLost = false
  /// All installed agents, the one that is run among them.
  var kept: [String] = []
  /// The unit of an agent before this one is kept: an upgrade's end was not seen.
  var keepsFormerUnit = false
  /// Bytes of cut-off copies, by the digest of what was being copied.
  var parts: [String: Int] = [:]
  var tombstones: [Tombstone] = []
  /// `uname -m` and `uname -r`.
  var machine: String?
  var kernel: String?
  var distribution: String?
  /// The host's clock, in seconds since 1970.
  var time: Double?
  var userID: Int?
  var hasSystemd = false
  var enforcesSELinux = false
  /// The agent's files are on the root file system, so that it can start before others are mounted.
  var isOnRootFileSystem = false
  var hasGzip = false
  /// Something there gives Azure's disks names by their LUN.
  var namesLUNs = false
  /// What a tap could be made with, beside its socket.
  var taps: [String] = []
  /// Free where the agent is or would be.
  var freeBytes: UInt64?
  /// The installed systemd unit.
  var unit: String?

  /// Of the agent that runs, as its process says: what is installed may be newer, where an upgrade ended before its
  /// restart. Of the installed one where none runs.
  var agentDigest: String? { runningIsLost ? installedDigest : running?.digest ?? installedDigest }
  var isServed: Bool { running != nil && !runningIsLost }

  /// Whether something of an agent before `digest` is kept that only an unfinished upgrade needs.
  func keepsFormer(of digest: String) -> Bool { keepsFormerUnit || kept.contains { $0 != digest } }

  /// In seconds; the host tells whole ones.
  func clockAhead(of now: Double) -> Double? { time.map { $0 + 0.5 - now } }

  init(_ output: String) {
    for line in output.split(separator: "\n") {
      let words = line.split(separator: " ").map(String.init)
      guard let first = words.first else { continue }
      let rest = line.dropFirst(first.count).drop { $0 == " " }
      readAgent(first, words)
      readHost(first, words, String(rest))
    }
  }

  private mutating func readAgent(_ first: String, _ words: [String]) {
    switch (first, words.count) {
    case ("agent", 2): installedDigest = words[1]
    case ("kept", 2): kept.append(words[1])
    case ("former-unit", 1): keepsFormerUnit = true
    case ("part", 3): parts[words[1]] = Int(words[2])
    case ("unit", 2): unit = Data(base64Encoded: words[1]).map { String(decoding: $0, as: UTF8.self) }
    case ("process", 3), ("process", 4):
      // Between fork and exec a child of the agent looks like it; the agent is the older one.
      if running == nil, let processID = Int(words[1]) {
        running = (processID, words[2])
        runningIsLost = words.count == 4
      }
    case ("tombstone", 2):
      // A file that can't be read is the agent's to report; here it only means less is known.
      if let bytes = Data(base64Encoded: words[1]),
        let tombstone = try? JSONDecoder().decode(Tombstone.self, from: bytes)
      {
        tombstones.append(tombstone)
      }
    default: break
    }
  }

  private mutating func readHost(_ first: String, _ words: [String], _ rest: String) {
    switch first {
    case "machine": machine = rest
    case "user": userID = Int(rest)
    case "kernel": kernel = rest
    case "distribution": distribution = rest
    case "time": time = Double(rest)
    case "systemd": hasSystemd = true
    case "selinux": enforcesSELinux = true
    case "rooted": isOnRootFileSystem = true
    case "gzip": hasGzip = true
    case "luns": namesLUNs = true
    case "tap": taps.append(rest)
    case "space": freeBytes = UInt64(rest).map { $0.multipliedReportingOverflow(by: 1024).partialValue }
    default: break
    }
  }
}
