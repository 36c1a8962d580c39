internal import MigrationModel
internal import YAMLTree

/// A webhook, in a plan and in guardrails: a URL, or where one is found.
enum WebhookReader {
  private static let pattern =
    "^(https://(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+)|http://(localhost|127(\\.[0-9]{1,3}){3}|\\[::1\\]))"
    + "(:[0-9]{1,5})?([/?][!$-\\[\\]-~]*)?$"

  static let type = ValueType<YAMLNode>.node(.either([.pattern(pattern), .shape(SecretShape.the.shape)]))

  /// A text that is no URL is not repeated: it may be a token.
  static func read(_ node: YAMLNode, _ reading: Reading) -> NotificationTarget.Webhook? {
    guard node.isScalar, !node.isNull else { return SecretReader.read(node, reading).map { .secret($0) } }
    guard let text = reading.text(node, expected: "an https URL") else { return nil }
    guard WebhookAddress(text) != nil else {
      reading.report(
        "CMC1120", at: node.position,
        text.hasPrefix("http://") ? "plain http is for webhooks on this machine only" : "this is no https URL",
        "write https://…, or where it is found: {env: NAME}")
      return nil
    }
    return .url(text)
  }
}
