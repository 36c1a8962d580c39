import BlockModel
import LinuxPlatform
import Seams
import Testing

/// A file system of one MiB, unmounted with the last reference. Nil where this process may not mount.
private final class SmallDisk {
  let scratch: Scratch

  init?() {
    guard let scratch = try? Scratch(),
      (try? Mounting.mount(source: "tmpfs", at: scratch.path, fileSystem: "tmpfs", data: "size=1m")) != nil
    else { return nil }
    self.scratch = scratch
  }

  deinit { try? Mounting.unmount(scratch.path, lazily: true) }

  static let isPossible = SmallDisk() != nil
}

@Suite(.enabled(if: SmallDisk.isPossible)) struct FullDiskTests {
  @Test func aFullDiskIsNamedAsSuch() throws {
    let disk = try #require(SmallDisk())
    #expect(try MountTable.mount(holding: disk.scratch.path)?.fileSystem == "tmpfs")
    let device = try FileBlockDevice.create(path: disk.scratch("volume"), sizeBytes: 16 << 20)
    #expect { try device.put(pattern(2 << 20), at: 0) } throws: { isError($0, .noSpace) }
    device.close()
  }

  @Test func aRecordThatDoesNotFitLeavesTheOldOneWhole() throws {
    let disk = try #require(SmallDisk())
    let store = try DirectoryStateStore(path: disk.scratch("state"))
    let record = pattern(300_000)
    try store.replace("record", with: record)
    func isFull(_ error: any Error) -> Bool { (error as? StateStoreError)?.code == .noSpace }
    #expect { try store.replace("record", with: pattern(2 << 20)) } throws: { isFull($0) }
    #expect { try store.append("record", pattern(2 << 20)) } throws: { isFull($0) }
    #expect(try store.read("record") == record)
    // The space of what did not fit is free again.
    try store.append("record", [1])
    #expect(try Files.list(disk.scratch("state")) == ["record"])
  }
}
