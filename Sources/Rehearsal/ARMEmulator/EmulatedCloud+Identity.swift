import Foundation

extension EmulatedCloud {
  /// Everything that needs no token: signing in and discovery. Nil where the request is something else.
  mutating func identityRoute(_ request: EmulatorRequest, now: Double) throws(Refusal) -> EmulatorResponse? {
    let path = request.folded
    switch (request.method, path.count) {
    case ("POST", 4) where Array(path[1...]) == ["oauth2", "v2.0", "token"]: return signIn(request, now: now)
    case ("GET", 4) where Array(path[1...]) == ["v2.0", ".well-known", "openid-configuration"]:
      guard isTenant(path[0]) else { return unknownTenant(request) }
      return EmulatorResponse(200, openIDConfiguration(request.baseURL))
    case ("GET", 2) where path == ["metadata", "endpoints"]:
      return EmulatorResponse(200, endpoints(request.baseURL))
    default: return nil
    }
  }

  private func isTenant(_ name: String) -> Bool { name.lowercased() == configuration.tenant.lowercased() }

  private func openIDConfiguration(_ base: String) -> JSONValue {
    let tenant = configuration.tenant
    return [
      "token_endpoint": .string("\(base)/\(tenant)/oauth2/v2.0/token"),
      "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
      "jwks_uri": .string("\(base)/\(tenant)/discovery/v2.0/keys"),
      "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
      "scopes_supported": ["openid", "profile", "email", "offline_access"],
      "issuer": .string("\(base)/\(tenant)/v2.0"),
      "authorization_endpoint": .string("\(base)/\(tenant)/oauth2/v2.0/authorize"),
      "device_authorization_endpoint": .string("\(base)/\(tenant)/oauth2/v2.0/devicecode"),
      "end_session_endpoint": .string("\(base)/\(tenant)/oauth2/v2.0/logout"),
      "tenant_region_scope": "EU",
    ]
  }

  private func endpoints(_ base: String) -> JSONValue {
    let url = JSONValue.string(base)
    return [
      "portal": url,
      "authentication": [
        "loginEndpoint": url, "audiences": [.string(base + "/")], "tenant": "common", "identityProvider": "AAD",
      ],
      "graphAudience": .string(base + "/"), "microsoftGraphResourceId": .string(base + "/"), "graph": url,
      "name": "CmcplanEmulator", "suffixes": ["storage": "localhost", "keyVaultDns": "vault.localhost"],
      "batch": url, "resourceManager": url, "media": url,
    ]
  }

  /// The form of `application/x-www-form-urlencoded`.
  static func form(_ body: [UInt8]) -> [String: String] {
    var fields: [String: String] = [:]
    for pair in String(decoding: body, as: UTF8.self).split(separator: "&").prefix(64) {
      let parts = pair.split(separator: "=", maxSplits: 1).map {
        $0.replacingOccurrences(of: "+", with: " ").removingPercentEncoding ?? ""
      }
      if let name = parts.first { fields[name] = parts.count > 1 ? parts[1] : "" }
    }
    return fields
  }

  private mutating func signIn(_ request: EmulatorRequest, now: Double) -> EmulatorResponse {
    guard isTenant(request.path[0]) else { return unknownTenant(request) }
    let form = Self.form(request.body)
    guard form["grant_type"] == "client_credentials" else {
      return refuseToken(
        request, 400, "unsupported_grant_type",
        "AADSTS70003: The app requested an unsupported grant type '\(form["grant_type"] ?? "")'.")
    }
    guard let client = form["client_id"], client.lowercased() == configuration.clientID.lowercased() else {
      return refuseToken(
        request, 400, "unauthorized_client",
        "AADSTS700016: Application with identifier '\(form["client_id"] ?? "")' was not found in the directory "
          + "'\(configuration.tenant)'.")
    }
    guard let scope = form["scope"], scope.hasSuffix("/.default") else {
      return refuseToken(
        request, 400, "invalid_scope", "AADSTS70011: The provided value for scope is not valid.")
    }
    if let refusal = refusal(of: form, base: request.baseURL, now: now) {
      return refuseToken(request, refusal.status, refusal.error, refusal.description)
    }
    tokens = tokens.filter { $0.value.endsAt > now }
    guard tokens.count < Self.tokenLimit else {
      return refuseToken(
        request, 429, "temporarily_unavailable", "AADSTS90055: too many tokens were asked for.")
    }
    let isForStorage = scope.dropLast("/.default".count) == Self.storageAudience
    let token = makeToken(request.baseURL, isForStorage: isForStorage, now: now)
    tokens[token] = IssuedToken(endsAt: now + Self.tokenSeconds, isForStorage: isForStorage)
    let life = JSONValue.int(Int(Self.tokenSeconds))
    return EmulatorResponse(
      200,
      ["token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": .string(token)])
  }

