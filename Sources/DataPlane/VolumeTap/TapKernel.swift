package import LinuxPlatform

/// What the agent asks of the kernel to make devices of taps: a seam, so that what is decided around it can be tried
/// without device-mapper, and with a kernel that fails where it hurts.
package protocol TapKernel: Sendable {
  /// Why the tap can't go beneath the device; nil where it can, or is there.
  func refusal(of path: String) -> String?
  /// Nil where `path` is no device that a tap goes beneath. `key` names the volume uniquely on this host.
  func insertion(of path: String, key: String) throws(SystemError) -> (any TapInsertion)?
  var hasModule: Bool { get }
  /// `KernelTap.attach`.
  func attach(
    socket: String, exportName: String, blockBytes: UInt32, known: Int?
  ) throws(TapError) -> any TapConnection
  /// Takes away what an agent before this one connected.
  func disconnect(_ index: Int) throws(SystemError)
}

/// `MapperInsertion`, which see.
package protocol TapInsertion: Sendable {
  var name: String { get }
  func state() throws(SystemError) -> MapperInsertion.State
  func isUntouched() throws(SystemError) -> Bool
  func isSealed() throws(SystemError) -> Bool
  func openCount() throws(SystemError) -> Int
  func isUsed() throws(SystemError) -> Bool
  func ensureOrigin() throws(SystemError) -> String
  func removeOrigin() throws(SystemError)
  func insert(nbdIndex: Int, sizeBytes: UInt64) throws(SystemError) -> Double
  func takeOut(isSealed: Bool) throws(SystemError) -> Double
}

/// `KernelTap`, which see.
package protocol TapConnection: Sendable {
  var index: Int { get }
  var path: String { get }
  func mend() throws(TapError) -> Bool
  /// The export has so many bytes now.
  func grow(to sizeBytes: UInt64) throws(TapError)
  func detach() throws(TapError)
}

extension MapperInsertion: TapInsertion {}
extension KernelTap: TapConnection {}

/// The kernel that runs.
package struct HostTapKernel: TapKernel {
  package init() {}
  package func refusal(of path: String) -> String? { MapperInsertion.refusal(of: path) }
  package func insertion(of path: String, key: String) throws(SystemError) -> (any TapInsertion)? {
    try MapperInsertion(path: path, key: key)
  }
  package var hasModule: Bool { KernelNBD.isLoaded }
  package func attach(
    socket: String, exportName: String, blockBytes: UInt32, known: Int?
  ) throws(TapError) -> any TapConnection {
    try KernelTap.attach(socket: socket, exportName: exportName, blockBytes: blockBytes, known: known)
  }
  package func disconnect(_ index: Int) throws(SystemError) { try KernelNBD.disconnect(index) }
}
