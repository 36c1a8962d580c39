import LinuxPlatform
import Testing

@testable import VolumeTap

@Suite("What makes a device of a tap")
struct TapMethodTests {
  private let whole = TapOffer(
    isRoot: true, hasDeviceMapper: true, hasKernelNBD: true, namesBackends: true, hasFuseLoop: true)

  @Test("The best that host and device allow is taken, and each reason names what is missing")
  func choices() {
    #expect(whole.choice(insertionRefusal: nil).method == .insertion)
    let plain = whole.choice(insertionRefusal: "/dev/sdb is no device-mapper device")
    #expect(plain.method == .kernelNBD)
    #expect(plain.reason.contains("/dev/sdb is no device-mapper device"))
    var host = whole
    host.namesBackends = false
    #expect(host.choice(insertionRefusal: nil).method == .insertion, "the table tells whose device it is")
    #expect(host.choice(insertionRefusal: "x").method == .fuseLoop)
    host.hasKernelNBD = false
    let fuse = host.choice(insertionRefusal: nil)
    #expect(fuse.method == .fuseLoop)
    #expect(fuse.reason.contains("nbd.ko"))
    host.hasFuseLoop = false
    #expect(host.choice(insertionRefusal: nil).method == .socket)
    host = whole
    host.isRoot = false
    #expect(host.choice(insertionRefusal: nil).method == .socket)
    #expect(host.methods == [.socket])
    #expect(whole.methods == [.socket, .fuseLoop, .kernelNBD, .insertion])
  }

  @Test("Kernel releases compare as numbers")
  func releases() {
    #expect(TapOffer.isAtLeast(5, 14, release: "6.1.0-56-cloud-amd64\n"))
    #expect(TapOffer.isAtLeast(5, 14, release: "5.14.0-427.el9.x86_64"))
    #expect(!TapOffer.isAtLeast(5, 14, release: "5.4.0-200-generic"))
    #expect(!TapOffer.isAtLeast(5, 14, release: "unknown"))
  }

  @Test("A device is untouched that was neither written nor discarded, whoever read it")
  func untouched() {
    let fresh = "  151  0  9432  18  0  0  0  0  0  16  18  0 0 0 0 0 0\n"
    #expect(MapperInsertion.isUntouched(stat: fresh))
    var fields = fresh.split(separator: " ").map(String.init)
    for (index, number) in [(4, "1"), (11, "1")] {
      fields[index] = number
      #expect(!MapperInsertion.isUntouched(stat: fields.joined(separator: " ")), "number \(index)")
      fields[index] = "0"
    }
    #expect(!MapperInsertion.isUntouched(stat: "151 0 9432 18 0"), "what can't be told is no proof")
  }

  @Test("Only targets that keep nothing on the disk may live twice")
  func refusals() {
    func table(_ kind: String) -> [MapperTarget] {
      [MapperTarget(startSectors: 0, lengthSectors: 8, kind: kind, parameters: "8:0 2048")]
    }
    #expect(MapperInsertion.refusal(of: table("linear"), name: "vg-data") == nil)
    #expect(MapperInsertion.refusal(of: table("linear") + table("striped"), name: "vg-data") == nil)
    for kind in ["multipath", "thin", "snapshot-origin", "raid", "crypt", "error"] {
      #expect(MapperInsertion.refusal(of: table(kind), name: "vg-data")?.contains("vg-data") == true)
    }
    #expect(MapperInsertion.refusal(of: [], name: "vg-data") != nil)
  }

  @Test("A table that leads to a tap is told from every other")
  func tables() {
    let device = DeviceNumber(major: 43, minor: 32)
    let tap = MapperInsertion.tapTable(sectors: 2048, device: device)
    #expect(MapperInsertion.tapDevice(of: tap) == device)
    #expect(MapperInsertion.sectors(of: tap + tap) == 4096)
    func line(_ kind: String, _ parameters: String, start: UInt64 = 0) -> MapperTarget {
      MapperTarget(startSectors: start, lengthSectors: 2048, kind: kind, parameters: parameters)
    }
    for other in [
      line("linear", "8:0 0"), line("linear", "43:32 8"), line("striped", "43:32 0"), line("linear", "43:32"),
      line("linear", "43:32 0", start: 8),
    ] {
      #expect(MapperInsertion.tapDevice(of: [other]) == nil, "\(other)")
    }
    #expect(MapperInsertion.tapDevice(of: tap + tap) == nil)
  }

  @Test("Names of origins are short, and the same at every start")
  func names() {
    #expect(MapperInsertion.digest("plan/erp/data") == MapperInsertion.digest("plan/erp/data"))
    #expect(MapperInsertion.digest("plan/erp/data") != MapperInsertion.digest("plan/erp/log"))
    #expect(MapperInsertion.digest("").count == 16)
  }

  @Test("The origin of one device is not taken for that of another whose name begins like it")
  func origins() {
    let digest = MapperInsertion.digest("plan/erp/data")
    let origin = "cmcplan-origin-\(digest)"
    #expect(MapperInsertion.isOrigin(origin, uuid: "CMCPLAN-vg-data-\(digest)", of: "vg-data"))
    #expect(!MapperInsertion.isOrigin(origin, uuid: "CMCPLAN-vg-data-2-\(digest)", of: "vg-data"))
    #expect(!MapperInsertion.isOrigin(origin, uuid: "CMCPLAN-vg-data-\(digest)", of: "vg-data-2"))
    #expect(!MapperInsertion.isOrigin("vg-data", uuid: "CMCPLAN-vg-data-\(digest)", of: "vg-data"))
    let long = String(repeating: "n", count: 127)
    #expect(!MapperInsertion.isOrigin(origin, uuid: "LVM-x", of: long))
  }
}
