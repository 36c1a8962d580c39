import AgentProtocol
import ArgumentParser
import BlockModel
import MigrationModel
import Reconciling
import Seams

struct AgentRotateKeyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rotate-key",
    abstract: "Give hosts' agents new keys, also while they replicate; nothing is interrupted.",
    discussion: """
      The agent makes the new key on its host. Its peers let both in until the new one is proven with each of them over a \
      connection of its own; then they forget the former one. Links that stand go on: they show the new key when they are \
      next opened. A run that was cut off at any point is repeated: it goes on where it was. Every peer must be reachable.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "Hosts of the plan.") var host: [String]

  func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      let world = opened.world
      let rotation = KeyRotation(
        plan: opened.document.plan, hosts: world.gateways.hosts, who: world.who, time: world.services.time
      ) { console.say($0) }
      var isFailed = false
      // One after the other: two ends of a session must not change their keys at once.
      for host in try opened.document.hosts(host) {
        let result = await outcome { () async throws(GatewayError) -> AgentKeys in try await rotation.rotate(host) }
        switch result {
        case .success(let keys): console.say("\(host.name): the agent's key is \(keys.current)")
        case .failure(let error):
          console.complain(error)
          isFailed = true
        }
      }
      if isFailed { throw ExitCode(1) }
    }
  }
}
