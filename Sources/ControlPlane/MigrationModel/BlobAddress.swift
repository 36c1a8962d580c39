/// The URL of a container of Azure Blob Storage, or of a prefix in it, taken apart.
package struct BlobAddress: Sendable, Equatable {
  /// "https://account.blob.core.windows.net", in lower case.
  package let origin: String
  /// In the path where the service is at an address of its own: an emulator's, as Azurite has it.
  package let account: String?
  package let container: String
  /// In the container, without a slash at either end; may be empty.
  package let prefix: String

  /// Nil where the text is no such URL. A query is refused: what people paste there is a signature.
  package init?(_ text: String) {
    guard !text.contains("?"), let web = WebhookAddress(text) else { return nil }
    var parts = web.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map(String.init)
    while parts.last?.isEmpty == true { parts.removeLast() }
    guard !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else { return nil }
    origin = web.origin
    let host = web.origin.drop { $0 != "/" }.dropFirst(2)
    if host.split(separator: ".").dropFirst().first == "blob" || Self.cloud(of: web.origin) != nil {
      account = nil
    } else {
      guard parts.count > 1 else { return nil }
      account = parts.removeFirst()
    }
    guard let name = parts.first, Self.isContainer(name) else { return nil }
    container = name
    prefix = parts.dropFirst().joined(separator: "/")
  }

  package var text: String {
    ([origin, account, container].compactMap { $0 } + (prefix.isEmpty ? [] : [prefix])).joined(separator: "/")
  }

  package var containerURL: String { [origin, account, container].compactMap { $0 }.joined(separator: "/") }

  /// Whose service it certainly is, by the names that the clouds keep to themselves; nil: anybody's.
  package var cloud: AzureIntegration.Cloud? { Self.cloud(of: origin) }

  private static func cloud(of origin: String) -> AzureIntegration.Cloud? {
    guard origin.hasPrefix("https://"), !origin.dropFirst(8).contains(":") else { return nil }
    if origin.hasSuffix(".blob.core.windows.net") || origin.hasSuffix(".blob.storage.azure.net") { return .public }
    if origin.hasSuffix(".blob.core.usgovcloudapi.net") { return .usGovernment }
    if origin.hasSuffix(".blob.core.chinacloudapi.cn") { return .china }
    return nil
  }

  /// 3 to 63 of a-z, 0-9 and single hyphens, or one of the service's own.
  private static func isContainer(_ name: String) -> Bool {
    if ["$root", "$web"].contains(name) { return true }
    guard (3...63).contains(name.utf8.count), name.first != "-", name.last != "-", !name.contains("--") else {
      return false
    }
    return name.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "-") }
  }
}
