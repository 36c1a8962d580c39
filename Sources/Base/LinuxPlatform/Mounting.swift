import CLinux

/// mount(2) and umount2(2).
package enum Mounting {
  /// Mounts without set-user-id programs and device files. `data` is the file system's own options.
  package static func mount(
    source: String, at target: String, fileSystem: String, isReadOnly: Bool = false, data: String = ""
  ) throws(SystemError) {
    let flags = CMC_MS_NOSUID_NODEV | (isReadOnly ? CMC_MS_RDONLY : 0)
    _ = try check(cmc_mount(source, target, fileSystem, flags, data), "mount \(source) at \(target)")
  }

  /// `lazily` takes it out of the tree at once and lets its users finish.
  package static func unmount(_ target: String, lazily: Bool = false) throws(SystemError) {
    _ = try check(cmc_unmount(target, lazily ? 1 : 0), "unmount \(target)")
  }
}
