import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import Testing
import VolumeTap

/// What becomes of writes that go past the tap, of taps that are taken out half-way, and of closed sources that somebody
/// opens: on a kernel of paper, with real agents and a real link.
@Suite("Writes past the tap", .serialized)
struct BypassTests {
  @Test("What is written while the tap is out is copied once it is in again, and nothing is handed over before")
  func bypassed() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    pair.kernel.bypass(pair.path())
    try pair.source.wait(for: "word of it") { $0.volumes[0].tapSocket == nil }
    try pair.write(0xb1, at: 2 << 20)
    for command in [SessionCommand.swing] { try pair.expectRefused(command, .wrongStage) }
    // All that would be copied by now, were anything.
    try pair.source.command(.resync, .source)
    #expect(try pair.source.observation().volumes[0].dirtyBytes == UInt64(pair.settings.sizeBytes))
    try pair.write(0xb2, at: 5 << 20)
    try pair.source.command(.openTap, .source)
    try pair.waitUntilSynchronized()
    try pair.expectEqualCopies("after the tap was put in again")
    try pair.source.command(.swing, .source)
    try pair.source.wait(for: .standIn)
  }

  @Test("A tap that goes in again before anybody noticed that it was out trusts nothing either")
  func unnoticed() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    pair.kernel.bypass(pair.path("second"))
    try pair.write(0xb3, at: 3 << 20, of: "second")
    try pair.source.command(.openTap, .source)
    try pair.waitUntilSynchronized()
    // Comparing online may have come upon it first.
    try pair.expectEqualCopies("after the tap was put in again", mayHaveFound: true)
  }

  @Test("What was written while no agent ran is copied, however often agents start before it is")
  func bypassedWithoutAgent() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    // Nothing can be copied for now.
    _ = try pair.destination.command(.cancel, .destination)
    try pair.source.restart {
      pair.kernel.bypass(pair.path())
      try pair.write(0xb4, at: 4 << 20)
    }
    try pair.source.wait(for: "the tap") { _ in pair.hasTap }
    try pair.source.restart()
    let seen = try pair.source.wait(for: "the tap") { $0.volumes[0].tapSocket != nil }
    #expect(seen.volumes[0].dirtyBytes == UInt64(pair.settings.sizeBytes), "the mark outlives the second start")
  }

  @Test("A closed source that was opened by a new start of its host is closed again, and what was written is proven")
  func openedAfterClosing() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.source.command(.closeTap, .source)
    #expect(pair.kernel.device(pair.path()).isSealed)
    try pair.waitForRecord(of: .tapClosed)
    try pair.source.restart {
      pair.kernel.startAnew()
      try pair.write(0xb5, at: 2 << 20)
    }
    try pair.source.wait(for: "the link") { $0.connected }
    pair.kernel.change(pair.path("second")) { device in
      device.isSealed = false
      device.openers = 1
    }
    try pair.expectRefused(.prove, .inUse)
    pair.kernel.change(pair.path("second")) { $0.openers = 0 }
    try pair.source.command(.prove, .source)
    try pair.source.wait(for: .proven)
    #expect(pair.kernel.device(pair.path()).isSealed && pair.kernel.device(pair.path("second")).isSealed)
    try pair.expectEqualCopies("after the proof")

    // The same between proof and fence.
    pair.kernel.change(pair.path()) { $0.isSealed = false }
    try pair.write(0xb6, at: 3 << 20)
    try pair.expectRefused(.fence, .wrongStage)
    #expect(try pair.source.observation().receipt == nil)
    try pair.source.command(.prove, .source)
    try pair.source.wait(for: .proven)
    try pair.expectEqualCopies("after the second proof")
    try pair.source.command(.fence, .source)
    try pair.source.wait(for: .fenced)
  }

  @Test("A device with a table that others gave it doesn't count as closed")
  func foreignTable() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    pair.kernel.change(pair.path("second")) { device in
      device.tap = nil
      device.isForeign = true
    }
    try pair.expectRefused(.closeTap, .failed)
    #expect(try pair.source.observation().stage == .tracking)
    try pair.source.command(.openTap, .source)
    #expect(pair.hasTap)
    try pair.waitUntilSynchronized()
    try pair.source.command(.closeTap, .source)
  }

  @Test("A closing that fails at one volume leaves none without its tap")
  func halfClosed() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    pair.kernel.change(pair.path("second")) { $0.openers = 1 }
    try pair.expectRefused(.closeTap, .inUse)
    #expect(pair.hasTap && !pair.kernel.device(pair.path()).isSealed)
    try pair.waitUntilSynchronized()
    #expect(try !pair.journal().contains("untracked"), "the device was sealed meanwhile")
  }

  @Test("Somebody who opens the device as its tap is taken out keeps a tap that lives")
  func openedAtTheSwap() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    pair.kernel.change(pair.path()) { $0.isOpenedAtSwap = true }
    try pair.expectRefused(.closeTap, .inUse)
    #expect(pair.hasTap && pair.kernel.connections == 2)
    pair.kernel.change(pair.path()) { $0.isOpenedAtSwap = false }
    try pair.source.command(.closeTap, .source)
    #expect(!pair.hasTap && pair.kernel.connections == 0)
  }

  @Test("An insertion that fails leaves no device of the kernel's behind")
  func failedInsertion() throws {
    let pair = try PaperPair()
    pair.kernel.change(pair.path()) { $0.insertionFails = true }
    try pair.expectRefused(.openTap, .failed)
    #expect(pair.kernel.connections == 0)
    pair.kernel.change(pair.path()) { $0.insertionFails = false }
    try pair.source.command(.openTap, .source)
    #expect(pair.hasTap)
  }

  @Test("A rescue takes the taps out, carries out what waits, and no agent puts them back")
  func takeOut() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.rescue(pair.source) { rescue in
      #expect(rescue.overview().contains("--take-out \(pair.path("second"))"))
      #expect(throws: AgentFault.self) { try rescue.takeOut("/nowhere") }
      #expect(try rescue.takeOut(pair.path()).contains("given up"))
      for name in ["disk", "second"] {
        let device = pair.kernel.device(pair.path(name))
        #expect(device.tap == nil && !device.isSealed && !device.hasOrigin, "\(device)")
      }
      #expect(pair.kernel.connections == 0)
      _ = try rescue.takeOut(pair.path())
    }
    #expect(!pair.hasTap && pair.kernel.connections == 0)
    try pair.expectGivenUp(pair.source, .source)
  }

  @Test("The mark of a rescue is there before the device is touched")
  func markedFirst() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    try pair.rescue(pair.source) { rescue in
      // Nobody can listen where the tap's directory should be.
      let taps = AgentRoot(path: pair.source.root.path).taps
      try Files.removeTree(taps)
      try Files.replace(taps, with: [])
      #expect(throws: AgentFault.self) { try rescue.takeOut(pair.path()) }
      #expect(pair.hasTap)
      try Files.remove(taps)
    }
    #expect(try pair.source.observation().hold?.who == "cmcagent rescue")
  }

  @Test("A rescue that lifts a fence, or writes a destination's ends, is not undone by an agent")
  func fenceAndEnds() throws {
    let pair = try PaperPair()
    try pair.synchronize()
    for (command, stage) in [(SessionCommand.closeTap, SessionStage.tapClosed), (.prove, .proven), (.fence, .fenced)] {
      try pair.source.command(command, .source)
      try pair.source.wait(for: stage)
    }
    try pair.destination.wait(for: .fenced)
    #expect(try Files.facts(pair.path()).mode & 0o777 == FileFence.fencedMode)
    let content = try pair.source.root.contents("disk", sizeBytes: pair.settings.sizeBytes)
    try pair.rescue(pair.destination) { rescue in
      _ = try rescue.writeEnds("\(pair.destination.root.path)/disk", from: nil, evenIncomplete: false)
    }
    #expect(try pair.destination.root.contents("disk", sizeBytes: pair.settings.sizeBytes) == content)
    try pair.rescue(pair.source) { rescue in _ = try rescue.unfence(pair.path()) }
    #expect(try pair.source.observation().stage != .fenced)
    #expect(try Files.facts(pair.path()).mode & 0o777 != FileFence.fencedMode)
    try pair.expectGivenUp(pair.source, .source)
  }

  @Test("A fenced source that is not there after a new start of its host still finishes its session")
  func absentSource() throws {
    struct PaperFence: SourceFence {
      func check(_ path: String) {}
      func raise(_ path: String, session: SessionID) {}
    }
    let pair = try PaperPair(fence: PaperFence())
    try pair.synchronize()
    for (command, stage) in [(SessionCommand.closeTap, SessionStage.tapClosed), (.prove, .proven), (.fence, .fenced)] {
      try pair.source.command(command, .source)
      try pair.source.wait(for: stage)
    }
    try pair.waitForRecord(of: .fenced)
    try pair.source.restart { for name in ["disk", "second"] { try Files.remove(pair.path(name)) } }
    #expect(try pair.source.observation().stage == .fenced)
    try pair.source.command(.retire, .source)
    #expect(try pair.source.call(ObserveCall()).sessions.isEmpty)
  }

  @Test("Cancel gives the device back writable and without its tap, after a restart too", arguments: [true, false])
  func cancelAfterRestart(isClosed: Bool) throws {
    let pair = try PaperPair()
    try pair.synchronize()
    if isClosed { try pair.source.command(.closeTap, .source) }
    try pair.source.restart()
    try pair.source.command(.cancel, .source)
    for name in ["disk", "second"] {
      let device = pair.kernel.device(pair.path(name))
      #expect(device.tap == nil && !device.isSealed && !device.hasOrigin, "\(device)")
    }
    #expect(pair.kernel.connections == 0)
    #expect(try pair.source.call(ObserveCall()).sessions.isEmpty)
  }
}
