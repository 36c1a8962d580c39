import BlockModel
import MigrationModel
import SSHDeploy

/// A plan made of what hosts have: text for a person to go on with. Pure.
enum DiscoveredPlan {
  /// "[USER@]ADDRESS[:PORT]", an IPv6 address in brackets where a port follows; nil for anything else.
  static func host(_ text: String, sudo: Bool, jump: String?, identityFile: String?) -> Host? {
    var rest = text[...]
    var user: String?
    if let at = rest.lastIndex(of: "@") {
      user = String(rest[..<at])
      rest = rest[rest.index(after: at)...]
    }
    var port: Int?
    var address = String(rest)
    if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
      address = String(rest[rest.index(after: rest.startIndex)..<end])
      let after = rest[rest.index(after: end)...]
      guard after.isEmpty || after.hasPrefix(":") else { return nil }
      if !after.isEmpty { port = Int(after.dropFirst()) ?? -1 }
    } else if let colon = rest.firstIndex(of: ":"), rest.lastIndex(of: ":") == colon {
      address = String(rest[..<colon])
      port = Int(rest[rest.index(after: colon)...]) ?? -1
    }
    func isPlain(_ text: String) -> Bool {
      !text.isEmpty && !text.hasPrefix("-")
        && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._:%-$\\".contains($0)) }
    }
    guard isPlain(address), user.map(isPlain) ?? true, port.map((1...65_535).contains) ?? true else { return nil }
    return Host(
      name: HostName(address), address: address,
      reach: .ssh(SSHAccess(user: user, port: port, identityFile: identityFile, jump: jump, sudo: sudo)),
      azureVirtualMachine: nil, position: nil)
  }

  static func text(_ found: [(Host, BlockSurvey)], planID: String) -> String {
    var text = """
      # Made by cmcplan discover. What is in <angle brackets> is for you to fill in; devices that can't or shouldn't move
      # are listed with the reason. Nothing happens before `cmcplan apply`; `cmcplan plan` shows what would.
      apiVersion: cmcplan/v1
      kind: MigrationPlan
      metadata:
        id: \(planID)
        name: discovered
      integrations:
        azure:
          azure:
            cloud: public
            tenantId: <tenant id>
            subscriptionId: <subscription id>
            resourceGroup: <resource group>
            location: <region, as in westeurope>
      attestations:                  # what no API can tell
        operatingSystemLicensed: false
        applicationLicensed: false
      hosts:

      """
    for (index, (host, _)) in found.enumerated() { text += hostText(host, index) }
    text += "migrations:\n"
    for (index, (_, survey)) in found.enumerated() { text += migrationText(survey, index) }
    return text
  }

  private static func hostText(_ host: Host, _ index: Int) -> String {
    let name = "host-\(index + 1)"
    var text = "  \(name):\n"
    switch host.reach {
    case .local(let root): text += "    local: {root: \(quoted(root))}\n"
    case .ssh(let access):
      text += "    address: \(quoted(host.address ?? host.name.text))\n"
      var fields: [String] = []
      if let user = access.user { fields.append("user: \(quoted(user))") }
      if let port = access.port { fields.append("port: \(port)") }
      if let file = access.identityFile { fields.append("identityFile: \(quoted(file))") }
      if let jump = access.jump { fields.append("jump: \(quoted(jump))") }
      if access.sudo { fields.append("sudo: true") }
      if !fields.isEmpty { text += "    ssh: {\(fields.joined(separator: ", "))}\n" }
    }
    return text + """
        \(name)-azure:
          address: <address of the Azure VM>
          azureVirtualMachine: <name of the Azure VM>

      """
  }

  private static func migrationText(_ survey: BlockSurvey, _ index: Int) -> String {
    let movable = survey.devices.filter { $0.obstacle == nil }
    var text = "  host-\(index + 1):\n"
    for device in survey.devices {
      guard let obstacle = device.obstacle else { continue }
      text += "    # not \(comment(device.path)): \(comment(obstacle))\n"
    }
    text += "    source: host-\(index + 1)\n    destination: host-\(index + 1)-azure\n"
    text += movable.isEmpty ? "    volumes: {}    # nothing here can be moved\n" : "    volumes:\n"
    for (number, device) in movable.enumerated() {
      var facts = ["\(device.sizeBytes >> 20) MiB", device.type, device.fileSystem]
      if !device.mountedAt.isEmpty { facts.append("mounted at \(device.mountedAt.joined(separator: ", "))") }
      facts.append("about \(Int(saturating: device.writtenBytesPerDay) >> 20) MiB written a day")
      text += "      volume-\(number + 1):    # \(comment(facts.filter { !$0.isEmpty }.joined(separator: ", ")))\n"
      if !device.isStable { text += "        # this name may mean another device after a reboot\n" }
      text += "        device: \(quoted(device.path))    # \(comment(device.tracking))\n"
      text += "        disk: {sku: Premium_LRS, size: auto}\n"
    }
    return text + "    cutover: {phase: prepared}\n"
  }

  /// A YAML double-quoted scalar.
  static func quoted(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": quoted += "\\\(scalar)"
      case _ where scalar.value < 0x20 || scalar.value == 0x7f:
        let digits = String(scalar.value, radix: 16)
        quoted += "\\x" + (digits.count == 1 ? "0" : "") + digits
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }

  /// What a host says of itself must not end the comment that it is in.
  private static func comment(_ text: String) -> String {
    String(text.map { $0.isNewline || $0.unicodeScalars.contains { $0.value < 0x20 } ? "?" : $0 })
  }
}
