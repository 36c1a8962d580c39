import LinuxPlatform
import Seams

/// The holder's ear: one command a connection, one answer, on a Unix socket that only its own user and root may use.
struct HolderControlSocket: Sendable {
  static let maxCommandBytes = 64
  static let idleTimeoutSeconds = 5.0

  let listener: SocketListener
  let directory: HolderDirectory
  let record: HolderRecord
  let link: HolderLink
  let log: HolderLog

  /// Until a detach worked. Throws where the file system was unmounted by somebody else.
  func serve() throws(TapError) {
    while true {
      let channel: SocketChannel?
      do throws(SystemError) {
        channel = try listener.accept(idleTimeoutSeconds: Self.idleTimeoutSeconds)
      } catch {
        if !listener.isCancelled {
          pauseThread(milliseconds: 10)
          continue
        }
        channel = nil
      }
      guard let channel else {
        throw TapError(.holderFailed, "the file system at \(directory.mountPoint) was unmounted by somebody else")
      }
      if answer(channel) {
        listener.cancel()
        return
      }
    }
  }

  /// True where it is time to end.
  private func answer(_ channel: SocketChannel) -> Bool {
    defer { channel.shutDown() }
    guard let peer = try? channel.peerCredentials(),
      peer.userID == 0 || peer.userID == ProcessSetup.effectiveUserID
    else { return false }
    var command = [UInt8](repeating: 0, count: Self.maxCommandBytes)
    let count = command.withUnsafeMutableBytes { (try? channel.read(into: $0)) ?? 0 }
    switch String(decoding: command[..<count], as: UTF8.self) {
    case "status\n":
      send(status.text, channel)
      return false
    case "grow\n":
      send(grow().text, channel)
      return false
    case "detach\n":
      let outcome = detach()
      send(outcome.text, channel)
      return outcome["result"] == "detached"
    default:
      send("result=unknown command\n", channel)
      return false
    }
  }

  private var status: HolderRecord {
    var record = record
    let facts = link.facts
    record["connected"] = "\(facts.isConnected)"
    record["unanswered"] = "\(facts.unanswered)"
    record["reconnections"] = "\(facts.reconnections)"
    record["problem"] = facts.problem
    record["size"] = "\(link.sizeBytes)"
    record["grows"] = "true"
    return record
  }

  private func grow() -> HolderRecord {
    var outcome = HolderRecord()
    do throws(TapError) {
      try link.lookAgain()
      _ = try HolderHelper.run(["--grow", directory.filePath, record["device"] ?? ""])
      outcome["size"] = "\(link.sizeBytes)"
    } catch {
      log.say("not grown: \(error.message)")
      outcome["result"] = error.code.rawValue
      outcome["message"] = error.message
    }
    return outcome
  }

  private func detach() -> HolderRecord {
    var outcome = HolderRecord()
    do throws(TapError) {
      _ = try HolderHelper.run(["--release", directory.path, record["device"] ?? ""])
      link.stop()
      directory.removeFiles()
      outcome["result"] = "detached"
    } catch {
      log.say("not detached: \(error.message)")
      outcome["result"] = error.code.rawValue
      outcome["message"] = error.message
    }
    return outcome
  }

  private func send(_ text: String, _ channel: SocketChannel) {
    var text = text
    // Whoever asked may have gone; the next one asks again.
    text.withUTF8 { try? channel.write(UnsafeRawBufferPointer($0)) }
  }
}
