/// What the command line of `cmcagent` asks for. Pure; the program acts on it.
package enum AgentCommand: Sendable, Equatable {
  /// Runs the agent of `root`; detached from the terminal, and answering once it is ready, unless `foreground`.
  case run(root: String, foreground: Bool)
  /// Joins standard input and output with the agent's control socket.
  case rpc(root: String)
  case fingerprint(root: String)
  case inspect(device: String, json: Bool)
  /// `device`: hold it against the receipt's digests, those of `volume` where the receipt is about several.
  case verifyReceipt(file: String, device: String?, volume: String?)
  case compare(first: String, second: String)
  /// What a person does on a host where everything else is gone.
  case rescue(root: String, RescueStep)
  /// The process that holds a FUSE mount and its loop device; started by the agent only.
  case holder(arguments: [String])
  case version
  case help

  package static let usage = """
    cmcagent: the agent of cmcplan, one on every host

      cmcagent run --root DIR [--foreground]   run the agent whose state is below DIR
      cmcagent rpc --root DIR                  speak the control protocol on standard input and output
      cmcagent fingerprint --root DIR          print the fingerprint of the agent's key
      cmcagent inspect DEVICE [--json]         say what a device is used for and whose label it carries
      cmcagent verify-receipt FILE [--device DEVICE [--volume NAME]]
                                               check that a receipt is whole, and that a device holds what it says
      cmcagent compare DEVICE DEVICE           read two devices or files and say which extents differ; exit 1 if any does
      cmcagent rescue --root DIR               say what of cmcplan is on this host, and the way out of it; and, with the
                                               agent stopped and the other copy known to be lost:
         --take-out DEVICE                     let this host use a source without its tap; gives its migration up
         --unfence DEVICE                      let this host use a source again that moved away
         --write-ends DEVICE [--from COPY]     make a destination usable: write its withheld first and last MiB, from
                                               the agent's files or a copy of the source; --incomplete: even if unfinished
      cmcagent version
      cmcagent help

    """

  /// Throws the sentence to print (usage follows it); the exit code is then 64 (EX_USAGE of sysexits.h).
  package static func parse(_ arguments: [String]) throws(UsageError) -> AgentCommand {
    guard let verb = arguments.first else { throw UsageError("a command is missing") }
    let rest = Array(arguments.dropFirst())
    switch verb {
    case "holder": return .holder(arguments: rest)
    case "help", "--help", "-h": return .help
    case "version", "--version":
      _ = try Options(rest, of: verb, values: [], flags: [], operands: 0)
      return .version
    case "run":
      let options = try Options(rest, of: verb, values: ["--root"], flags: ["--foreground"], operands: 0)
      return .run(root: try options.required("--root"), foreground: options.has("--foreground"))
    case "rpc":
      return .rpc(root: try Options(rest, of: verb, values: ["--root"], flags: [], operands: 0).required("--root"))
    case "fingerprint":
      let options = try Options(rest, of: verb, values: ["--root"], flags: [], operands: 0)
      return .fingerprint(root: try options.required("--root"))
    case "inspect":
      let options = try Options(rest, of: verb, values: [], flags: ["--json"], operands: 1)
      return .inspect(device: options.operands[0], json: options.has("--json"))
    case "verify-receipt":
      let options = try Options(rest, of: verb, values: ["--device", "--volume"], flags: [], operands: 1)
      if options.value("--volume") != nil, options.value("--device") == nil {
        throw UsageError("--volume of \(verb) needs --device")
      }
      return .verifyReceipt(
        file: options.operands[0], device: options.value("--device"), volume: options.value("--volume"))
    case "compare":
      let options = try Options(rest, of: verb, values: [], flags: [], operands: 2)
      return .compare(first: options.operands[0], second: options.operands[1])
    case "rescue": return try parseRescue(rest)
    default: throw UsageError("there is no command \"\(verb)\"")
    }
  }
}

/// One step of `cmcagent rescue`.
package enum RescueStep: Sendable, Equatable {
  case overview
  case takeOut(device: String)
  case unfence(device: String)
  case writeEnds(device: String, from: String?, evenIncomplete: Bool)
}

extension AgentCommand {
  private static func parseRescue(_ arguments: [String]) throws(UsageError) -> AgentCommand {
    let options = try Options(
      arguments, of: "rescue", values: ["--root", "--take-out", "--unfence", "--write-ends", "--from"],
      flags: ["--incomplete"],
      operands: 0)
    let root = try options.required("--root")
    let steps = ["--take-out", "--unfence", "--write-ends"].filter { options.value($0) != nil }
    guard steps.count <= 1 else {
      throw UsageError("rescue does one thing at a time: \(steps.joined(separator: " or "))")
    }
    if let device = options.value("--write-ends") {
      return .rescue(
        root: root,
        .writeEnds(device: device, from: options.value("--from"), evenIncomplete: options.has("--incomplete")))
    }
    guard options.value("--from") == nil, !options.has("--incomplete") else {
      throw UsageError("--from and --incomplete go with --write-ends")
    }
    if let device = options.value("--take-out") { return .rescue(root: root, .takeOut(device: device)) }
    if let device = options.value("--unfence") { return .rescue(root: root, .unfence(device: device)) }
    return .rescue(root: root, .overview)
  }
}

package struct UsageError: Error, Sendable, Equatable {
  package let message: String
  package init(_ message: String) { self.message = message }
}

private struct Options {
  private var values: [String: String] = [:]
  private var flags: Set<String> = []
  private let verb: String
  private(set) var operands: [String] = []

  init(
    _ arguments: [String], of verb: String, values known: Set<String>, flags knownFlags: Set<String>,
    operands count: Int
  ) throws(UsageError) {
    self.verb = verb
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      if knownFlags.contains(argument) {
        flags.insert(argument)
      } else if known.contains(argument) {
        guard let value = rest.popFirst() else { throw UsageError("\(argument) of \(verb) needs a value") }
        values[argument] = value
      } else if let equals = argument.firstIndex(of: "="), known.contains(String(argument[..<equals])) {
        values[String(argument[..<equals])] = String(argument[argument.index(after: equals)...])
      } else if argument.hasPrefix("--") {
        throw UsageError("\(verb) has no option \(argument)")
      } else {
        operands.append(argument)
      }
    }
    guard operands.count == count else {
      throw UsageError(
        count == 0
          ? "\(verb) takes no \"\(operands.first ?? "")\""
          : "\(verb) takes \(count == 1 ? "one path" : "\(count) paths"), not \(operands.count)")
    }
  }

  func value(_ name: String) -> String? { values[name] }

  func required(_ name: String) throws(UsageError) -> String {
    guard let value = values[name], !value.isEmpty else { throw UsageError("\(verb) needs \(name)") }
    return value
  }
  func has(_ flag: String) -> Bool { flags.contains(flag) }
}
