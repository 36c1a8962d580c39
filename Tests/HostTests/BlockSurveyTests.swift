import SSHDeploy
import Testing

@Suite struct BlockSurveyTests {
  /// A host with an OS disk in partitions, LVM on a multipath LUN, a raw disk with a file system, and a CD drive.
  static let output = #"""
    io0    8       0 sda 100 0 2000 0 50 0 1000 0 0 0 0
    io0  253       1 dm-1 0 0 0 0 0 0 2000 0 0 0 0
    block NAME="sda" KNAME="sda" PKNAME="" TYPE="disk" SIZE="34359738368" FSTYPE="" LABEL="" MOUNTPOINT="" MODEL="VBOX\x20DISK" SERIAL="S1" RO="0"
    block NAME="sda1" KNAME="sda1" PKNAME="sda" TYPE="part" SIZE="34358689792" FSTYPE="ext4" LABEL="" MOUNTPOINT="/" MODEL="" SERIAL="" RO="0"
    block NAME="sdb" KNAME="sdb" PKNAME="" TYPE="disk" SIZE="1099511627776" FSTYPE="mpath_member" LABEL="" MOUNTPOINT="" MODEL="" SERIAL="" RO="0"
    block NAME="mpatha" KNAME="dm-0" PKNAME="sdb" TYPE="mpath" SIZE="1099511627776" FSTYPE="LVM2_member" LABEL="" MOUNTPOINT="" MODEL="" SERIAL="" RO="0"
    block NAME="vg_erp-data" KNAME="dm-1" PKNAME="dm-0" TYPE="lvm" SIZE="536870912000" FSTYPE="xfs" LABEL="a\x22b" MOUNTPOINT="/var/lib/post gres" MODEL="" SERIAL="" RO="0"
    block NAME="mpatha" KNAME="dm-0" PKNAME="sdc" TYPE="mpath" SIZE="1099511627776" FSTYPE="LVM2_member" LABEL="" MOUNTPOINT="" MODEL="" SERIAL="" RO="0"
    block NAME="sdd" KNAME="sdd" PKNAME="" MAJ:MIN="8:48" TYPE="disk" SIZE="1073741824" FSTYPE="ext4" LABEL="" MOUNTPOINT="/logs" MODEL="" SERIAL="" RO="0"
    block NAME="sr0" KNAME="sr0" PKNAME="" TYPE="rom" SIZE="1073741312" FSTYPE="" LABEL="" MOUNTPOINT="" MODEL="" SERIAL="" RO="0"
    mount 8:48 /logs
    mount 8:48 /srv/more\040logs
    link /dev/disk/by-id/scsi-0X sdd
    link /dev/disk/by-id/wwn-0x5000 sdd
    uptime 86400.00 1.00
    io1    8       0 sda 100 0 2000 0 50 0 1000 0 0 0 0
    io1  253       1 dm-1 0 0 4000 0 0 0 6000 0 0 0 0
    garbage
    block KNAME="cut
    """#
  let survey = BlockSurvey(Self.output)

  private func device(_ name: String) throws -> BlockSurvey.Device {
    try #require(survey.devices.first { $0.kernelName == name })
  }

  @Test func everyDeviceIsThereOnce() {
    #expect(survey.devices.map(\.kernelName) == ["dm-0", "dm-1", "sda", "sda1", "sdb", "sdd", "sr0"])
  }

  @Test func namesAreThoseThatStay() throws {
    #expect(try device("dm-1").path == "/dev/mapper/vg_erp-data")
    #expect(try device("sdd").path == "/dev/disk/by-id/wwn-0x5000")
    #expect(try device("sdd").isStable)
    #expect(try device("sda").path == "/dev/sda")
    #expect(try !device("sda").isStable)
  }

  @Test func theOperatingSystemIsMarkedDownToItsDisk() throws {
    #expect(try device("sda").isSystem && device("sda1").isSystem)
    #expect(try !device("dm-1").isSystem && !device("sdb").isSystem)
    #expect(try device("sda").obstacle == "the operating system is on it")
  }

  @Test func onlyTheTopOfAStackCanBeMigrated() throws {
    #expect(try device("sdb").obstacle == "dm-0 is on it")
    #expect(try device("dm-0").obstacle == "dm-1 is on it")
    #expect(try device("dm-1").obstacle == nil)
    #expect(try device("sr0").obstacle == "it is read-only")
    #expect(try device("dm-1").tracking.contains("device-mapper"))
    #expect(try device("sdd").tracking.contains("remount"))
  }

  @Test func everyMountPointIsShownAndNotOneOnly() throws {
    #expect(try device("sdd").mountedAt == ["/logs", "/srv/more logs"])
  }

  @Test func ratesAreOfTheTimeBetweenTheLooks() throws {
    let data = try device("dm-1")
    #expect(data.readBytesPerSecond == 4000 * 512 / 2)
    #expect(data.writtenBytesPerSecond == 4000 * 512 / 2)
    #expect(data.writtenBytesPerDay == 6000 * 512)
    #expect(data.mountedAt == ["/var/lib/post gres"])
    #expect(data.label == "a\"b")
  }

  @Test func nonsenseIsNoDevice() {
    #expect(BlockSurvey("block x=\nio0 1\nlink\nuptime\n\u{0}").devices.isEmpty)
  }
}
