import CLinux
import Seams

/// The kernel's random numbers (getrandom(2)).
package struct SystemRandom: RandomSource {
  package init() {}

  package func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = cmc_getrandom(buffer.baseAddress.map { $0 + filled }, count - filled)
        // getrandom with no flags fails only for a bad address or a kernel older than 3.17.
        precondition(got > 0, "the kernel gives no random numbers: errno \(-got)")
        filled += got
      }
    }
  }
}
