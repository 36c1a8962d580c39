import ARMClient
import ArgumentParser
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling

/// Deletes disks, one way for `destroy` and `prune`: shown first, and after the plan's name was typed.
struct DiskDeleting {
  let opened: OpenedPlan
  let console: Console
  /// The plan's name, where somebody typed it already.
  let typed: String?

  /// Disks that are deleted at once.
  private static let parallelism = 16

  /// Nothing is deleted of a world that could not be seen.
  static func observe(_ opened: OpenedPlan, _ console: Console) async throws -> Observation {
    let run = ObserveRun(plan: opened.plan, gateways: opened.world.gateways, services: opened.world.services)
    let observation = await run.observe(includingFinished: true)
    let unseen = observation.clouds.values.flatMap(\.faults)
    for fault in unseen {
      console.complain("error \(fault.code): \(fault.part): \(fault.message)\n  next: \(fault.advice)\n")
    }
    guard unseen.isEmpty else { throw ExitCode(1) }
    return observation
  }

  /// Answers those that may be deleted.
  func show(_ found: [DiskDeletion]) -> [DiskDeletion] {
    for deletion in found { console.say(Self.line(deletion)) }
    return found.filter { if case .keep = $0.verdict { false } else { true } }
  }

  private static func line(_ deletion: DiskDeletion) -> String {
    let disk = "\(deletion.disk.name) (\(deletion.disk.sku), \(deletion.disk.sizeBytes >> 30) GiB)"
    return switch deletion.verdict {
    case .delete: "delete  \(disk)"
    case .detachFirst(let machine): "delete  \(disk), detached from \(machine) first"
    case .keep(let why): "keep    \(disk): \(why)"
    }
  }

  func askForName(_ count: Int) throws {
    let name = opened.plan.metadata.name
    var typed = typed
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

  func delete(_ doomed: [DiskDeletion]) async throws {
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
