internal import MigrationModel
internal import YAMLTree

struct SSHShape: Sendable {
  static let the = SSHShape()
  let user: Field<String>
  let port: Field<Int>
  let identityFile: Field<String>
  let jump: Field<String>
  let sudo: Field<Bool>
  let shape: Shape

  private init() {
    var table = FieldTable("ssh", "How OpenSSH reaches the host; your ~/.ssh/config applies too.")
    user = table.add("user", .userName, examples: ["migrate"], "User to log in as.")
    port = table.add("port", .integer(1...65_535), examples: ["22"], "Port of the SSH server.")
    identityFile = table.add("identityFile", .path, examples: ["~/.ssh/id_ed25519"], "Private key to log in with.")
    jump = table.add(
      "jump", .jump, examples: ["bastion.example.com"], "Jump hosts, as ssh -J takes them: [user@]host[:port], …")
    sudo = table.add("sudo", .boolean, examples: ["true"], "Run the agent's installation through `sudo -n`.")
    shape = Shape(table)
  }
}

struct HostShape: Sendable {
  static let the = HostShape()
  let address: Field<String>
  let ssh: Field<YAMLNode>
  let local: Field<YAMLNode>
  let localRoot: Field<String>
  let azureVirtualMachine: Field<String>
  let localShape: Shape
  let shape: Shape

  private init() {
    var inner = FieldTable("local", "An agent as a child process in a directory of its own: demos and tests.")
    localRoot = inner.add(
      "root", .path, required: true, examples: ["./lab"],
      "Directory of the agent, relative to the plan's. Relative devices are below it.")
    localShape = Shape(inner)
    var table = FieldTable("host", "A machine that takes part. Its key is a label; its identity is its agent's key.")
    address = table.add(
      "address", .address, examples: ["192.0.2.10"], "DNS name or IP address, for SSH and for the other agent.")
    ssh = table.add("ssh", .shape(SSHShape.the.shape), examples: ["{user: migrate}"], "Reached over SSH; the default.")
    local = table.add("local", .shape(localShape), examples: ["{root: ./lab}"], "On this machine, for demos and tests.")
    azureVirtualMachine = table.add(
      "azureVirtualMachine", .virtualMachine, examples: ["erp-db"],
      "The Azure VM that this host is: its name in the integration's resource group, or its resource id.")
    table.atMostOneOf = [["ssh", "local"]]
    shape = Shape(table)
  }
}

extension ValueType where Value == String {
  /// Given to `ssh` as an argument of its own; a leading '-' would make an option of it.
  static let userName = formed(
    "a user name", pattern: "^[A-Za-z0-9_][A-Za-z0-9_.@\\\\-]*\\$?$", advice: "write the login name only"
  ) { text in
    guard let first = text.first, first != "-", text.utf8.count <= 256 else { return false }
    return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_.@\\-$".contains($0)) }
  }

  static let jump = formed(
    "a jump host", pattern: "^[A-Za-z0-9_\\[][A-Za-z0-9_.@:,\\[\\]-]*$",
    advice: "write it as in bastion.example.com or user@bastion:2222"
  ) { text in
    guard let first = text.first, first != "-", text.utf8.count <= 1_024 else { return false }
    return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_.@:,[]-".contains($0)) }
  }
}
