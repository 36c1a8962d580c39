import AgentProtocol
import BlockModel
import LinuxPlatform
import Testing

@testable import AgentService

/// What an agent does with its taps when its host goes down with it, and what the next start of the host finds: on a
/// kernel of paper, with real agents and a real link.
@Suite("The end of an agent's host", .serialized)
struct HostEndTests {
  private static let names = ["disk", "second"]

  private func devices(_ pair: PaperPair) -> [PaperTapKernel.Device] {
    Self.names.map { pair.kernel.device(pair.path($0)) }
  }

  @Test("Taps are out and sealed before the agent ends, nothing waits for it, and the next boot has to compare nothing")
  func orderly() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    // Nothing can be copied from here on, so that what is marked stays so.
    _ = try pair.destination.command(.cancel, .destination)
    try pair.source.instance.leaveHost()
    #expect(devices(pair).allSatisfy { $0.tap == nil && $0.isSealed }, "\(devices(pair))")
    #expect(pair.kernel.connections == 0)
    #expect((#expect(throws: AgentFault.self) { try pair.source.command(.resync, .source) })?.code == .failed)
    try pair.source.restart {
      pair.kernel.startAnew()
      // As the device appears udev reads it.
      pair.kernel.change(pair.path()) { $0.openers = 1 }
    }
    let seen = try pair.source.wait(for: "the tap") { _ in pair.hasTap }
    #expect(seen.volumes.allSatisfy { $0.dirtyBytes < UInt64(pair.settings.sizeBytes) })
    #expect(try !pair.journal().contains("untracked"))
  }

  @Test("A host that stays up after all has its taps again with the next agent, and nothing is marked")
  func calledOff() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.source.instance.leaveHost()
    try pair.source.restart()
    try pair.source.wait(for: "the tap") { _ in pair.hasTap }
    #expect(devices(pair).allSatisfy { !$0.isSealed })
    #expect(try !pair.journal().contains("untracked"))
    try pair.waitUntilSynchronized()
  }

  @Test("A restart of the agent alone leaves taps where they are")
  func restartOnly() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.source.instance.leave()
    #expect(pair.hasTap && pair.kernel.connections == 2)
  }

  @Test("A volume in use is given back open, and what is then written past the tap is found in the next boot")
  func stillMounted() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    pair.kernel.change(pair.path("second")) { $0.openers = 1 }
    try pair.source.instance.leaveHost()
    let (one, other) = (pair.kernel.device(pair.path()), pair.kernel.device(pair.path("second")))
    #expect(one.tap == nil && one.isSealed)
    #expect(other.tap == nil && !other.isSealed)
    #expect(pair.kernel.connections == 0)
    try pair.write(0xc1, at: 4 << 20, of: "second")
    // The kernel of the next boot counts no writes of this one.
    try pair.source.restart { pair.kernel.startAnew() }
    try pair.source.wait(for: "the tap") { _ in pair.hasTap }
    try pair.waitUntilSynchronized()
    try pair.expectEqualCopies("after the next boot")
  }

  @Test("In stand-in nothing is reverted where nobody uses the volume any more")
  func inStandIn() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.source.command(.swing, .source)
    try pair.source.wait(for: .standIn)
    try pair.source.instance.leaveHost()
    #expect(try pair.source.observation().authority == .standIn)
    #expect(devices(pair).allSatisfy { $0.tap == nil && $0.isSealed })
    try pair.source.restart { pair.kernel.startAnew() }
    try pair.source.wait(for: "the tap") { _ in pair.hasTap }
    #expect(try !pair.journal().contains("untracked"))
    try pair.expectEqualCopies("after the next boot")
  }

  @Test("In stand-in authority comes back before a volume in use loses its tap")
  func inUseInStandIn() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.source.command(.swing, .source)
    try pair.source.wait(for: .standIn)
    pair.kernel.change(pair.path()) { $0.openers = 1 }
    try pair.source.instance.leaveHost()
    let seen = try pair.source.observation()
    #expect(seen.authority == .source && seen.hold?.cause == .failure, "no apply swings again by itself")
    #expect(devices(pair).allSatisfy { $0.tap == nil })
    try pair.write(0xc2, at: 3 << 20)
    try pair.source.restart { pair.kernel.startAnew() }
    try pair.source.wait(for: "the tap") { _ in pair.hasTap }
    try pair.waitUntilSynchronized()
    try pair.expectEqualCopies("after the next boot")
  }

  @Test(
    "The host goes down where systemd has the target of that queued or reached, whatever else it shows",
    arguments: [
      ("Job=312\nActiveState=inactive\n", true), ("ActiveState=inactive\n", false),
      ("Job=\nActiveState=inactive\n", false),
      ("Job=0\nActiveState=inactive\n", false), ("ActiveState=active\n", true),
      ("ActiveState=activating\nJob=7\n", true),
      ("", false), ("Failed to connect to bus\n", false),
    ])
  func shownBySystemd(shown: String, isUnderWay: Bool) {
    #expect(HostShutdown.isUnderWay(shown) == isUnderWay)
  }
}
