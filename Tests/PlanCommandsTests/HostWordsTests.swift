import BlockModel
import MigrationModel
import Planning
import Rendering
import SSHDeploy
import Testing

@testable import PlanCommands

/// What hosts say of themselves, as `doctor` and `discover` take it: any number, any word.
@Suite struct HostWordsTests {
  private let host = Host(
    name: HostName("db"), address: "192.0.2.1",
    reach: .ssh(SSHAccess(user: nil, port: nil, identityFile: nil, jump: nil, sudo: false)), azureVirtualMachine: nil,
    position: nil)

  private func check(_ what: String, _ change: (inout HostFacts) -> Void) -> Check? {
    var facts = HostFacts(root: "/var/lib/cmcplan")
    facts.isPrivileged = true
    change(&facts)
    return HostChecks.checks(host, facts, machine: nil, isSource: true).first { $0.what == what }
  }

  @Test func aVirtualMachineThatNamesNoLUNsIsToldHow() {
    func luns(_ machine: String?, _ named: Bool?) -> Check? {
      let host = Host(
        name: HostName("vm"), address: "192.0.2.1", reach: .local(root: "/"), azureVirtualMachine: machine,
        position: nil)
      var facts = HostFacts(root: "/var/lib/cmcplan")
      facts.namesLUNs = named
      return HostChecks.checks(host, facts, machine: nil, isSource: false).first { $0.what == "luns" }
    }
    #expect(luns("vm", true)?.result == .ok)
    #expect(luns("vm", false)?.result == .failed)
    #expect(luns("vm", false)?.advice.contains("azure-vm-utils") == true)
    #expect(luns("vm", nil) == nil)
    #expect(luns(nil, false) == nil)
  }

  @Test(arguments: [
    (["kernel-nbd"], Check.Result.ok), (["kernel-nbd", "device-mapper"], .ok), (["fuse-loop"], .ok),
    (["device-mapper"], .warning), ([], .warning),
  ])
  func aTapIsADeviceByAnyOfItsWays(taps: [String], result: Check.Result) {
    #expect(check("tap") { $0.taps = taps }?.result == result)
    let unprivileged = check("tap") { facts in
      facts.taps = taps
      facts.isPrivileged = false
    }
    #expect(unprivileged?.result == .warning)
  }

  @Test(arguments: [Double.nan, .infinity, -.infinity, 1e300, -1e300])
  func aClockMayTellAnything(ahead: Double) {
    #expect(check("clock") { $0.clockAheadSeconds = ahead }?.result == .failed)
    _ = rendered(WallTime(secondsSince1970: ahead))
  }

  @Test func timesArePrintedAsFarAsTheyHaveFourDigits() {
    #expect(rendered(WallTime(secondsSince1970: 1e300)) == "9999-12-31 23:59:59Z")
    #expect(rendered(WallTime(secondsSince1970: -1e300)) == "0001-01-01 00:00:00Z")
    #expect(rendered(WallTime(secondsSince1970: 0)) == "1970-01-01 00:00:00Z")
  }

  @Test func aDeviceMayHaveWrittenAnything() {
    let survey = BlockSurvey(
      """
      block NAME="sdb" KNAME="sdb" PKNAME="" TYPE="disk" SIZE="1073741824" FSTYPE="ext4" MOUNTPOINT="" RO="0"
      io0 8 16 sdb 1 0 1e300 0 1 0 1e300 0 0 0 0
      io1 8 16 sdb 1 0 1e301 0 1 0 1e301 0 0 0 0
      uptime 0.0001 1
      """)
    #expect(DiscoveredPlan.text([(host, survey)], planID: "p").contains("MiB written a day"))
  }

  @Test func wholePartsNeverTrap() {
    #expect([2.9, -2.9, 0, .nan, 1e300, -.infinity].map { Int(saturating: $0) } == [2, -2, 0, 0, .max, .min])
    #expect(Int(saturating: Double(Int.max)) == .max && Int(saturating: Double(Int.min)) == .min)
  }
}
