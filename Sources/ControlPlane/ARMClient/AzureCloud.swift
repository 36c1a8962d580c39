package import MigrationModel

/// Where one cloud's services are, as base URLs without a slash at the end.
package struct AzureEndpoints: Sendable, Equatable {
  package var authority: String
  package var resourceManager: String
  /// PEM file with the certificate authority to trust beside none of the system's; nil: the system's.
  package var certificateAuthorityFile: String?
  /// What tokens are asked for: the resource manager's own audience.
  package var audience: String
  /// The real service has a bucket of 15 status reads a minute and VM; an emulator or a private cloud says its own pace.
  package var minimumPollSeconds: Double
  /// How often to ask where an answer has no `Retry-After`.
  package var defaultPollSeconds: Double

  /// Whether the documented request limits hold there, so that requests are paced by them.
  package var knowsRates = true

  package init(_ cloud: AzureIntegration.Cloud) {
    certificateAuthorityFile = nil
    minimumPollSeconds = 4
    defaultPollSeconds = 4
    switch cloud {
    case .public:
      authority = "https://login.microsoftonline.com"
      resourceManager = "https://management.azure.com"
    case .usGovernment:
      authority = "https://login.microsoftonline.us"
      resourceManager = "https://management.usgovcloudapi.net"
    case .china:
      authority = "https://login.chinacloudapi.cn"
      resourceManager = "https://management.chinacloudapi.cn"
    case .custom(let authority, let resourceManager, let file):
      self.authority = Self.withoutSlash(authority)
      self.resourceManager = Self.withoutSlash(resourceManager)
      certificateAuthorityFile = file
      minimumPollSeconds = 0.05
      defaultPollSeconds = 0.5
      knowsRates = false
    }
    audience = resourceManager
    if case .custom = cloud { audience = "https://management.azure.com" }
  }

  private static func withoutSlash(_ url: String) -> String {
    var url = url
    while url.hasSuffix("/") { url.removeLast() }
    return url
  }
}
