import ARMClient
package import ArgumentParser
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering

package struct DestroyCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "destroy", abstract: "Show which of a plan's disks nobody needs; delete them with --delete-disks.",
    discussion: """
      Only disks that cmcplan made for this plan, that no migration further than prepared lives on, that no agent has a \
      session over, and that no machine has. Everything else is kept, and why is said. Asks for the plan's name.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Flag(help: "Delete them. There is no way back.")
  var deleteDisks = false
  @Flag(help: "Also disks that a virtual machine still has and no session uses: they are detached first.")
  var detach = false
  @Option(help: ArgumentHelp("The plan's name, typed: for scripts, which can't be asked.", valueName: "name"))
  var confirm: String?
  package init() {}

  /// Disks that are deleted at once.
  private static let parallelism = 16

  package func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console)
      let run = ObserveRun(plan: opened.plan, gateways: opened.world.gateways, services: opened.world.services)
      let observation = await run.observe(includingFinished: true)
      let unseen = observation.clouds.values.flatMap(\.faults)
      for fault in unseen {
        console.complain("error \(fault.code): \(fault.part): \(fault.message)\n  next: \(fault.advice)\n")
      }
      guard unseen.isEmpty else { throw ExitCode(1) }
      let found = diskDeletions(opened.plan, observation, detaches: detach)
      for deletion in found { console.say(Self.line(deletion)) }
      let doomed = found.filter { if case .keep = $0.verdict { false } else { true } }
      guard !doomed.isEmpty else {
        console.say(found.isEmpty ? "There are no disks of this plan." : "No disk can be deleted.")
        return
      }
      guard deleteDisks else {
        console.say("Nothing was changed; --delete-disks deletes \(counted(doomed.count, "disk")).")
        return
      }
      try askForName(opened.plan.metadata.name, doomed.count, console)
      try await delete(doomed, opened, console)
    }
  }

  static func line(_ deletion: DiskDeletion) -> String {
    let disk = "\(deletion.disk.name) (\(deletion.disk.sku), \(deletion.disk.sizeBytes >> 30) GiB)"
    return switch deletion.verdict {
    case .delete: "delete  \(disk)"
    case .detachFirst(let machine): "delete  \(disk), detached from \(machine) first"
    case .keep(let why): "keep    \(disk): \(why)"
    }
  }

  private func askForName(_ name: String, _ count: Int, _ console: Console) throws {
    var typed = confirm
    if typed == nil, console.canAsk {
      typed = console.ask(
        "\nThis deletes \(counted(count, "disk")) for good. Type \(name), the plan's name, to go on: ")
    }
    guard typed?.trimmingCharacters(in: .whitespaces) == name else {
      throw CommandFailure(
        typed == nil
          ? "deleting disks needs the plan's name" : "\(typed ?? "") is not the plan's name; nothing was changed",
        advice: "where nobody can be asked: --confirm \(name)")
    }
  }

  private func delete(_ doomed: [DiskDeletion], _ opened: OpenedPlan, _ console: Console) async throws {
    var failed: Set<String> = []
    var attached: [String: [DiskDeletion]] = [:]
    for deletion in doomed {
      if case .detachFirst(let machine) = deletion.verdict {
        attached["\(deletion.integration) \(machine)", default: []].append(deletion)
      }
    }
    for (_, disks) in attached.sorted(by: { $0.key < $1.key }) {
      guard let first = disks.first, case .detachFirst(let machine) = first.verdict else { continue }
      do throws(GatewayError) {
        try await opened.world.azure[first.integration]?.detach(disks.map(\.disk.resourceID), from: machine)
      } catch {
        console.complain(error, of: machine)
        failed.formUnion(disks.map(\.disk.resourceID))
      }
    }
    let id = opened.plan.metadata.id
    let azure = opened.world.azure
    await fanOut(doomed.filter { !failed.contains($0.disk.resourceID) }, parallelism: Self.parallelism) { deletion in
      await outcome { () async throws(GatewayError) in
        try await azure[deletion.integration]?.deleteDisk(deletion.disk.resourceID, of: id)
      }
    } report: { deletion, result in
      switch result {
      case .success: console.say("deleted \(deletion.disk.name)")
      case .failure(let error):
        console.complain(error, of: deletion.disk.name)
        failed.insert(deletion.disk.resourceID)
      }
    }
    if !failed.isEmpty { throw ExitCode(1) }
  }
}
