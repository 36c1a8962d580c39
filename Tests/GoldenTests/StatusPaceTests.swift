import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Rendering
import Testing

/// What `status` says of how copying does, beside the table.
@Suite struct StatusPaceTests {
  private func status(
    _ change: (inout SessionObservation) -> Void
  ) throws -> (text: String, json: String, prometheus: String) {
    let (plan, seen, now) = try PlanningCases.world("14-synchronizing")
    var observation = seen
    for host in observation.hosts.keys {
      for index in observation.hosts[host]?.agent?.sessions.indices ?? 0..<0 {
        guard var session = observation.hosts[host]?.agent?.sessions[index], session.role == .source else { continue }
        change(&session)
        observation.hosts[host]?.agent?.sessions[index] = session
      }
    }
    let options = PlanningOptions(now: now, digest: goldenDigest)
    return (
      renderStatus(plan, observation, options: options, style: .plain),
      renderStatusJSON(plan, observation, options: options), renderPrometheus(plan, observation, options: options)
    )
  }

  @Test(
    "What holds it back is named in words, and for programs",
    arguments: [
      (HoldBack.sourceDisk, "held back by the source's disk"),
      (.destinationDisk, "held back by the destination's disk"), (.network, "held back by the network"),
      (.iqos, "held back by iQoS: the share of its level"), (.networkLimit, "held back by iQoS: networkLimit"),
      (.latencyBound, "held back by iQoS: latencyBound"), (.compression, "held back by compression"),
    ])
  func heldBack(_ cause: HoldBack, _ words: String) throws {
    let said = try status { $0.heldBackBy = cause }
    #expect(said.text.contains(words), "\(said.text)")
    #expect(said.json.contains("\"heldBackBy\":\"\(cause.rawValue)\""))
    for other in HoldBack.allCases {
      let lines = said.prometheus.split(separator: "\n").filter {
        $0.hasPrefix("cmcplan_held_back{") && $0.contains("by=\"\(other.rawValue)\"")
      }
      #expect(lines.count == 1)
      #expect(lines.first?.hasSuffix(other == cause ? " 1" : " 0") == true)
    }
  }

  @Test func compressionIsToldAsARatioWhereItIsOnAndAsAReasonWhereItIsOff() throws {
    let on = try status {
      $0.compression = CompressionReport(state: .on, packedBytes: 2300, wireBytes: 1000)
      $0.heldBackBy = .network
    }
    #expect(on.text.contains("held back by the network; compression 2.3×"), "\(on.text)")
    #expect(on.prometheus.contains("} 2300\n") && on.prometheus.contains("cmcplan_compressed_wire_bytes_total{"))
    let off = try status {
      $0.compression = CompressionReport(state: .incompressible, packedBytes: 0, wireBytes: 0)
    }
    #expect(off.text.contains("compression off: the data hardly shrinks"))
    let slow = try status { $0.compression = CompressionReport(state: .tooSlow, packedBytes: 0, wireBytes: 0) }
    #expect(slow.text.contains("compression off: it saves no time"))
  }

  @Test func anAgentThatTellsNothingOfItIsNotSpokenFor() throws {
    let said = try status { _ in }
    #expect(!said.text.contains("held back") && !said.text.contains("compression"))
    #expect(!said.prometheus.contains("cmcplan_held_back") && !said.prometheus.contains("cmcplan_compressed"))
  }
}
