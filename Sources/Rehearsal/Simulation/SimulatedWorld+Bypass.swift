import BlockModel
import Replication

/// The way past the tap: somebody gives the device beneath the application its own table back, or opens a closed source.
/// What is written then, no agent sees.
enum Bypass {
  case none
  /// Begins when nothing is in flight: a table is swapped behind the requests on it.
  case wanted
  case unnoticed
  /// The source's agent was told, or started anew and saw it.
  case noticed
}

extension SimulatedWorld {
  var isBypassed: Bool { bypass == .unnoticed || bypass == .noticed }

  /// What the source's driver does about its taps.
  mutating func stepBypass() {
    switch bypass {
    case .none: finishInsertion()
    case .wanted: if requests.isEmpty, source != nil { beginBypass() }
    case .unnoticed: if isCalm || chance.oneIn(40) { noticeBypass() }
    case .noticed: if isCalm || chance.oneIn(60) { insertTap() }
    }
  }

  private mutating func beginBypass() {
    report.faults["tap bypassed", default: 0] += 1
    if isTracing { print(time, "the tap is bypassed") }
    bypass = .unnoticed
  }

  /// The mark is durable before the machine is told.
  private mutating func noticeBypass() {
    guard source != nil else { return }
    isLossMarked = true
    bypass = .noticed
    tellSource(.untracked(why: "bypassed"))
  }

  /// One moment for the application; the machine is told later.
  private mutating func insertTap() {
    guard source != nil else { return }
    bypass = .none
    isInsertionNew = true
  }

  private mutating func finishInsertion() {
    guard isInsertionNew, let source, source.isLossNoted else { return }
    isInsertionNew = false
    isLossMarked = false
    tellSource(.tracked)
  }

  /// Before a proof, its beginning and its end the driver looks whether the source is still closed, and closes it.
  mutating func sealAgain() {
    if bypass == .wanted { bypass = .none }
    guard isBypassed else { return }
    if bypass == .unnoticed { noticeBypass() }
    insertTap()
  }

  /// An application whose requests nobody holds back.
  mutating func stepPastTap() {
    requestCounter += 1
    let volume = chance.below(volumeSizes.count)
    let total = Int(volumeSizes[volume] / SimulatedDisk.cellBytes)
    let first = chance.oneIn(2) ? chance.below(40) : chance.below(total)
    for cell in first..<min(first + 1 + chance.below(4), total) {
      if chance.oneIn(3) {
        let value = disks[0][volume].current[cell]
        if !histories[volume][cell].read(value, start: time, end: time) {
          note("stale data past the tap: volume \(volume) cell \(cell) holds \(value)")
        }
      } else {
        histories[volume][cell].begin(requestCounter, value: requestCounter, at: time)
        disks[0][volume].write(cell, requestCounter, durably: false)
        histories[volume][cell].end(requestCounter, at: time + 1, isDurable: false, oldestRead: time)
      }
    }
  }
}