  /// Nil where the form proves that it comes from the client.
  private func refusal(of form: [String: String], base: String, now: Double) -> TokenRefusal? {
    if let assertion = form["client_assertion"] {
      guard form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" else {
        return TokenRefusal(
          "AADSTS900144: The request body must contain the following parameter: 'client_assertion_type'.", status: 400,
          error: "invalid_request")
      }
      do throws(TokenRefusal) {
        try checkAssertion(assertion, tokenURL: "\(base)/\(configuration.tenant)/oauth2/v2.0/token", now: now)
        return nil
      } catch {
        return error
      }
    }
    guard let secret = form["client_secret"] else {
      return TokenRefusal(
        "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
    }
    if Self.sameSecret(secret, configuration.clientSecret) { return nil }
    return TokenRefusal(
      "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client "
        + "secret value, not the client secret ID, for a secret added to app '\(configuration.clientID)'.")
  }

  /// Looks at every byte, whatever differs.
  private static func sameSecret(_ left: String, _ right: String) -> Bool {
    let (left, right) = (Array(left.utf8), Array(right.utf8))
    var difference = left.count ^ right.count
    for (index, byte) in right.enumerated() { difference |= Int(byte ^ (index < left.count ? left[index] : 0)) }
    return difference == 0 && !right.isEmpty
  }

  /// Looks like a token to clients that read claims. Its worth is that it is in the list.
  private func makeToken(_ base: String, isForStorage: Bool, now: Double) -> String {
    let claims: JSONValue = [
      "aud": .string(isForStorage ? Self.storageAudience : "https://management.azure.com"),
      "iss": .string("\(base)/\(configuration.tenant)/v2.0"),
      "iat": .int(Int(now)), "nbf": .int(Int(now)), "exp": .int(Int(now + Self.tokenSeconds)),
      "appid": .string(configuration.clientID), "tid": .string(configuration.tenant),
      "oid": "33333333-3333-3333-3333-333333333333", "idtyp": "app", "ver": "1.0", "uti": .string(makeUUID()),
    ]
    let header: JSONValue = ["typ": "JWT", "alg": "none"]
    return [header.bytes, claims.bytes, Array("emulator-\(makeUUID())".utf8)].map(Base64URL.text).joined(separator: ".")
  }

  private func unknownTenant(_ request: EmulatorRequest) -> EmulatorResponse {
    refuseToken(
      request, 400, "invalid_tenant",
      "AADSTS90002: Tenant '\(request.path[0])' not found. Check to make sure you have the correct tenant ID and are signing "
        + "into the correct cloud.")
  }

  func refuseToken(
    _ request: EmulatorRequest, _ status: Int, _ error: String, _ description: String
  ) -> EmulatorResponse {
    let asked = request.headers["client-request-id"].flatMap(UUID.init(uuidString:))?.uuidString.lowercased()
    let number = description.drop { !$0.isNumber }.prefix { $0.isNumber }
    return EmulatorResponse(
      status,
      [
        "error": .string(error), "error_description": .string(description),
        "error_codes": .array(Int(number).map { [.int($0)] } ?? []), "trace_id": .string(makeUUID()),
        "correlation_id": .string(asked ?? makeUUID()),
      ])
  }

  func checkToken(_ request: EmulatorRequest, now: Double) throws(Refusal) {
    func refuse(_ code: String, _ message: String) -> Refusal {
      var refusal = Refusal(401, code, message)
      refusal.headers = [
        (
          "WWW-Authenticate",
          "Bearer authorization_uri=\"\(request.baseURL)/\(configuration.tenant)\", error=\"invalid_token\", "
            + "error_description=\"\(message)\""
        )
      ]
      return refusal
    }
    guard let header = request.headers["authorization"] else {
      throw refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    }
    guard header.lowercased().hasPrefix("bearer "), let token = tokens[String(header.dropFirst(7))] else {
      throw refuse("InvalidAuthenticationToken", "The access token is invalid.")
    }
    guard !token.isForStorage else {
      throw refuse(
        "InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong audience or resource.")
    }
    guard now < token.endsAt else {
      throw refuse("ExpiredAuthenticationToken", "The access token expiry UTC time has passed.")
    }
  }

  var subscription: JSONValue {
    let id = configuration.subscription
    return [
      "id": .string("/subscriptions/\(id)"), "authorizationSource": "RoleBased", "managedByTenants": [],
      "subscriptionId": .string(id), "tenantId": .string(configuration.tenant), "displayName": "cmcplan emulator",
      "state": "Enabled",
      "subscriptionPolicies": [
        "locationPlacementId": "Internal_2014-09-01", "quotaId": "Internal_2014-09-01", "spendingLimit": "Off",
      ],
    ]
  }

  var resourceGroup: JSONValue {
    let name = configuration.resourceGroup
    return [
      "id": .string("/subscriptions/\(configuration.subscription)/resourceGroups/\(name)"), "name": .string(name),
      "type": "Microsoft.Resources/resourceGroups", "location": .string(configuration.location),
      "tags": [:], "properties": ["provisioningState": "Succeeded"],
    ]
  }
}
