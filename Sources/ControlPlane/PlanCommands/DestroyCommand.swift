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
      prune is about what was replaced or left the document, and this about all disks. Only disks that cmcplan made for this plan, that no migration further than prepared lives on, that no agent has a \
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

  package func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console)
      let observation = try await DiskDeleting.observe(opened, console)
      let found = diskDeletions(opened.plan, observation, detaches: detach)
      let deleting = DiskDeleting(opened: opened, console: console, typed: confirm)
      let doomed = deleting.show(found)
      guard !doomed.isEmpty else {
        console.say(found.isEmpty ? "There are no disks of this plan." : "No disk can be deleted.")
        return
      }
      guard deleteDisks else {
        console.say("Nothing was changed; --delete-disks deletes \(counted(doomed.count, "disk")).")
        return
      }
      try deleting.askForName(doomed.count)
      try await deleting.delete(doomed)
    }
  }
}
