package import BlockModel
package import Seams
import Synchronization

/// The key that an agent shows, and while it is being replaced the one that it will show. Both lie in the agent's state;
/// whatever is cut off, the key shown is whole, and is either the former or the next.
package final class KeyRing: Sendable {
  private struct Keys: Sendable {
    var current: AgentIdentity
    var next: AgentIdentity?
  }

  /// The key to come. Gone once it is the agent's own.
  package static let nextKeyPath = "agent-next.key"

  private let store: any StateStore
  private let keys: Mutex<Keys>
  /// One change at a time; never held while a connection asks for the current key.
  private let changing = Mutex(())

  /// Loads the agent's key, or makes its first one, and finds what an earlier replacement left.
  package init(store: any StateStore) throws(TLSError) {
    self.store = store
    let current = try AgentIdentity.loadOrMake(in: store)
    // One that can't be read was shown to nobody: it is as none, and the next replacement makes another in its place.
    let next = try? AgentIdentity.load(Self.nextKeyPath, in: store)
    // A replacement that was cut off after its commit: the next key is the current one already.
    keys = Mutex(Keys(current: current, next: next?.fingerprint == current.fingerprint ? nil : next))
  }

  package var current: AgentIdentity { keys.withLock { $0.current } }
  package var fingerprint: KeyFingerprint { current.fingerprint }
  /// Of the key to come; nil where none was made.
  package var nextFingerprint: KeyFingerprint? { keys.withLock { $0.next?.fingerprint } }

  /// Makes the key to come, durably. There already: no effect.
  package func prepareNext() throws(TLSError) {
    try changing.withLock { _ throws(TLSError) in
      if nextFingerprint != nil { return }
      let made = try AgentIdentity.make()
      guard let pem = made.privateKeyPEM() else { throw TLSError.fromLibrary("cannot write a private key") }
      try Self.stored { () throws(StateStoreError) in try store.replace(Self.nextKeyPath, with: pem) }
      keys.withLock { $0.next = made }
    }
  }

  /// Makes the key to come the agent's own, for every connection from now on. False where there is no such key; a key
  /// that is the agent's own already is left alone.
  package func useNext(_ fingerprint: KeyFingerprint) throws(TLSError) -> Bool {
    try changing.withLock { _ throws(TLSError) in
      let (current, next) = keys.withLock { ($0.current, $0.next) }
      if current.fingerprint == fingerprint {
        // What a removal that was cut off left; a next key that another replacement made is its own affair.
        if next == nil { try Self.stored { () throws(StateStoreError) in try store.remove(Self.nextKeyPath) } }
        return true
      }
      guard let next, next.fingerprint == fingerprint, let pem = next.privateKeyPEM(),
        let certificate = next.certificatePEM()
      else { return false }
      // The commit. The certificate is made again from the key where it doesn't fit.
      try Self.stored { () throws(StateStoreError) in try store.replace(AgentIdentity.keyPath, with: pem) }
      keys.withLock { $0 = Keys(current: next, next: nil) }
      try Self.stored { () throws(StateStoreError) in
        try store.replace(AgentIdentity.certificatePath, with: certificate)
        try store.remove(Self.nextKeyPath)
      }
      return true
    }
  }

  private static func stored(_ body: () throws(StateStoreError) -> Void) throws(TLSError) {
    do throws(StateStoreError) { try body() } catch { throw TLSError("cannot store the agent's key: \(error)") }
  }
}
