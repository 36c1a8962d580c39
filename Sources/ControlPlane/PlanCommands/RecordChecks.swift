import ARMClient
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Rendering

/// What of the plan's archive and notifications would be found out late: an archive is first needed when sessions are to
/// be deleted, a webhook when something is wrong. Nothing is written or sent.
enum RecordChecks {
  static func checks(_ plan: MigrationPlan, environment: [String: String]) async -> [Check] {
    // Both look at files, and a share may hang.
    let found = try? await onBlockingThread {
      (plan.archive.map { [archive($0, environment)] } ?? []) + plan.notifications.map { address(of: $0, environment) }
    }
    return found ?? [Check("cmcplan", "records", .unknown, "too much is under way on this machine to look at them")]
  }

  private static func archive(_ archive: Archive, _ environment: [String: String]) -> Check {
    switch archive.place {
    case .directory(let path): return directory(path)
    case .blob(let url, .integration(let name)):
      return Check("archive", "container", .ok, "\(url), as integration \(name); nothing was sent")
    case .blob(let url, .signature(let reference)):
      do throws(GatewayError) {
        _ = try BlobStore.signature(SecretReader(environment: environment).read(reference))
        return Check("archive", "container", .ok, "\(url), by a signature; nothing was sent")
      } catch {
        return Check("archive", "container", .failed, "\(error.code): \(error.message)", advice: error.advice)
      }
    }
  }

  private static func directory(_ path: String) -> Check {
    let files = FileManager.default
    var isDirectory: ObjCBool = false
    var place = path
    while !files.fileExists(atPath: place, isDirectory: &isDirectory), place != "/" {
      place = (place as NSString).deletingLastPathComponent
    }
    func failed(_ why: String) -> Check {
      Check(
        "archive", "directory", .failed, "\(ApplyCode.archiveDenied): \(why)",
        advice: "mend it, or name another directory under archive:; until then no session is deleted")
    }
    guard isDirectory.boolValue else { return failed("\(place) is no directory") }
    guard files.isWritableFile(atPath: place) else { return failed("\(place) may not be written") }
    return Check("archive", "directory", .ok, place == path ? "\(path) can be written" : "\(path) can be made")
  }

  private static func address(of target: NotificationTarget, _ environment: [String: String]) -> Check {
    let subject = "notification \(target.name)"
    do throws(GatewayError) {
      let url: String
      switch target.webhook {
      case .url(let text): url = text
      case .secret(let reference): url = try SecretReader(environment: environment).read(reference).reveal()
      }
      guard let address = WebhookAddress(url) else {
        return Check(
          subject, "address", .failed, "what is found there is no https URL",
          advice: "put the webhook's URL there, and nothing else")
      }
      return Check(subject, "address", .ok, "\(address.origin); nothing was sent")
    } catch {
      return Check(subject, "address", .failed, "\(error.code): \(error.message)", advice: error.advice)
    }
  }
}
