import ArgumentParser
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import PlanReading
import Planning
import Reconciling
import Rendering

/// Options that say which plan, and what it is allowed.
struct PlanFileOptions: ParsableArguments {
  static let defaultNames = ["plan.yaml", "cmcplan.yaml"]

  @Option(
    name: [.short, .long],
    help: ArgumentHelp(
      "The migration plan: a file, or a directory of .yaml files. May be given many times: files are merged by name. By default plan.yaml or cmcplan.yaml here.",
      valueName: "plan"))
  var file: [String] = []

  @Option(
    help: ArgumentHelp(
      "What this plan may do beyond the ordinary: clouds and secrets of its own. Default: $CMCPLAN_GUARDRAILS.",
      valueName: "file"))
  var guardrails: String?

  @Option(help: ArgumentHelp("Set a variable of the plan. May be given many times.", valueName: "name=value"))
  var set: [String] = []

  @Option(
    help: ArgumentHelp(
      "Values for variables of the plan, as 'name: value' lines. --set wins over them, they over CMCPLAN_VAR_name.",
      valueName: "file"))
  var variables: [String] = []

  /// The same options for a command line that a person copies: each after a space, or nothing.
  var repeated: String {
    let named = [("--file", file), ("--guardrails", guardrails.map { [$0] } ?? []), ("--set", set)]
    return (named + [("--variables", variables)]).flatMap { option, values in
      values.map { " \(option) \(shellQuoted($0))" }
    }.joined()
  }
}

/// A plan that was read with no fault, its paths made absolute.
struct PlanDocument {
  /// The first file of the plan.
  let path: String
  /// The directory that it is in: runs keep their journals there.
  let directory: String
  let plan: MigrationPlan
  /// The same with its paths as they were written.
  let written: MigrationPlan
  let guardrails: Guardrails?

  /// Digests of what a change set's migrations rest on beside themselves.
  func surroundings(of changes: ChangeSet) -> [String: String] {
    Planning.surroundings(
      of: changes.migrations.map(\.migration), in: written, guardrails: guardrails, digest: sha256)
  }

