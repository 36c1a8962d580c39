import BlockModel
import MigrationModel
package import Reconciling
package import Seams

/// A bearer token and how long it is good for.
package struct AccessToken: Sendable, Equatable {
  package var value: Secret
  package var lifetimeSeconds: Double
  package init(value: Secret, lifetimeSeconds: Double) {
    self.value = value
    self.lifetimeSeconds = lifetimeSeconds
  }
}

/// Why a source has no token.
package enum TokenFailure: Error, Sendable, Equatable {
  /// Nothing here says that this source should be used: the next one is asked.
  case notConfigured(String)
  /// It should have worked: the user must know, and no other source is tried.
  case failed(GatewayError)
}

/// One way to get a token. May be called at any time, one call at a time.
package protocol TokenSource: Sendable {
  /// "client secret from the plan", "environment", …
  var name: String { get }
  func fetch() async throws(TokenFailure) -> AccessToken
}

/// How an integration signs in.
package struct CredentialReport: Sendable, Equatable {
  /// What became of each source, in the order of trying.
  package var attempts: [TokenProvider.Attempt]
  package var failure: GatewayError?
  package init(attempts: [TokenProvider.Attempt], failure: GatewayError?) {
    self.attempts = attempts
    self.failure = failure
  }

  /// "managed identity; not environment (…), not workload identity (…)".
  package var text: String {
    let used = attempts.first { $0.skippedBecause == nil }?.source
    let skipped = attempts.compactMap { attempt in
      attempt.skippedBecause.map { "not \(attempt.source) (\($0))" }
    }
    return ([used ?? "none"] + (skipped.isEmpty ? [] : [skipped.joined(separator: ", ")])).joined(separator: "; ")
  }
}

/// Tokens for one integration: kept in memory only, renewed before they expire, one renewal for many callers. The source
/// that had the first one has all of a run: who acts must not change in its middle.
package actor TokenProvider {
  /// Renewed when this much of its life is left, or half of it where it lives shorter.
  package static let renewalMarginSeconds = 300.0

  /// What became of each source, in the order of trying.
  package struct Attempt: Sendable, Equatable {
    package var source: String
    /// Nil: this one is in use.
    package var skippedBecause: String?
  }

  private struct Held {
    var token: AccessToken
    var renewAt: MonotonicTime
    var expiresAt: MonotonicTime
  }

  private let sources: [any TokenSource]
  private let time: any TimeSource
  private var held: Held?
  private var isRenewing = false
  private var waiting: [CheckedContinuation<Result<AccessToken, GatewayError>, Never>] = []
  private(set) package var attempts: [Attempt] = []
  /// Where the first token came from.
  private var chosen: (any TokenSource)?

  package init(sources: [any TokenSource], time: any TimeSource) {
    self.sources = sources
    self.time = time
  }

  package func token() async throws(GatewayError) -> Secret {
    while true {
      if let held, time.monotonicNow() < held.renewAt { return held.token.value }
      let result = await isRenewing ? othersRenewal() : renewal()
      switch result {
      case .success(let token): return token.value
      case .failure(let error):
        // A token that still lives is better than none.
        if let held, time.monotonicNow() < held.expiresAt { return held.token.value }
        // Whoever was asking gave up; that is no answer for this caller.
        if error.code == AzureFaultCode.cancelled, !Task.isCancelled { continue }
        throw error
      }
    }
  }

  /// The service refused this token: it isn't used again.
  package func reject(_ value: Secret) {
    if held?.token.value == value { held = nil }
  }

  /// Waits for what another caller is fetching.
  private func othersRenewal() async -> Result<AccessToken, GatewayError> {
    await withCheckedContinuation { waiting.append($0) }
  }

  private func renewal() async -> Result<AccessToken, GatewayError> {
    isRenewing = true
    let result: Result<AccessToken, GatewayError>
    do throws(GatewayError) {
      let token = try await fetch()
      let now = time.monotonicNow()
      let margin = min(Self.renewalMarginSeconds, token.lifetimeSeconds / 2)
      held = Held(
        token: token, renewAt: now.adding(seconds: token.lifetimeSeconds - margin),
        expiresAt: now.adding(seconds: token.lifetimeSeconds))
      result = .success(token)
    } catch {
      result = .failure(error)
    }
    isRenewing = false
    let others = waiting
    waiting = []
    for other in others { other.resume(returning: result) }
    return result
  }

  private func fetch() async throws(GatewayError) -> AccessToken {
    guard let chosen else { return try await choose() }
    do throws(TokenFailure) {
      return try await chosen.fetch()
    } catch {
      switch error {
      case .failed(let error): throw error
      case .notConfigured(let why):
        throw GatewayError(
          code: AzureFaultCode.noCredential,
          message: "the credential of this run (\(chosen.name)) gives no further token: \(why)",
          advice: "no other one is taken in the middle of a run; mend it, or run again to use what is there then",
          disposition: .retry(afterSeconds: 15))
      }
    }
  }

  private func choose() async throws(GatewayError) -> AccessToken {
    var tried: [Attempt] = []
    defer { attempts = tried }
    for source in sources {
      do throws(TokenFailure) {
        let token = try await source.fetch()
        tried.append(Attempt(source: source.name, skippedBecause: nil))
        chosen = source
        return token
      } catch {
        switch error {
        case .notConfigured(let why): tried.append(Attempt(source: source.name, skippedBecause: why))
        case .failed(let error):
          tried.append(Attempt(source: source.name, skippedBecause: error.message))
          throw error
        }
      }
    }
    let list = tried.map { "\($0.source): \($0.skippedBecause ?? "")" }.joined(separator: "; ")
    throw GatewayError(
      code: AzureFaultCode.noCredential, message: "no credential for Azure was found (\(list))",
      advice: "set AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, name a credential in the plan, or run 'az login'",
      disposition: .needsOperator, field: .credential)
  }
}
