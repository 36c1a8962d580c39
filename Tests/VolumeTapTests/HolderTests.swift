import BlockModel
import Glibc
import LinuxPlatform
import NBDServer
import Seams
import TestSupport
import Testing

@testable import VolumeTap

private let fileSystemPrograms = TapRig.hasPrograms(
  "/usr/sbin/mkfs.ext4", "/usr/sbin/e2fsck", "/usr/bin/mount", "/usr/bin/umount")

/// Need root, /dev/fuse and loop devices, and are skipped by name where those are missing.
@Suite("the holder", .serialized, .enabled(if: TapRig.canHold), .timeLimit(.minutes(10))) struct HolderTests {
  private func withRig(_ body: @escaping @Sendable (TapRig) throws -> Void) async throws {
    try await onBlockingThread {
      let rig = try TapRig()
      defer { rig.tearDown() }
      try body(rig)
    }
  }

  @Test("a file system lives on the device, and detaching leaves nothing behind", .enabled(if: fileSystemPrograms))
  func fileSystem() async throws {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      #expect(status.sizeBytes == rig.sizeBytes && status.isConnected)
      #expect(try rig.control.attach(rig.settings) == status, "attaching again changes nothing")
      #expect(try rig.control.status(directory: rig.holderDirectory) == status)
      try rig.run("/usr/sbin/mkfs.ext4", "-q", status.device)
      try Files.makeDirectories(rig.mountPoint)
      try rig.run("/usr/bin/mount", status.device, rig.mountPoint)
      let contents = SeededRandom(seed: 1).bytes(5_000_000)
      try Files.replace(rig.mountPoint + "/file", with: contents)
      try rig.run("/usr/bin/umount", rig.mountPoint)
      try rig.run("/usr/bin/mount", status.device, rig.mountPoint)
      #expect(try Files.read(rig.mountPoint + "/file") == contents)
      try rig.run("/usr/bin/umount", rig.mountPoint)
      try rig.run("/usr/sbin/e2fsck", "-fn", status.device)
      try rig.control.detach(directory: rig.holderDirectory)
      #expect(try rig.remains() == [])
      #expect(!ProcessTable.isRunning(processID: status.processID, startTime: status.processStartTicks))
      // What the application wrote is in the file that the agent served.
      try rig.run("/usr/sbin/e2fsck", "-fn", rig.file)
      try rig.control.detach(directory: rig.holderDirectory)
    }
  }

  @Test("detaching is refused while it is mounted, and says where", .enabled(if: fileSystemPrograms))
  func refusedWhileMounted() async throws {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      try rig.run("/usr/sbin/mkfs.ext4", "-q", status.device)
      try Files.makeDirectories(rig.mountPoint)
      try rig.run("/usr/bin/mount", status.device, rig.mountPoint)
      let error = try #require(throws: TapError.self) { try rig.control.detach(directory: rig.holderDirectory) }
      #expect(error.code == .inUse)
      #expect(error.message.contains(rig.mountPoint))
      try Files.replace(rig.mountPoint + "/still-works", with: [1])
    }
  }

  @Test("detaching is refused while a process has it open, and names the process") func refusedWhileOpen() async throws
  {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      let opened = try FileBlockDevice(path: status.device)
      let error = try #require(throws: TapError.self) { try rig.control.detach(directory: rig.holderDirectory) }
      #expect(error.code == .inUse)
      #expect(error.message.contains("\(getpid()) ("), "\(error.message)")
      _ = opened
    }
  }

  @Test(
    "the server is killed under load and comes back 2 s later: no I/O error, every byte right",
    .enabled(if: TapRig.hasPrograms("/usr/bin/fio")))
  func serverKilled() async throws {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      let outage = try PlatformThread.start(name: "outage") {
        for _ in 0..<2 {
          pauseThread(milliseconds: 700)
          rig.killServer()
          pauseThread(milliseconds: 2000)
          do { try rig.serve() } catch { Issue.record(error) }
        }
      }
      try rig.run(
        "/usr/bin/fio", "--name=v", "--filename=\(status.device)", "--rw=randrw", "--bsrange=4k-128k",
        "--iodepth=32", "--ioengine=libaio", "--direct=1", "--size=128M", "--io_size=768M", "--verify=crc32c",
        "--verify_fatal=1", "--verify_state_save=0", "--fsync=64", timeoutSeconds: 120)
      outage.join()
      let after = try #require(try rig.control.status(directory: rig.holderDirectory))
      #expect(after.reconnections >= 1 && after.isConnected && after.processID == status.processID)
    }
  }

  @Test(
    "a server that shuts down in order is only a pause too", .enabled(if: TapRig.hasPrograms("/usr/bin/fio")))
  func serverStopped() async throws {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      let outage = try PlatformThread.start(name: "outage") {
        pauseThread(milliseconds: 500)
        rig.stopServer()
        pauseThread(milliseconds: 500)
        do { try rig.serve() } catch { Issue.record(error) }
      }
      try rig.run(
        "/usr/bin/fio", "--name=v", "--filename=\(status.device)", "--rw=randwrite", "--bs=16k", "--iodepth=16",
        "--ioengine=libaio", "--direct=1", "--size=128M", "--runtime=3", "--time_based", timeoutSeconds: 60)
      outage.join()
    }
  }

  @Test("another volume at the agent's socket is not written to: I/O waits for the right one") func wrongVolume()
    async throws
  {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      let other = rig.directory + "/other.img"
      do { _ = try FileBlockDevice.create(path: other, sizeBytes: 1 << 20) }
      rig.killServer()
      try rig.serve(other)
      let written = Monitor(false)
      let writer = try PlatformThread.start(name: "writer") {
        do {
          let device = try FileBlockDevice(path: status.device, FileBlockDevice.Options(access: .direct))
          let buffer = AlignedBuffer(byteCount: 4096)
          buffer.bytes.initializeMemory(as: UInt8.self, repeating: 0x5a)
          try device.write(at: 8192, from: buffer.readOnly, durable: true)
          written.change { $0 = true }
        } catch { Issue.record(error) }
      }
      // The request must have reached the holder before the right server comes back.
      while try rig.control.status(directory: rig.holderDirectory)?.unansweredRequests == 0 {
        pauseThread(milliseconds: 10)
      }
      #expect(try rig.control.status(directory: rig.holderDirectory)?.isConnected == false)
      #expect(!written.withLock { $0 })
      rig.killServer()
      try rig.serve()
      #expect(writer.join(until: MonotonicTime.now.adding(seconds: 20)))
      #expect(try Files.read(other).allSatisfy { $0 == 0 })
      let file = try FileBlockDevice(path: rig.file)
      let buffer = AlignedBuffer(byteCount: 4096)
      try file.read(at: 8192, into: buffer.bytes)
      #expect(buffer.bytes.allSatisfy { $0 == 0x5a })
    }
  }

  @Test("an export that grew while its agent was away is followed, with the device open, and asking again does no harm")
  func grows() async throws {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      #expect(status.canGrow)
      let opened = try FileBlockDevice(path: status.device, FileBlockDevice.Options(access: .direct))
      defer { opened.close() }
      let larger = rig.sizeBytes + (3 << 20) + 512
      rig.killServer()
      try rig.run("/usr/bin/truncate", "-s", "\(larger)", rig.file)
      try rig.serve()
      let deadline = MonotonicTime.now.adding(seconds: 20)
      while try opened.refreshSize() != larger, MonotonicTime.now < deadline { pauseThread(milliseconds: 10) }
      #expect(try opened.refreshSize() == larger)
      #expect(try rig.control.status(directory: rig.holderDirectory)?.sizeBytes == larger)
      #expect(try rig.control.grow(directory: rig.holderDirectory) == larger)
      let buffer = AlignedBuffer(byteCount: 4096)
      buffer.bytes.initializeMemory(as: UInt8.self, repeating: 0x5b)
      try opened.write(at: larger - 4608, from: buffer.readOnly, durable: true)
      let file = try FileBlockDevice(path: rig.file)
      try file.read(at: larger - 4608, into: buffer.bytes)
      #expect(buffer.bytes.allSatisfy { $0 == 0x5b })
    }
  }

  @Test("after the holder was killed, attaching cleans up and starts anew; what was flushed is there")
  func holderKilled() async throws {
    try await withRig { rig in
      let first = try rig.control.attach(rig.settings)
      try rig.killHolder()
      #expect(try rig.control.status(directory: rig.holderDirectory) == nil)
      let second = try rig.control.attach(rig.settings)
      #expect(second.processID != first.processID)
      let device = try FileBlockDevice(path: second.device)
      #expect(device.sizeBytes == rig.sizeBytes)
      device.close()
      #expect(try rig.remains().filter { $0.hasPrefix("loop") }.count == 1)
      try rig.killHolder()
      try rig.control.detach(directory: rig.holderDirectory)
      #expect(try rig.remains() == [])
    }
  }

  @Test("a device that is ready only after its holder was killed goes away again") func attachedTooLate() async throws {
    try await withRig { rig in
      func attach(for holder: Int32) throws -> ChildResult {
        try PosixChildProcesses().run(
          ChildCommand(
            executable: TapRig.harness, arguments: ["holder", "--attach-loop", rig.file, "512", "\(holder)"],
            environment: [:], timeoutSeconds: 60))
      }
      let late = try attach(for: 1)
      #expect(late.ending == .exited(1))
      #expect(String(decoding: late.output, as: UTF8.self).contains("process 1, which wanted /dev/loop"))
      #expect(try rig.remains() == [])
      let inTime = try attach(for: getpid())
      let device = LoopDevice(path: String(decoding: inTime.output, as: UTF8.self).filter { !$0.isNewline })
      #expect(device.backingPath() == rig.file, "it stays when the helper has ended")
      try device.detach()
      #expect(try rig.remains() == [])
    }
  }

  @Test("discarding and zeroing the device zeroes it", .enabled(if: TapRig.hasPrograms("/usr/sbin/blkdiscard")))
  func discard() async throws {
    try await withRig { rig in
      let status = try rig.control.attach(rig.settings)
      do {
        let device = try FileBlockDevice(path: status.device)
        let ones = [UInt8](repeating: 0xff, count: 8 << 20)
        try ones.withUnsafeBytes { try device.write(at: 0, from: $0, durable: true) }
      }
      try rig.run("/usr/sbin/blkdiscard", "-o", "1048576", "-l", "1048576", status.device)
      try rig.run("/usr/sbin/blkdiscard", "-z", "-o", "4194304", "-l", "1048576", status.device)
      let file = try Files.read(rig.file, limitBytes: 1 << 30)
      for mebibyte in 0..<8 {
        let wanted: UInt8 = mebibyte == 1 || mebibyte == 4 ? 0 : 0xff
        #expect(file[mebibyte << 20..<(mebibyte + 1) << 20].allSatisfy { $0 == wanted }, "MiB \(mebibyte)")
      }
    }
  }

  @Test("no agent at the socket: attaching fails soon, says so, and leaves nothing") func noServer() async throws {
    try await withRig { rig in
      rig.killServer()
      let error = try #require(throws: TapError.self) { try rig.control.attach(rig.settings) }
      #expect(error.message.contains(rig.socket), "\(error.message)")
      try rig.control.detach(directory: rig.holderDirectory)
      #expect(try rig.remains() == [])
    }
  }

  @Test("an export of 4 KiB blocks becomes a device of 4 KiB sectors") func largeBlocks() async throws {
    try await withRig { rig in
      rig.killServer()
      try rig.serve(minimumBlockBytes: 4096)
      let status = try rig.control.attach(rig.settings)
      let name = Files.lastPart(of: status.device)
      #expect(try Files.readText("/sys/block/\(name)/queue/logical_block_size") == "4096\n")
    }
  }
}
