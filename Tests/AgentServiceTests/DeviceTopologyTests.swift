import AgentService
import Testing

private struct PaperHost: HostView {
  var files: [String: String]
  var directories: [String: [String]] = [:]
  var paths: [String: PathStatus]
  func text(_ path: String, limitBytes: Int) -> String? { files[path] }
  func names(in path: String) -> [String] { directories[path] ?? [] }
  func status(_ path: String) -> PathStatus? { paths[path] }
}

@Suite("What a host's devices are used for")
struct DeviceTopologyTests {
  private func block(_ device: String) -> PathStatus {
    PathStatus(kind: .block, device: device, inode: 1, sizeBytes: 1 << 30)
  }

  private var host: PaperHost {
    PaperHost(
      files: [
        "/proc/self/mountinfo": """
        22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw
        31 22 253:0 / /srv/my\\040data rw - ext4 /dev/mapper/vg-data rw
        32 22 7:0 / /mnt/image rw - ext4 /dev/loop0 rw
        garbage
        """,
        "/proc/swaps": "Filename Type Size Used Priority\n/dev/sdc partition 1 0 -2\n",
        "/sys/dev/block/8:0/sda2/partition": "2\n",
        "/sys/dev/block/8:0/sda2/dev": "8:2\n",
        "/sys/dev/block/8:16/holders/dm-0/dev": "253:0\n",
        "/sys/dev/block/8:16/wwid": "naa.5000c500a1b2c3d4\n",
        "/sys/dev/block/253:0/dm/uuid": "LVM-abc\n",
        "/sys/block/loop0/loop/backing_file": "/images/a.img\n",
        "/sys/block/loop0/dev": "7:0\n",
      ],
      directories: [
        "/sys/dev/block/8:0": ["sda2"], "/sys/dev/block/8:16/holders": ["dm-0"], "/sys/block": ["loop0", "sda"],
      ],
      paths: [
        "/": PathStatus(kind: .other, device: "8:2", inode: 2, sizeBytes: 0),
        "/dev/sdc": block("8:32"),
        "/images/a.img": PathStatus(kind: .file, device: "8:2", inode: 77, sizeBytes: 10),
      ])
  }

  @Test("A disk whose partition holds the root file system is a system device; a swap partition is too")
  func system() {
    let topology = DeviceTopology(host: host, agentRoot: "/root-of-agent")
    #expect(topology.isSystem(block("8:0"), path: "/dev/sda"))
    #expect(topology.isSystem(block("8:32"), path: "/dev/sdc"))
    #expect(!topology.isSystem(block("8:16"), path: "/dev/sdb"))
  }

  @Test("A mount of what is stacked on a disk is named at the disk, with its spaces")
  func stacked() {
    let topology = DeviceTopology(host: host, agentRoot: "/x")
    #expect(topology.users(of: block("8:16"), path: "/dev/sdb") == ["/srv/my data"])
  }

  @Test("A file that a loop device serves is in use where that is mounted, and is not the system for lying on it")
  func loopFile() {
    let topology = DeviceTopology(host: host, agentRoot: "/x")
    let file = PathStatus(kind: .file, device: "8:2", inode: 77, sizeBytes: 10)
    #expect(topology.users(of: file, path: "/images/a.img") == ["/mnt/image"])
    #expect(!topology.isSystem(file, path: "/images/a.img"))
  }

  @Test("Devices are told apart by WWN, dm uuid or inode")
  func identity() {
    let topology = DeviceTopology(host: host, agentRoot: "/x")
    #expect(topology.identity(of: block("8:16"), path: "/dev/sdb") == "wwn naa.5000c500a1b2c3d4")
    #expect(topology.identity(of: block("253:0"), path: "/dev/dm-0") == "dm LVM-abc")
    let file = PathStatus(kind: .file, device: "8:2", inode: 77, sizeBytes: 10)
    #expect(topology.identity(of: file, path: "/images/a.img") == "file 8:2 77")
  }
}
