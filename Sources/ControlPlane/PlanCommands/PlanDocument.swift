import ArgumentParser
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import PlanReading
import Rendering

/// Options that say which plan, and what it is allowed.
struct PlanFileOptions: ParsableArguments {
  static let defaultNames = ["plan.yaml", "cmcplan.yaml"]

  @Option(
    name: [.short, .long],
    help: ArgumentHelp("The migration plan; by default plan.yaml or cmcplan.yaml here.", valueName: "plan"))
  var file: String?

  @Option(
    help: ArgumentHelp(
      "What this plan may do beyond the ordinary: clouds and secrets of its own. Default: $CMCPLAN_GUARDRAILS.",
      valueName: "file"))
  var guardrails: String?

  @Option(help: ArgumentHelp("Set a variable of the plan. May be given many times.", valueName: "name=value"))
  var set: [String] = []
}

/// A plan that was read with no fault, its paths made absolute.
struct PlanDocument {
  /// The largest document that is read, in bytes.
  static let sizeLimitBytes = 256 << 20

  let path: String
  /// The directory that the plan is in: relative paths are relative to it.
  let directory: String
  let text: String
  let plan: MigrationPlan
  let guardrails: Guardrails?

  /// Reads the plan; prints what is wrong with it to standard error and ends with exit 1 where there are errors.
  /// `isEmergency`: guardrails aren't looked at, for what only gives authority back, or holds, contacts no cloud.
  static func load(_ options: PlanFileOptions, console: Console, isEmergency: Bool = false) throws -> PlanDocument {
    let path = try find(options.file)
    let bytes = try contents(of: path, what: "the migration plan")
    let variables = try assignments(options.set)
    let (read, diagnostics) = PlanReader.read(bytes: bytes, file: path, variables: variables)
    let text = String(decoding: bytes, as: UTF8.self)
    let guardrails = isEmergency ? nil : try loadGuardrails(options, console: console)
    var all = diagnostics
    if let read, !isEmergency { all += GuardrailCheck.diagnostics(read, guardrails: guardrails) }
    if !all.isEmpty { console.complain(DiagnosticText.render(all.sortedByPosition(), sourceText: text)) }
    guard let read, !all.hasErrors else {
      let count = all.count { $0.severity == .error }
      console.complain("\(path): \(count == 1 ? "1 error" : "\(count) errors"); nothing was contacted\n")
      throw ExitCode(1)
    }
    let absolute = URL(fileURLWithPath: path).standardizedFileURL
    let directory = absolute.deletingLastPathComponent().path
    return PlanDocument(
      path: absolute.path, directory: directory, text: text, plan: read.resolvingPaths(against: directory),
      guardrails: guardrails)
  }

  private static func find(_ named: String?) throws -> String {
    if let named { return named }
    if let found = PlanFileOptions.defaultNames.first(where: { FileManager.default.fileExists(atPath: $0) }) {
      return found
    }
    throw CommandFailure(
      "there is no \(PlanFileOptions.defaultNames.joined(separator: " or ")) in this directory",
      advice: "name the migration plan with --file PLAN")
  }

  private static func contents(of path: String, what: String) throws -> [UInt8] {
    let size: Int
    do {
      let facts = try FileManager.default.attributesOfItem(atPath: path)
      size = (facts[.size] as? NSNumber)?.intValue ?? 0
    } catch {
      throw CommandFailure(
        "\(what) can't be read: there is no \(path), or it may not be looked at", advice: "check the path")
    }
    guard size <= sizeLimitBytes else {
      throw CommandFailure(
        "\(what) \(path) has \(size) bytes; at most \(sizeLimitBytes) are read", advice: "split it into several plans")
    }
    do {
      return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw CommandFailure("\(what) \(path) can't be read", advice: "check that it is a file that this user may read")
    }
  }

  private static func loadGuardrails(_ options: PlanFileOptions, console: Console) throws -> Guardrails? {
    let variable = ProcessInfo.processInfo.environment["CMCPLAN_GUARDRAILS"]
    guard let path = options.guardrails ?? variable, !path.isEmpty else { return nil }
    let text = String(decoding: try contents(of: path, what: "the guardrails file"), as: UTF8.self)
    let (guardrails, diagnostics) = GuardrailsReader.read(text: text, file: path)
    if !diagnostics.isEmpty { console.complain(DiagnosticText.render(diagnostics, sourceText: text)) }
    guard let guardrails, !diagnostics.hasErrors else { throw ExitCode(1) }
    return guardrails
  }

  private static func assignments(_ texts: [String]) throws -> [String: String] {
    var variables: [String: String] = [:]
    for text in texts {
      guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
        throw CommandFailure("--set \(text) is no assignment", advice: "write --set name=value")
      }
      variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
    }
    return variables
  }

  /// The migration of this name; the names there are, where there is none.
  func migration(_ name: String) throws -> MigrationName {
    let wanted = MigrationName(name)
    guard plan.migrations[wanted] == nil else { return wanted }
    let names = plan.sortedMigrations.map(\.name.text)
    throw CommandFailure(
      "the plan has no migration \(name)", advice: "it has: \(names.prefix(20).joined(separator: ", "))")
  }
}

extension MigrationPlan {
  /// The same plan with absolute paths: roots of local hosts, secrets, certificate authorities and identity files.
  func resolvingPaths(against directory: String) -> MigrationPlan {
    func absolute(_ path: String) -> String {
      let expanded = (path as NSString).expandingTildeInPath
      let url =
        expanded.hasPrefix("/")
        ? URL(fileURLWithPath: expanded) : URL(fileURLWithPath: directory).appendingPathComponent(expanded)
      return url.standardizedFileURL.path
    }
    func absolute(_ secret: SecretReference) -> SecretReference {
      if case .file(let path) = secret { .file(absolute(path)) } else { secret }
    }
    var plan = self
    for (name, host) in hosts {
      switch host.reach {
      case .local(let root): plan.hosts[name]?.reach = .local(root: absolute(root))
      case .ssh(var access):
        access.identityFile = access.identityFile.map(absolute)
        plan.hosts[name]?.reach = .ssh(access)
      }
    }
    for (name, integration) in integrations {
      if case .custom(let authority, let resourceManager, let file?) = integration.cloud {
        plan.integrations[name]?.cloud = .custom(
          authority: authority, resourceManager: resourceManager, certificateAuthorityFile: absolute(file))
      }
      switch integration.credential {
      case .ambient: continue
      case .clientSecret(let clientID, let secret):
        plan.integrations[name]?.credential = .clientSecret(clientID: clientID, secret: absolute(secret))
      case .clientCertificate(let clientID, let file, let password):
        plan.integrations[name]?.credential = .clientCertificate(
          clientID: clientID, certificateFile: absolute(file), password: password.map(absolute))
      }
    }
    return plan
  }
}
