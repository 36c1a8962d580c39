import ARMClient
import Foundation
import MigrationModel

/// Files for somebody who has to find out what went wrong, and who is not here: as one tar, without the secrets that
/// the plan and the environment name.
struct SupportBundle {
  /// So much of one file goes in, in bytes: its end, where logs say what happened last.
  static let fileLimitBytes = 8 << 20
  /// So much goes in all in all, in bytes: it is made in memory.
  static let totalLimitBytes = 512 << 20

  let redaction: Redaction
  private(set) var files: [(name: String, bytes: [UInt8])] = []
  /// What there was no room for.
  private(set) var leftOut: [String] = []
  private var roomBytes: Int

  init(redaction: Redaction, totalLimitBytes: Int = SupportBundle.totalLimitBytes) {
    self.redaction = redaction
    roomBytes = totalLimitBytes
  }

  /// `isNeeded`: it goes in however full the bundle is.
  mutating func add(_ name: String, _ text: String, isNeeded: Bool = false) {
    add(name, Array(text.utf8), isNeeded: isNeeded)
  }

  mutating func add(_ name: String, _ bytes: [UInt8], isNeeded: Bool = false) {
    // Cut after the secrets are out: half of one would not be known for one.
    let kept = Array(redaction.redacted(bytes).suffix(Self.fileLimitBytes))
    guard isNeeded || kept.count <= roomBytes else { return leftOut.append(name) }
    roomBytes -= kept.count
    files.append((name, kept))
  }

  /// `directory`: what all of it is in. `secondsSince1970`: when it was made.
  func archive(in directory: String, at secondsSince1970: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    for (name, contents) in files {
      guard let header = TarHeader(name: "\(directory)/\(name)", size: contents.count, at: secondsSince1970) else {
        continue
      }
      bytes += header.bytes
      bytes += contents
      bytes += [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
    }
    return bytes + [UInt8](repeating: 0, count: 1024)
  }
}

/// The header of one file in the ustar format (POSIX.1-2001, pax, "ustar Interchange Format"). Nil where the name does not
/// fit it.
struct TarHeader {
  let bytes: [UInt8]

  init?(name: String, size: Int, at secondsSince1970: Int) {
    guard let (prefix, last) = Self.split(name), size >= 0, size < 1 << 33 else { return nil }
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      for (index, byte) in text.utf8.enumerated() { header[offset + index] = byte }
    }
    func octal(_ number: Int, digits: Int) -> String {
      let text = String(max(0, number), radix: 8)
      return String(repeating: "0", count: max(0, digits - text.count)) + text.suffix(digits)
    }
    put(last, at: 0)
    put(octal(0o600, digits: 7), at: 100)
    put(octal(0, digits: 7), at: 108)
    put(octal(0, digits: 7), at: 116)
    put(octal(size, digits: 11), at: 124)
    put(octal(secondsSince1970, digits: 11), at: 136)
    put("        0", at: 148)
    put("ustar", at: 257)
    put("00", at: 263)
    put(prefix, at: 345)
    let sum = header.reduce(0) { $0 + Int($1) }
    put(octal(sum, digits: 6) + "\0 ", at: 148)
    bytes = header
  }

  /// At most 100 bytes after a slash, at most 155 before it.
  private static func split(_ name: String) -> (prefix: String, last: String)? {
    if name.utf8.count <= 100 { return ("", name) }
    for index in name.indices where name[index] == "/" {
      let (prefix, last) = (name[..<index], name[name.index(after: index)...])
      if last.utf8.count <= 100, prefix.utf8.count <= 155, !last.isEmpty { return (String(prefix), String(last)) }
    }
    return nil
  }
}

/// Takes secrets out of text, also where JSON or a URL wrote them in its own way.
struct Redaction {
  /// A shorter one would be found in everything, and protects nothing.
  static let leastCharacters = 6
  private let spellings: [String]

  /// `environment`: variables whose name says that they are secret are taken for secrets, whoever reads them.
  init(_ plan: MigrationPlan?, environment: [String: String]) {
    let reader = SecretReader(environment: environment)
    // One that can't be read can't have gone anywhere.
    var values = (plan?.secrets ?? []).compactMap { try? reader.read($0).reveal() }
    let words = ["SECRET", "PASSWORD", "TOKEN", "PASSPHRASE", "CREDENTIAL"]
    values += environment.filter { name, _ in words.contains { name.uppercased().contains($0) } }.map(\.value)
    self.init(values)
  }

  init(_ values: [String]) {
    var spellings: Set<String> = []
    for value in values where value.count >= Self.leastCharacters {
      spellings.insert(value)
      for formatting: JSONEncoder.OutputFormatting in [[], [.withoutEscapingSlashes]] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting
        if let json = try? encoder.encode(value) {
          spellings.insert(String(String(decoding: json, as: UTF8.self).dropFirst().dropLast()))
        }
      }
      if let escaped = value.addingPercentEncoding(withAllowedCharacters: .alphanumerics) { spellings.insert(escaped) }
    }
    // The longest first: one may be a part of another.
    self.spellings = spellings.sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }
  }

  func redacted(_ bytes: [UInt8]) -> [UInt8] {
    var text = String(decoding: bytes, as: UTF8.self)
    guard spellings.contains(where: text.contains) else { return bytes }
    for spelling in spellings { text = text.replacing(spelling, with: "(secret)") }
    return Array(text.utf8)
  }
}

extension MigrationPlan {
  /// Where every secret that the plan names is found.
  fileprivate var secrets: [SecretReference] {
    let credentials = integrations.values.flatMap { integration -> [SecretReference] in
      switch integration.credential {
      case .ambient: []
      case .clientSecret(_, let secret): [secret]
      case .clientCertificate(_, _, let password): password.map { [$0] } ?? []
      }
    }
    let webhooks = notifications.compactMap { target -> SecretReference? in
      if case .secret(let reference) = target.webhook { reference } else { nil }
    }
    return credentials + webhooks
  }
}