  /// Reads the plan; prints what is wrong with it to standard error and ends with exit 1 where there are errors.
  /// `isEmergency`: guardrails aren't looked at, for what only gives authority back, or holds, contacts no cloud.
  static func load(_ options: PlanFileOptions, console: Console, isEmergency: Bool = false) throws -> PlanDocument {
    let read = try PlanDocumentReading(options, isEmergency: isEmergency)
    if !read.diagnostics.isEmpty { console.complain(read.text) }
    guard let document = read.document else {
      console.complain("\(read.summary); nothing was contacted\n")
      throw ExitCode(1)
    }
    return document
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

/// A plan's files as they were read, with all that is to be said of them.
struct PlanDocumentReading {
  /// Sorted by position.
  let diagnostics: [Diagnostic]
  /// Nil where there are errors.
  let document: PlanDocument?
  /// The plan's files, as they were named.
  let files: [String]
  private let sources: [String: [UInt8]]

  /// Everything that was read, in the order and with the option by which it is given.
  var inputs: [(option: String, file: String, bytes: [UInt8])] {
    let others = sources.filter { !files.contains($0.key) }.sorted { $0.key < $1.key }
    return files.map { ("file", $0, sources[$0] ?? []) }
      + others.map { (PlanReader.isGuardrails($0.value) ? "guardrails" : "variables", $0.key, $0.value) }
  }

  init(_ options: PlanFileOptions, isEmergency: Bool = false) throws {
    let found = try PlanFiles.find(options.file)
    var sources: [String: [UInt8]] = [:]
    var parts: [PlanSource] = []
    for (file, isOfDirectory) in found {
      let bytes = try PlanFiles.contents(of: file, what: "the migration plan")
      if isOfDirectory, PlanReader.isGuardrails(bytes) { continue }
      parts.append(PlanSource(bytes: bytes, file: file))
      sources[file] = bytes
    }
    guard let first = parts.first else {
      throw CommandFailure(
        "there is no migration plan in \(options.file.joined(separator: ", ")): guardrails are none",
        advice: "name a file or directory that holds one with --file PLAN")
    }
    let (variables, faults) = try Self.variables(options, sources: &sources)
    let (plan, problems) = PlanReader.read(parts, variables: variables)
    let (guardrails, complaints) = isEmergency ? (nil, []) : try Self.guardrails(options, sources: &sources)
    var all = faults + problems + complaints
    if let plan, !isEmergency, !complaints.hasErrors { all += GuardrailCheck.diagnostics(plan, guardrails: guardrails) }
    diagnostics = all.sortedByPosition()
    files = parts.map(\.file)
    self.sources = sources
    guard let plan, !all.hasErrors else {
      document = nil
      return
    }
    let path = Self.absolute(first.file)
    document = PlanDocument(
      path: path, directory: (path as NSString).deletingLastPathComponent,
      plan: plan.resolvingPaths(against: { ($0.map { Self.absolute($0.file) } ?? path) as NSString }),
      written: plan, guardrails: guardrails)
  }

  private static func absolute(_ path: String) -> String { URL(fileURLWithPath: path).standardizedFileURL.path }

  /// Diagnostics with the lines that they are about.
  var text: String {
    // Only files that something is said of are decoded: a plan can be large.
    let wanted = Set(diagnostics.compactMap { $0.position?.file })
    let texts = sources.filter { wanted.contains($0.key) }.mapValues { String(decoding: $0, as: UTF8.self) }
    return DiagnosticText.render(diagnostics, sources: texts)
  }

  /// "plan.yaml: 2 errors", for people.
  var summary: String {
    let count = diagnostics.count { $0.severity == .error }
    return "\(files.count == 1 ? files[0] : "\(files.count) files"): \(counted(count, "error"))"
  }

  private static func guardrails(
    _ options: PlanFileOptions, sources: inout [String: [UInt8]]
  ) throws -> (Guardrails?, [Diagnostic]) {
    let variable = ProcessInfo.processInfo.environment["CMCPLAN_GUARDRAILS"]
    guard let path = options.guardrails ?? variable, !path.isEmpty else { return (nil, []) }
    let bytes = try PlanFiles.contents(of: path, what: "the guardrails file")
    sources[path] = bytes
    return GuardrailsReader.read(text: String(decoding: bytes, as: UTF8.self), file: path)
  }

  /// In the order in which they win: the environment, files, options.
  private static func variables(
    _ options: PlanFileOptions, sources: inout [String: [UInt8]]
  ) throws -> ([GivenVariable], [Diagnostic]) {
    var result = GivenVariable.fromEnvironment(ProcessInfo.processInfo.environment)
    var diagnostics: [Diagnostic] = []
    for path in options.variables {
      let bytes = try PlanFiles.contents(of: path, what: "the file of variables")
      sources[path] = bytes
      let (variables, faults) = VariablesReader.read(bytes: bytes, file: path)
      result += variables
      diagnostics += faults
    }
    for text in options.set {
      guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
        throw CommandFailure("--set \(text) is no assignment", advice: "write --set name=value")
      }
      result.append(
        GivenVariable(
          name: String(text[..<equals]), value: String(text[text.index(after: equals)...]), origin: .option))
    }
    return (result, diagnostics)
  }
}

extension MigrationPlan {
  /// The same plan with absolute paths: roots of local hosts, secrets, certificate authorities, identity files, the
  /// archive. Each is relative to the file that says it; `file` gives its absolute path.
  func resolvingPaths(against file: (SourcePosition?) -> NSString) -> MigrationPlan {
    func absolute(_ path: String, _ position: SourcePosition?) -> String {
      let expanded = (path as NSString).expandingTildeInPath
      let directory = file(position).deletingLastPathComponent
      let url =
        expanded.hasPrefix("/")
        ? URL(fileURLWithPath: expanded) : URL(fileURLWithPath: directory).appendingPathComponent(expanded)
      return url.standardizedFileURL.path
    }
    func absolute(_ secret: SecretReference, _ position: SourcePosition?) -> SecretReference {
      if case .file(let path) = secret { .file(absolute(path, position)) } else { secret }
    }
    var plan = self
    for (name, host) in hosts {
      switch host.reach {
      case .local(let root): plan.hosts[name]?.reach = .local(root: absolute(root, host.position))
      case .ssh(var access):
        access.identityFile = access.identityFile.map { absolute($0, host.position) }
        plan.hosts[name]?.reach = .ssh(access)
      }
    }
    for (name, integration) in integrations {
      if case .custom(let authority, let resourceManager, let file?) = integration.cloud {
        plan.integrations[name]?.cloud = .custom(
          authority: authority, resourceManager: resourceManager,
          certificateAuthorityFile: absolute(file, integration.position))
      }
      switch integration.credential {
      case .ambient: continue
      case .clientSecret(let clientID, let secret):
        plan.integrations[name]?.credential = .clientSecret(
          clientID: clientID, secret: absolute(secret, integration.position))
      case .clientCertificate(let clientID, let file, let password):
        plan.integrations[name]?.credential = .clientCertificate(
          clientID: clientID, certificateFile: absolute(file, integration.position),
          password: password.map { absolute($0, integration.position) })
      }
    }
    switch archive?.place {
    case .directory(let path)?: plan.archive?.place = .directory(absolute(path, archive?.position))
    case .blob(let url, .signature(let secret))?:
      plan.archive?.place = .blob(url, access: .signature(absolute(secret, archive?.position)))
    case .blob(_, .integration)?, nil: break
    }
    for (index, target) in notifications.enumerated() {
      if case .secret(let secret) = target.webhook {
        plan.notifications[index].webhook = .secret(absolute(secret, target.position))
      }
    }
    return plan
  }
}
