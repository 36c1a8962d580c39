internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

extension PlanBuilder {
  func readHosts(_ node: YAMLNode) {
    let entries = reading.namedEntries(of: node, what: "hosts", maximum: Self.maximumEntries)
    hostNames.reserveCapacity(entries.count)
    var roots: [String: String] = [:]
    for (name, key, value) in entries {
      hostNames.append(name)
      let draft = readHost(value, name: name, position: key.position)
      hosts[name] = draft
      guard case .local(let root)? = draft.host?.reach else { continue }
      let path = DevicePath(root).normalized
      if let other = roots[path] {
        reading.report(
          "CMC1221", at: value.position, "host '\(name)' has the same root as host '\(other)'",
          "give each local host a directory of its own")
      }
      roots[path] = name
    }
  }

  private func readHost(_ node: YAMLNode, name: String, position: SourcePosition) -> HostDraft {
    let shape = HostShape.the
    guard let object = ObjectReading(node, shape.shape, reading, label: name) else {
      return HostDraft(host: nil, isLocal: false, hasVirtualMachine: true, hasAddress: true, position: position)
    }
    let address = object.value(shape.address)
    let machine = object.value(shape.azureVirtualMachine)
    let isLocal = object.has(shape.local)
    var reach: Host.Reach?
    let ssh = object.node(shape.ssh).map { readSSH($0) }
    if let local = object.node(shape.local) {
      reach = readLocal(local)
    } else {
      reach = (ssh ?? SSHAccess(user: nil, port: nil, identityFile: nil, jump: nil, sudo: false))
        .map { .ssh($0) }
      if !object.has(shape.address) {
        reading.report(
          "CMC1220", at: position, "host '\(name)' has no address", "add 'address:' with its DNS name or IP address")
      }
    }
    var host = reach.map {
      Host(name: HostName(name), address: address, reach: $0, azureVirtualMachine: machine, position: position)
    }
    if object.has(shape.azureVirtualMachine) { host?.machinePosition = object.position(shape.azureVirtualMachine) }
    return HostDraft(
      host: host, isLocal: isLocal, hasVirtualMachine: object.has(shape.azureVirtualMachine),
      hasAddress: object.has(shape.address), position: position)
  }

  private func readLocal(_ node: YAMLNode) -> Host.Reach? {
    let shape = HostShape.the
    guard let object = ObjectReading(node, shape.localShape, reading) else { return nil }
    return object.value(shape.localRoot).map { .local(root: $0) }
  }

  private func readSSH(_ node: YAMLNode) -> SSHAccess? {
    let shape = SSHShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    return SSHAccess(
      user: object.value(shape.user), port: object.value(shape.port), identityFile: object.value(shape.identityFile),
      jump: object.value(shape.jump), sudo: object.value(shape.sudo) ?? false)
  }

  /// The host that a migration names, reported where there is none.
  func resolveHost(_ object: ObjectReading, _ field: Field<String>) -> String? {
    guard let node = object.node(field), let name = reading.text(node, expected: "the name of a host") else {
      hasUnresolvedHost = true
      return nil
    }
    guard hosts[name] != nil else {
      hasUnresolvedHost = true
      if isHostsUnreadable { return nil }
      let near = Suggestion.phrase(for: name, among: hostNames)
      let known = hostNames.count <= 8 ? alternatives(hostNames) : "one of the names under 'hosts:'"
      reading.report(
        "CMC1210", at: node.position, "there is no host '\(name.shortened())'",
        orDefault(
          near, hostNames.isEmpty ? "describe it under 'hosts:'" : "write \(known), or describe it under 'hosts:'"))
      return nil
    }
    usedHosts.insert(name)
    return name
  }
}

/// A path as text, comparable whatever its spelling. Symbolic links are not followed: only the host knows them.
struct DevicePath {
  let normalized: String
  /// Whether it leaves the directory that it starts in.
  let escapes: Bool

  init(_ text: String) {
    if Self.isNormal(text) {
      (normalized, escapes) = (text, false)
      return
    }
    let isAbsolute = text.hasPrefix("/")
    var parts: [Substring] = []
    var escapes = false
    for part in text.split(separator: "/") where part != "." {
      if part != ".." {
        parts.append(part)
      } else if parts.popLast() == nil, !isAbsolute {
        escapes = true
      }
    }
    normalized = (isAbsolute ? "/" : "") + parts.joined(separator: "/")
    self.escapes = escapes
  }

  /// Whether no part is empty, "." or "..", as almost always.
  private static func isNormal(_ text: String) -> Bool {
    var (length, dots) = (0, 0)
    func isPlainPart() -> Bool { length > 2 || length > dots }
    for (index, byte) in text.utf8.enumerated() {
      if byte != UInt8(ascii: "/") {
        length += 1
        if byte == UInt8(ascii: ".") { dots += 1 }
        continue
      }
      if index > 0, !isPlainPart() { return false }
      (length, dots) = (0, 0)
    }
    return isPlainPart()
  }
}
