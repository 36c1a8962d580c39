import BlockModel

/// Feeds everything that decodes a client's bytes: handshake, request headers, rules. Returns normally whatever the
/// bytes are, and stops the process where a rule is broken. The entry point of fuzzers.
package func fuzzNBDDecoder(_ bytes: [UInt8]) {
  let exports = [
    NBDExportDescription(name: "disk", sizeBytes: 1 << 30, hasDirtyMap: true),
    NBDExportDescription(
      name: "small", sizeBytes: 4096 * 3, isReadOnly: true, blockSizes: NBDBlockSizes(minimum: 512)),
  ]
  fuzzHandshake(bytes, exports)
  fuzzRequests(bytes, exports)
}

private func fuzzHandshake(_ bytes: [UInt8], _ exports: [NBDExportDescription]) {
  var handshake = NBDHandshake()
  // The first byte says how the stream is cut into pieces.
  let piece = max(1, Int(bytes.first ?? 1))
  var position = 0
  while position < bytes.count {
    let end = min(bytes.count, position + piece)
    var effects = handshake.receive(bytes[position..<end], exports: exports)
    position = end
    while !effects.isEmpty {
      switch effects.removeFirst() {
      case .send(let reply): precondition(!reply.isEmpty)
      case .open(let name):
        precondition(exports.contains { $0.name == name })
        effects += handshake.opened(bytes.count % 3 != 0, exports: exports)
      case .enterTransmission(let session):
        precondition(session.contexts.isEmpty || session.structuredReplies)
        return
      case .disconnect: return
      }
    }
  }
}

private func fuzzRequests(_ bytes: [UInt8], _ exports: [NBDExportDescription]) {
  for (index, export) in exports.enumerated() {
    let rules = NBDRules(
      sizeBytes: export.sizeBytes, blockSizes: export.blockSizes, isReadOnly: export.isReadOnly,
      structuredReplies: index == 0, hasContexts: index == 0)
    var position = 0
    while bytes.count - position >= NBDWire.requestBytes {
      let header = bytes[position..<position + NBDWire.requestBytes].withUnsafeBytes { NBDRequestHeader($0) }
      position += 1
      guard let header else { continue }
      switch rules.judge(header) {
      case .submit(let request, let payloadBytes):
        precondition(request.range.fits(in: export.sizeBytes))
        precondition(payloadBytes <= Int(export.blockSizes.maximum))
        precondition(!(export.isReadOnly && (request.kind == .write || request.kind == .zero)))
      case .blockStatus(let range, _): precondition(range.fits(in: export.sizeBytes) && !range.isEmpty)
      case .refuse(_, let skipBytes): precondition(skipBytes <= Int(NBDLimits.maxSkippedPayloadBytes))
      case .leave, .disconnect: break
      }
    }
  }
}
